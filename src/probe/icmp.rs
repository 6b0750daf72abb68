//! The ICMP probe: echo requests (ping); success is that enough of them are answered.
//!
//! An answer is one only if it comes from the address that was asked, has the request's identifier
//! and number, and repeats its payload, which begins with bytes that nobody can know beforehand.
//!
//! The kernel lets a process ping without further rights if one of its groups is within
//! `net.ipv4.ping_group_range`; the kernel then chooses the identifier, and takes answers to others
//! away. Where that is not allowed, a raw socket is tried, which needs `CAP_NET_RAW` and sees all
//! ICMP that comes from the target. If neither is allowed, nothing is learnt of the target.
//!
//! What routers answer instead of the target (host unreachable, time exceeded) the kernel tells a
//! socket only in part: most of it is seen as silence, and is `timeout_response`.
//!
//! Of a name with several addresses the first is asked: silence is no reason to try the next.

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroU8,
};

use ::url::Url;
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use super::{
    PrepareError,
    endpoint::Endpoint,
    fault::Fault,
    nonce::nonce,
    resolve,
    trace::Trace,
    udp,
    url::{self, UrlError},
};
use crate::{
    duration::Period,
    model::{Outcome, Phase, Reason},
};

/// Most requests of one probe.
const MAX_COUNT: u8 = 16;

/// The longest time between two requests; no probe is of use that takes much longer.
const MAX_INTERVAL: Period = Period::from_secs(60);

/// Bytes of a message before its payload (RFC 792, RFC 4443).
const HEADER: usize = 8;

/// The longest header of an IPv4 packet (RFC 791).
const MAX_IP_HEADER: usize = 60;

/// Bytes of the payload that are chance.
const TOKEN: u16 = 8;

/// Most bytes of payload that fit into an IPv4 packet.
const MAX_PAYLOAD: u16 = 65_507;

/// An ICMP check: echo requests (ping), by IPv4 or IPv6 as the address is. The instance's port does
/// not matter. The daemon needs a group within the sysctl `net.ipv4.ping_group_range`, as most have it
/// where all groups may ping, or `CAP_NET_RAW`; without either the check is never judged.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Icmp")]
pub struct Spec {
    /// How many requests to send, 1 to 16; it ends as soon as enough are answered. Default: 1.
    pub count: u8,
    /// How many of them may be lost; fewer than `count`. Default: 0.
    pub may_lose: u8,
    /// From one request to the next, at most 1m; all of them must have time within the timeout.
    /// Default: 100ms.
    pub interval: Period,
    /// Bytes of payload, 8 to 65507; 1472 fill an Ethernet packet of IPv4, 1452 one of IPv6.
    /// Default: 32.
    pub payload_size: u16,
    /// Over how many hops a request may go, as the packet's TTL or hop limit. Default: the system's,
    /// mostly 64.
    pub ttl: Option<NonZeroU8>,
    /// Whether no router may cut a request into pieces, so that one that is too large for the path
    /// is lost or refused; on Linux. Default: false.
    pub dont_fragment: bool,
}

/// An ICMP check made ready.
#[derive(Debug, PartialEq)]
pub(super) struct Probe {
    spec: Spec,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            count: 1,
            may_lose: 0,
            interval: Period::from_millis(100),
            payload_size: 32,
            ttl: None,
            dont_fragment: false,
        }
    }
}

impl Spec {
    /// What `icmp://host` asks.
    pub(super) fn of_url(url: &Url) -> Result<(Self, Endpoint), UrlError> {
        if !matches!(url.path(), "" | "/") {
            return Err(UrlError::Path);
        }
        if url.port().is_some() {
            let rule = "ICMP has no ports; write for example icmp://10.0.0.1";
            return Err(UrlError::Part(rule.to_owned()));
        }
        Ok((Self::default(), Endpoint::new(url::host(url)?, 0)))
    }

    /// How many answers are enough.
    fn needed(&self) -> u8 {
        self.count - self.may_lose
    }
}

