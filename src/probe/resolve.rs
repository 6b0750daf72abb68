//! From an endpoint to a connection: names to addresses, addresses to a TCP stream.
//!
//! An address literal costs nothing here. A name is resolved at every probe by the system's
//! resolver, and its addresses are tried in order, each with an equal share of the time left, so
//! that a dead first address does not eat the probe. `localhost` is never looked up: it is
//! 127.0.0.1, then `::1` (RFC 6761), also where there is no `/etc/hosts`.
//!
//! Every connection of every probe is made by `connect_address`, and every datagram goes to an
//! address of `first`; both ask the egress policy, and the very address that was judged is used:
//! there is no second look-up between.
//!
//! The deadline of the whole probe is enforced by the caller.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout_at},
};

use super::{
    endpoint::{Endpoint, Host},
    fault::{self, Fault},
    trace::Trace,
};
use crate::model::{Phase, Reason};

/// How many addresses of one name are tried.
const MAX_ADDRESSES: usize = 16;

/// How a probe ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Close {
    /// With a reset (RST): the cheapest, and nothing stays behind in the kernel. A target may log
    /// it.
    #[default]
    Reset,
    /// With a regular shutdown (FIN): the quietest for the target; leaves a socket in `TIME_WAIT`
    /// on one side for a minute.
    Fin,
}

/// When the kernel acknowledges the target's first segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acknowledge {
    /// Together with our first data, or never if the connection is reset before: saves a packet.
    Late,
    /// At once: needed where the target speaks first.
    AtOnce,
}

/// How to make a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) close: Close,
    pub(super) acknowledge: Acknowledge,
}

/// Connects to an endpoint.
pub(super) async fn connect(
    endpoint: &Endpoint,
    options: Options,
    trace: &mut Trace,
) -> Result<TcpStream, Fault> {
    match &endpoint.host {
        Host::Ip(ip) => {
            trace.enter(Phase::Connect);
            connect_address(SocketAddr::new(*ip, endpoint.port), options, trace).await
        }
        // Boxed: rare, and far larger than the rest.
        Host::Name(name) => Box::pin(connect_name(name, endpoint.port, options, trace)).await,
    }
}

/// The first address of an endpoint that the policy lets be asked, for protocols that do not connect.
pub(super) async fn first(endpoint: &Endpoint, trace: &mut Trace) -> Result<SocketAddr, Fault> {
    let addresses = match &endpoint.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, endpoint.port)],
        Host::Name(name) => {
            trace.enter(Phase::Resolve);
            // Boxed: rare, and far larger than the rest.
            Box::pin(resolve(name, endpoint.port)).await?
        }
    };
    let mut refused = Fault::new(Reason::Dns, "no address");
    for address in addresses {
        match vet(address, trace) {
            Ok(()) => return Ok(address),
            Err(fault) => refused = fault,
        }
    }
    Err(refused)
}

/// Asks the policy whether an address may be asked.
fn vet(address: SocketAddr, trace: &Trace) -> Result<(), Fault> {
    trace
        .egress
        .vet(address.ip())
        .map_err(|denied| Fault::new(Reason::Denied, format!("{denied}; {}", denied.remedy())))
}

async fn connect_name(
    name: &Arc<str>,
    port: u16,
    options: Options,
    trace: &mut Trace,
) -> Result<TcpStream, Fault> {
    trace.enter(Phase::Resolve);
    let addresses = resolve(name, port).await?;
    trace.enter(Phase::Connect);
    connect_any(&addresses, options, trace).await
}

async fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
    if name.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
        let ips = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        return Ok(ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect());
    }
    match tokio::net::lookup_host((name, port)).await {
        Ok(found) => {
            let addresses: Vec<_> = found.take(MAX_ADDRESSES).collect();
            if addresses.is_empty() {
                return Err(Fault::new(Reason::Dns, format!("`{name}` has no address")));
            }
            Ok(addresses)
        }
        Err(error) => {
            let said = format!("cannot resolve `{name}`: {error}");
            let is_ours = fault::is_shortage(&error);
            Err(if is_ours { Fault::ours(said) } else { Fault::new(Reason::Dns, said) })
        }
    }
}

