//! From an endpoint to a connection: names to addresses, addresses to a TCP stream.
//!
//! An address literal costs nothing here. A name is resolved for every connection ([`names`]), and its
//! addresses are tried in order, each with an equal share of the time left, so that a dead first
//! address does not eat the probe; a family that this host has no route for is passed over at once.
//!
//! Every connection of every probe is made by `send_for`, and every datagram goes to an
//! address of `first`; both ask the egress policy, and the very address that was judged is used:
//! there is no second look-up between. No proxy is ever used, whatever the environment says.
//!
//! The deadline of the whole probe is enforced by the caller.

mod names;
mod stub;
mod system;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

pub(super) use self::names::Names;
use super::{
    dial,
    egress::Policy,
    endpoint::{Endpoint, Host},
    fault::Fault,
    trace::Trace,
};
use crate::model::{Outcome, Phase, Reason};

/// How long a connection may serve. What is done when one is made (the name looked up, the address
/// judged, the certificate checked) is so done now and then.
pub(super) const MAX_AGE: Duration = Duration::from_secs(600);

/// What all probes of one origin share to find their way: where they may go, and what names are.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) egress: Policy,
    pub(super) names: Names,
}

impl Gate {
    /// That of the API beside this one.
    pub(super) fn for_api(&self, egress: Policy) -> Self {
        Self { egress, names: self.names.for_api() }
    }
}

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

/// The first address of an endpoint that the policy lets be asked and that this host has a way to, for
/// protocols that do not connect.
pub(super) async fn first(endpoint: &Endpoint, trace: &mut Trace) -> Result<SocketAddr, Fault> {
    let ips = match &endpoint.host {
        Host::Ip(ip) => vec![*ip],
        // Boxed: rare, and far larger than the rest.
        Host::Name(name) => Box::pin(find(name, trace)).await?,
    };
    let is_only = ips.len() == 1;
    let (mut denied, mut unreachable) = (None, None);
    for ip in ips {
        let address = SocketAddr::new(ip, endpoint.port);
        match vet(ip, trace) {
            Err(fault) => denied = Some(fault),
            // What is wrong with it is then said by whoever asks it.
            Ok(()) if is_only => return Ok(address),
            Ok(()) => match reach(address, trace) {
                Ok(()) => return Ok(address),
                Err(fault) => unreachable = Some(fault),
            },
        }
    }
    Err(unreachable.or(denied).unwrap_or_else(|| Fault::new(Reason::Dns, "no address")))
}

/// Whether this host has a way to an address, from the address of ours that is asked for; sends
/// nothing.
fn reach(address: SocketAddr, trace: &Trace) -> Result<(), Fault> {
    let socket = socket(address, Type::DGRAM).map_err(|error| Fault::local(&error))?;
    if let Some(source) = trace.source() {
        bind(&socket, source, address)?;
    }
    socket.connect(&address.into()).map_err(|error| Fault::at_once(&error))
}

/// The addresses of a name, in the order to try them; the one alone that is pinned, if one is.
pub(super) async fn find(name: &Arc<str>, trace: &mut Trace) -> Result<Vec<IpAddr>, Fault> {
    if let Some((pinned, ip)) = &trace.pinned
        && pinned == name
    {
        return Ok(vec![*ip]);
    }
    trace.enter(Phase::Resolve);
    let dial = trace.dial.clone().unwrap_or_default();
    trace.gate.names.find(name, &dial, trace.deadline()).await
}

/// Asks the policy whether an address may be asked.
fn vet(ip: IpAddr, trace: &Trace) -> Result<(), Fault> {
    trace
        .gate
        .egress
        .vet(ip)
        .map_err(|denied| Fault::new(Reason::Denied, format!("{denied}; {}", denied.remedy())))
}

async fn connect_name(
    name: &Arc<str>,
    port: u16,
    options: Options,
    trace: &mut Trace,
) -> Result<TcpStream, Fault> {
    let ips = find(name, trace).await?;
    let addresses: Vec<_> = ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    trace.enter(Phase::Connect);
    connect_any(&addresses, options, trace).await
}

/// Tries addresses in order, without those that are denied; the error is that of the last one that
/// says something of the target.
async fn connect_any(
    addresses: &[SocketAddr],
    options: Options,
    trace: &mut Trace,
) -> Result<TcpStream, Fault> {
    let allowed = |address: &&SocketAddr| vet(address.ip(), trace).is_ok();
    let open: Vec<_> = addresses.iter().filter(allowed).copied().collect();
    // If all are denied, trying them says why, and does no more.
    let addresses = if open.is_empty() { addresses } else { &open };
    let mut last: Option<(SocketAddr, Fault)> = None;
    for (index, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = trace.deadline().saturating_duration_since(now);
        let tries = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let attempt =
            timeout_at(now + left / tries, connect_address(*address, options, trace)).await;
        let fault = match attempt {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(fault)) => fault,
            Err(_elapsed) => {
                let detail = format!("no connection within {:?}", left / tries);
                Fault::new(Reason::TimeoutConnect, detail)
            }
        };
        let says_nothing = matches!(fault.outcome, Outcome::Inconclusive(_));
        if last.is_none() || !says_nothing {
            last = Some((*address, fault));
        }
    }
    let Some((peer, mut fault)) = last else {
        return Err(Fault::new(Reason::Dns, "no address"));
    };
    if let [_, _, ..] = addresses {
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
    let socket = send_for(address, options, trace)?;
    finish(socket, address).await.map_err(|error| Fault::connect(&error))
}