impl Probe {
    pub(super) fn prepare(spec: &Spec) -> Result<Self, PrepareError> {
        let conflict = |text| Err(PrepareError::Conflict(text));
        if !(1..=MAX_COUNT).contains(&spec.count) {
            return conflict("`count` is from 1 to 16");
        }
        if spec.may_lose >= spec.count {
            return conflict("`may_lose` must be less than `count`");
        }
        if spec.interval > MAX_INTERVAL {
            return conflict("`interval` is at most 1m");
        }
        if !(TOKEN..=MAX_PAYLOAD).contains(&spec.payload_size) {
            return conflict("`payload_size` is from 8 to 65507");
        }
        Ok(Self { spec: spec.clone() })
    }

    pub(super) fn spec(&self) -> &Spec {
        &self.spec
    }
}

/// Sends requests, and listens until enough of them are answered.
pub(super) async fn probe(
    Probe { spec }: &Probe,
    endpoint: &Endpoint,
    trace: &mut Trace,
) -> Result<(), Fault> {
    let address = SocketAddr::new(resolve::first(endpoint, trace).await?.ip(), 0);
    trace.peer = Some(address);
    let pinger = Pinger::open(spec, address, trace.source())?;
    trace.enter(Phase::Exchange);
    let started = Instant::now();
    let end = udp::silent_after(started, trace.deadline());
    let (mut sent, mut answered) = (0, Answered::default());
    while answered.count() < spec.needed() {
        let next = started + spec.interval.get() * u32::from(sent);
        let is_next = sent < spec.count;
        if is_next && next <= Instant::now() {
            pinger.send(spec, sent).await?;
            sent += 1;
            continue;
        }
        let until = if is_next { next.min(end) } else { end };
        trace.buffer.clear();
        let received = timeout_at(until, udp::receive(&pinger.socket, pinger.room(), trace)).await;
        match received {
            Ok(result) => {
                result.map_err(told_by_others)?;
                answered.add(pinger.number(&trace.buffer).filter(|number| *number < sent));
            }
            Err(_elapsed) if until < end => {}
            Err(_elapsed) => return Err(lost(spec, answered, trace)),
        }
    }
    Ok(())
}

/// There are no connections that could be refused: what the kernel takes for that is a router or a
/// host that says by ICMP that the target cannot be had.
fn told_by_others(fault: Fault) -> Fault {
    match fault.outcome {
        Outcome::Failure(Reason::ConnectionRefused) => {
            Fault::new(Reason::Unreachable, "told by ICMP that it cannot be reached")
        }
        Outcome::Success | Outcome::Warning(_) | Outcome::Failure(_) | Outcome::Inconclusive(_) => {
            fault
        }
    }
}

fn lost(spec: &Spec, answered: Answered, trace: &Trace) -> Fault {
    let within = trace.timeout();
    let detail = match (answered.count(), spec.count) {
        (0, 1) => format!("no answer within {within:?}"),
        (answered, count) => {
            let needed = spec.needed();
            format!("{answered} of {count} requests answered within {within:?}, expected {needed}")
        }
    };
    Fault::new(Reason::TimeoutResponse, detail)
}

/// Which requests were answered, a bit for each; twice is once.
#[derive(Debug, Clone, Copy, Default)]
struct Answered(u16);

impl Answered {
    fn add(&mut self, number: Option<u8>) {
        self.0 |= number.map_or(0, |number| 1 << number);
    }

    fn count(self) -> u8 {
        u8::try_from(self.0.count_ones()).unwrap_or(u8::MAX)
    }
}

/// The two protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// What a socket lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    /// Answers to its own identifier, which the kernel has chosen.
    Ping,
    /// All ICMP from the target; with IPv4 the packet's header as well.
    Raw,
}

impl Family {
    /// The types of a request and of its answer.
    fn kinds(self) -> (u8, u8) {
        match self {
            Self::V4 => (8, 0),
            Self::V6 => (128, 129),
        }
    }
}

/// A socket to one address, and what makes its requests its own.
#[derive(Debug)]
struct Pinger {
    socket: UdpSocket,
    family: Family,
    rights: Rights,
    identifier: [u8; 2],
    payload: Vec<u8>,
}

impl Pinger {
    fn open(spec: &Spec, address: SocketAddr, source: Option<IpAddr>) -> Result<Self, Fault> {
        let family = match address.ip() {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        };
        let (socket, rights) = allowed(family)?;
        if let Some(source) = source {
            resolve::bind(&socket, source, address)?;
        }
        let socket =
            connect(spec, socket, family, address).map_err(|error| Fault::at_once(&error))?;
        let token = nonce().to_be_bytes();
        let [.., high, low] = nonce().to_be_bytes();
        let filler = (0..=u8::MAX).cycle();
        let payload = token.into_iter().chain(filler).take(usize::from(spec.payload_size));
        let identifier = [high, low];
        Ok(Self { socket, family, rights, identifier, payload: payload.collect() })
    }