/// Tries addresses in order, without those that are denied; the error is that of the last one.
async fn connect_any(
    addresses: &[SocketAddr],
    options: Options,
    trace: &mut Trace,
) -> Result<TcpStream, Fault> {
    let allowed = |address: &&SocketAddr| vet(**address, trace).is_ok();
    let open: Vec<_> = addresses.iter().filter(allowed).copied().collect();
    // If all are denied, trying them says why, and does no more.
    let addresses = if open.is_empty() { addresses } else { &open };
    let mut last = None;
    for (index, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = trace.deadline().saturating_duration_since(now);
        let tries = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let attempt =
            timeout_at(now + left / tries, connect_address(*address, options, trace)).await;
        match attempt {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(fault)) => last = Some(fault),
            Err(_elapsed) => {
                let detail = format!("no connection within {:?}", left / tries);
                last = Some(Fault::new(Reason::TimeoutConnect, detail));
            }
        }
    }
    let mut fault = last.unwrap_or_else(|| Fault::new(Reason::Dns, "no address"));
    if let [_, .., peer] = addresses {
        fault.detail = match open.len() {
            0 => format!("all {} addresses are denied; {}", addresses.len(), fault.detail),
            tried => format!("none of {tried} addresses answered; {peer}: {}", fault.detail),
        };
    }
    Err(fault)
}

/// Connects to an address if the policy lets it.
async fn connect_address(
    address: SocketAddr,
    options: Options,
    trace: &mut Trace,
) -> Result<TcpStream, Fault> {
    vet(address, trace)?;
    trace.peer = Some(address);
    open(address, options).await.map_err(|error| Fault::connect(&error))
}

async fn open(address: SocketAddr, options: Options) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if options.close == Close::Reset {
        socket.set_zero_linger()?;
    }
    #[cfg(target_os = "linux")]
    if options.acknowledge == Acknowledge::Late {
        socket2::SockRef::from(&socket).set_tcp_quickack(false)?;
    }
    let stream = socket.connect(address).await?;
    // On this very host the kernel may choose the target's own port as the source port, and then
    // connects the socket to itself although nobody listens.
    if stream.local_addr()? == address {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        model::Outcome,
        probe::{
            egress::{self, Policy},
            testing::{Deaf, closed_port},
        },
    };

    const OPTIONS: Options = Options { close: Close::Reset, acknowledge: Acknowledge::AtOnce };

    #[tokio::test]
    async fn localhost_is_found_on_either_family() {
        for ip in ["127.0.0.1", "::1"] {
            let listener = TcpListener::bind((ip, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let endpoint = Endpoint::new("localhost".parse().unwrap(), port);
            let mut trace = Trace::new(Duration::from_secs(5), Arc::default());
            connect(&endpoint, OPTIONS, &mut trace).await.unwrap();
            assert_eq!(trace.peer.map(|peer| peer.ip().to_string()).as_deref(), Some(ip));
        }
    }

    #[tokio::test]
    async fn a_dead_first_address_leaves_time_for_the_second() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let deaf = Deaf::new();
        let addresses = [deaf.address, listener.local_addr().unwrap()];
        let mut trace = Trace::new(Duration::from_millis(600), Arc::default());
        let stream = connect_any(&addresses, OPTIONS, &mut trace).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
    }

    #[tokio::test]
    async fn addresses_that_are_denied_are_left_out() {
        let tripwire = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let denied = tripwire.local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let deny = egress::Config { deny: vec!["127.0.0.2".parse().unwrap()], allow: Vec::new() };
        let policy = Arc::new(Policy::new(&deny));
        let new_trace = || Trace::new(Duration::from_secs(5), Arc::clone(&policy));
        let mut trace = new_trace();
        let addresses = [denied, listener.local_addr().unwrap()];
        let stream = connect_any(&addresses, OPTIONS, &mut trace).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        assert_eq!(trace.peer, Some(addresses[1]));

        // What is left is judged by itself; only if nothing is left the name is denied.
        for addresses in [[denied, closed_port()], [closed_port(), denied]] {
            let fault = connect_any(&addresses, OPTIONS, &mut new_trace()).await.unwrap_err();
            assert_eq!(fault.outcome, Outcome::Failure(Reason::ConnectionRefused));
        }
        let fault = connect_any(&[denied, denied], OPTIONS, &mut new_trace()).await.unwrap_err();
        assert_eq!(fault.outcome, Outcome::Failure(Reason::Denied));
        let accepted = timeout_at(Instant::now(), tripwire.accept()).await;
        assert!(accepted.is_err(), "the denied address was contacted");
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_a_dns_failure() {
        let endpoint = Endpoint::new("does-not-exist.invalid".parse().unwrap(), 80);
        let fault =
            connect(&endpoint, OPTIONS, &mut Trace::new(Duration::from_secs(5), Arc::default()))
                .await
                .unwrap_err();
        assert_eq!(fault.outcome, Outcome::Failure(Reason::Dns));
        assert!(fault.detail.contains("does-not-exist.invalid"), "{}", fault.detail);
    }
}