/// Begins to connect to an address if the policy lets it. The socket is writable once the connection
/// is there, or has failed: [`settle`] tells.
pub(super) fn send_for(
    address: SocketAddr,
    options: Options,
    trace: &mut Trace,
) -> Result<Socket, Fault> {
    vet(address.ip(), trace)?;
    trace.peer = Some(address);
    let source = trace.dial.as_ref().and_then(|dial| dial.source_address);
    let socket = open(address, source, options)?;
    begin(&socket, address)?;
    Ok(socket)
}

/// A socket for a connection to `address`.
fn open(address: SocketAddr, source: Option<IpAddr>, options: Options) -> Result<Socket, Fault> {
    let socket = socket(address, Type::STREAM)
        .and_then(|socket| prepare(&socket, options).map(|()| socket))
        .map_err(|error| Fault::local(&error))?;
    if let Some(source) = source {
        bind(&socket, source, address)?;
    }
    Ok(socket)
}

/// A socket of the address's family that never blocks.
pub(super) fn socket(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    #[cfg(target_os = "linux")]
    let kind = kind.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    #[cfg(not(target_os = "linux"))]
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn prepare(socket: &Socket, options: Options) -> io::Result<()> {
    if options.close == Close::Reset {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    #[cfg(target_os = "linux")]
    if options.acknowledge == Acknowledge::Late {
        socket.set_tcp_quickack(false)?;
    }
    Ok(())
}

/// Gives a socket the address of ours that the check asks for. If we do not have it, the probe says
/// nothing of the target.
pub(super) fn bind<'s>(
    socket: impl Into<SockRef<'s>>,
    source: IpAddr,
    target: SocketAddr,
) -> Result<(), Fault> {
    if source.is_ipv4() != target.is_ipv4() {
        let (source, target) = (dial::family_of(source), dial::family_of(target.ip()));
        let detail = format!("`source_address` is of {source}, the target's address of {target}");
        return Err(Fault::ours(detail));
    }
    socket.into().bind(&SocketAddr::new(source, 0).into()).map_err(|error| {
        Fault::ours(format!("cannot connect from `source_address` {source}: {error}"))
    })
}

/// Sends for the connection. What goes wrong here at once was said by this host.
fn begin(socket: &Socket, address: SocketAddr) -> Result<(), Fault> {
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
            Err(Fault::at_once(&error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Waits for the connection.
async fn finish(socket: Socket, address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::from_std(socket.into())?;
    stream.writable().await?;
    settle(&SockRef::from(&stream), address)?;
    Ok(stream)
}

/// Says what became of a connection to `address`, now that its socket is writable.
pub(super) fn settle(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    settle_made(socket, address)
}

/// The same of a connection that is known not to have failed.
pub(super) fn settle_made(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    // On this very host the kernel may choose the target's own port as the source port, and then
    // connects the socket to itself although nobody listens.
    if is_ephemeral(address.port()) && socket.local_addr()?.as_socket() == Some(address) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(())
}

/// Asks whether a connection that was sent for is there. Costs a system call.
pub(super) fn is_made(socket: &Socket, address: SocketAddr) -> io::Result<bool> {
    let asked = socket.connect(&address.into());
    match asked.map_err(|error| (Errno::from_io_error(&error), error)) {
        Ok(()) | Err((Some(Errno::ISCONN), _)) => Ok(true),
        Err((Some(Errno::ALREADY | Errno::INPROGRESS), _)) => Ok(false),
        Err((_, error)) => Err(error),
    }
}

/// Lets a connection fail when what was sent is acknowledged by nobody for so long. Without that it
/// is as good as any other, so it does not matter if this fails.
pub(super) fn give_up_after<'s>(time: Duration, stream: impl Into<SockRef<'s>>) {
    #[cfg(target_os = "linux")]
    drop(stream.into().set_tcp_user_timeout(Some(time)));
    #[cfg(not(target_os = "linux"))]
    let _ = (time, stream);
}

/// Whether the kernel may choose this port for a socket of ours: any port if it does not say.
fn is_ephemeral(port: u16) -> bool {
    static RANGE: OnceLock<RangeInclusive<u16>> = OnceLock::new();
    RANGE.get_or_init(|| ephemeral_ports().unwrap_or(0..=u16::MAX)).contains(&port)
}

/// The ports that the kernel may choose for sockets that connect, as they are now
/// (`ip_local_port_range`, ip(7)). Nothing if it does not say.
pub(crate) fn ephemeral_ports() -> Option<RangeInclusive<u16>> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = text.split_ascii_whitespace().map(str::parse);
    Some(ends.next()?.ok()?..=ends.next()?.ok()?)
}