    /// Room for the largest packet that can be an answer.
    fn room(&self) -> usize {
        MAX_IP_HEADER + HEADER + self.payload.len()
    }

    async fn send(&self, spec: &Spec, number: u8) -> Result<(), Fault> {
        match self.socket.send(&self.request(number)).await {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => {
                let size = spec.payload_size;
                let detail = format!("a payload of {size} bytes is too large for the path");
                Err(Fault::new(Reason::Unreachable, detail))
            }
            Err(error) => Err(told_by_others(Fault::exchange(&error))),
        }
    }

    fn request(&self, number: u8) -> Vec<u8> {
        let (kind, _) = self.family.kinds();
        let [high, low] = self.identifier;
        let mut message = [&[kind, 0, 0, 0, high, low, 0, number], &self.payload[..]].concat();
        // With IPv6 the addresses are summed up as well, and the kernel does it.
        if self.family == Family::V4 {
            let sum = checksum(&message).to_be_bytes();
            message[2..4].copy_from_slice(&sum);
        }
        message
    }

    /// The number of the request that a packet answers; nothing if it answers none of ours.
    fn number(&self, packet: &[u8]) -> Option<u8> {
        let message = match (self.rights, self.family) {
            (Rights::Raw, Family::V4) => packet.get(usize::from(packet.first()? & 0x0f) * 4..)?,
            (Rights::Raw, Family::V6) | (Rights::Ping, _) => packet,
        };
        let ([kind, code, _, _, id @ .., zero, number], payload) =
            message.split_first_chunk::<HEADER>()?;
        let (_, reply) = self.family.kinds();
        let is_ours = match self.rights {
            Rights::Raw => *id == self.identifier,
            Rights::Ping => true,
        };
        let fits = (*kind, *code, *zero) == (reply, 0, 0) && payload == self.payload;
        (is_ours && fits).then_some(*number)
    }
}

/// Why whoever runs this may not ping, if so.
pub(super) fn obstacle() -> Option<String> {
    allowed(Family::V4).err().map(|fault| fault.detail)
}

/// A socket for ICMP with the least rights that are needed.
fn allowed(family: Family) -> Result<(Socket, Rights), Fault> {
    let (domain, protocol) = match family {
        Family::V4 => (Domain::IPV4, socket2::Protocol::ICMPV4),
        Family::V6 => (Domain::IPV6, socket2::Protocol::ICMPV6),
    };
    for (kind, rights) in [(Type::DGRAM, Rights::Ping), (Type::RAW, Rights::Raw)] {
        match Socket::new(domain, kind, Some(protocol)) {
            Ok(socket) => return Ok((socket, rights)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(Fault::ours(format!("no socket for ICMP: {error}"))),
        }
    }
    Err(Fault::ours(
        "this daemon may not ping: let net.ipv4.ping_group_range hold its group, or give it \
         CAP_NET_RAW",
    ))
}

/// Points a socket at its target, so that it takes packets from nowhere else.
fn connect(
    spec: &Spec,
    socket: Socket,
    family: Family,
    address: SocketAddr,
) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    match (spec.ttl.map(|ttl| u32::from(ttl.get())), family) {
        (Some(ttl), Family::V4) => socket.set_ttl_v4(ttl)?,
        (Some(ttl), Family::V6) => socket.set_unicast_hops_v6(ttl)?,
        (None, _) => {}
    }
    #[cfg(target_os = "linux")]
    if spec.dont_fragment {
        use rustix::net::sockopt;
        match family {
            Family::V4 => {
                sockopt::set_ip_mtu_discover(&socket, sockopt::Ipv4PathMtuDiscovery::DO)?;
            }
            Family::V6 => {
                sockopt::set_ipv6_mtu_discover(&socket, sockopt::Ipv6PathMtuDiscovery::DO)?;
            }
        }
    }
    socket.connect(&address.into())?;
    // Not one, but all that is used of it is the same.
    UdpSocket::from_std(socket.into())
}

/// The sum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| {
        let low = word.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([word[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum > u32::from(u16::MAX) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}
