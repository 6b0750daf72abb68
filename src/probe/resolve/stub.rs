//! Asks one DNS server for the addresses of one name (RFC 1035): a stub resolver, for checks that
//! name their own.
//!
//! It is this small because it leaves all work to the server it asks: no cache, no search domains,
//! no walk from the root. A question goes out from a socket of its own, on a port the kernel
//! chooses, under a number of its own; answers to anything else are passed over, so that whoever
//! cannot see the question cannot answer it. An answer that does not fit into a datagram is asked
//! for again by TCP. Aliases (CNAME) are followed within the answer, as the server that we ask must
//! have done (RFC 1034, 5.3.1).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    time::Duration,
};

use futures_util::future::{self, Either};
use hickory_proto::{
    op::{Edns, Message, MessageType, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout_at},
};

use super::names::{Extent, Found, Miss};
use crate::probe::dial::Family;

/// How long a datagram is waited for before it is sent again, at first; twice as long each time.
const PATIENCE: Duration = Duration::from_millis(400);

/// How often a question is sent: with the pauses between, the last goes out after 2.8 s.
const TRIES: u32 = 4;

/// The largest datagram that is not likely to be cut into pieces on its way (DNS flag day 2020).
const MAX_DATAGRAM: u16 = 1232;

/// How many aliases are followed; more than any name has on purpose.
const MAX_ALIASES: usize = 16;

/// How long the other family is waited for when one has answered. RFC 8305 has 50 ms, for people
/// who wait; here a family that comes late would be left out of what is probed.
const OTHER_FAMILY: Duration = Duration::from_millis(250);

/// The addresses of a name, as the server at `at` knows them. IPv6 and IPv4 take turns, IPv6 first
/// (RFC 8305, 4). Takes a few seconds where the server is silent.
pub(super) async fn ask(
    at: SocketAddr,
    name: &str,
    family: Family,
    extent: Extent,
) -> Result<Found, Miss> {
    let fqdn = Name::from_ascii(format!("{}.", name.trim_end_matches('.')))
        .map_err(|error| Miss::Absent(format!("`{name}` is not a DNS name: {error}")))?;
    let ask = async |kind| {
        let query = Query::query(fqdn.clone(), kind);
        let answer = exchange(at, query.clone()).await.map_err(|error| {
            Miss::Unknown(format!("cannot resolve `{name}`: the resolver {at}: {error}"))
        })?;
        addresses(&query, &answer).map_err(|error| error.at(name, at))
    };
    match (family, extent) {
        (Family::Ipv4, _) => ask(RecordType::A).await.map(whole),
        (Family::Ipv6, _) => ask(RecordType::AAAA).await.map(whole),
        (Family::Any | Family::PreferIpv4 | Family::PreferIpv6, Extent::Some) => {
            either(ask(RecordType::AAAA), ask(RecordType::A)).await
        }
        (Family::Any | Family::PreferIpv4 | Family::PreferIpv6, Extent::All) => {
            both(ask(RecordType::AAAA), ask(RecordType::A)).await
        }
    }
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wrong {
    /// The name does not exist, or has no address of this kind, for this reason.
    Absent(&'static str),
    /// The server could not say.
    Code(ResponseCode),
}

impl Wrong {
    fn at(&self, name: &str, at: SocketAddr) -> Miss {
        match self {
            Self::Absent(why) => Miss::Absent(format!("`{name}` {why}, says the resolver {at}")),
            Self::Code(code) => {
                let said = u16::from(*code);
                Miss::Unknown(format!(
                    "cannot resolve `{name}`: the resolver {at} says {code} ({said})"
                ))
            }
        }
    }
}

fn whole(ips: Vec<IpAddr>) -> Found {
    Found { ips, is_whole: true }
}

/// What two questions find together. One that has found something does not wait long for the other.
async fn either(
    v6: impl Future<Output = Result<Vec<IpAddr>, Miss>>,
    v4: impl Future<Output = Result<Vec<IpAddr>, Miss>>,
) -> Result<Found, Miss> {
    let late = || Err(Miss::Unknown(String::new()));
    let until = || Instant::now() + OTHER_FAMILY;
    let (v6, v4) = match future::select(pin!(v6), pin!(v4)).await {
        Either::Left((Ok(v6), v4)) => {
            (Ok(v6), timeout_at(until(), v4).await.unwrap_or_else(|_| late()))
        }
        Either::Left((v6, v4)) => (v6, v4.await),
        Either::Right((Ok(v4), v6)) => {
            (timeout_at(until(), v6).await.unwrap_or_else(|_| late()), Ok(v4))
        }
        Either::Right((v4, v6)) => (v6.await, v4),
    };
    match (v6, v4) {
        (Ok(ips), Err(Miss::Unknown(_))) | (Err(Miss::Unknown(_)), Ok(ips)) => {
            Ok(Found { ips, is_whole: false })
        }
        (v6, v4) => together(v6, v4),
    }
}

/// What two questions find together, if it is known of both.
async fn both(
    v6: impl Future<Output = Result<Vec<IpAddr>, Miss>>,
    v4: impl Future<Output = Result<Vec<IpAddr>, Miss>>,
) -> Result<Found, Miss> {
    let (v6, v4) = future::join(v6, v4).await;
    together(v6, v4)
}

fn together(v6: Result<Vec<IpAddr>, Miss>, v4: Result<Vec<IpAddr>, Miss>) -> Result<Found, Miss> {
    match (v6, v4) {
        (Ok(v6), Ok(v4)) => Ok(whole(alternate(v6, v4))),
        // What one server does not know of one family may be the only one there is.
        (Err(Miss::Unknown(said)), _) | (_, Err(Miss::Unknown(said))) => Err(Miss::Unknown(said)),
        (Ok(ips), Err(Miss::Absent(_))) | (Err(Miss::Absent(_)), Ok(ips)) => Ok(whole(ips)),
        (Err(Miss::Absent(_)), Err(Miss::Absent(said))) => Err(Miss::Absent(said)),
    }
}

fn alternate(first: Vec<IpAddr>, second: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut all = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        match (first.next(), second.next()) {
            (None, None) => return all,
            (a, b) => all.extend(a.into_iter().chain(b)),
        }
    }
}

/// One question and its answer: by UDP, and by TCP if there was not room for it.
async fn exchange(at: SocketAddr, query: Query) -> io::Result<Message> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(query);
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_DATAGRAM);
    question.set_edns(edns);
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let answer = by_udp(at, &question, &bytes).await?;
    if answer.metadata.truncation { by_tcp(at, &question, &bytes).await } else { Ok(answer) }
}

async fn by_udp(at: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any = match at {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(at).await?;
    let mut buffer = vec![0; usize::from(MAX_DATAGRAM)];
    for attempt in 0..TRIES {
        socket.send(bytes).await?;
        let until = Instant::now() + PATIENCE * 2_u32.pow(attempt);
        while let Ok(read) = timeout_at(until, socket.recv(&mut buffer)).await {
            if let Some(answer) = answer_to(question, &buffer[..read?]) {
                return Ok(answer);
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))
}

async fn by_tcp(at: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let until = Instant::now() + PATIENCE * 2_u32.pow(TRIES);
    let exchange = async {
        let mut stream = TcpStream::connect(at).await?;
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).await?;
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).await?;
        answer_to(question, &answer)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a DNS answer"))
    };
    timeout_at(until, exchange).await.unwrap_or_else(|elapsed| Err(elapsed.into()))
}

/// The message, if it answers this question.
fn answer_to(question: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let answers = answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.metadata.op_code == question.metadata.op_code
        && answer.queries == question.queries;
    answers.then_some(answer)
}

/// The addresses in an answer, of the name asked for or of what it stands for.
fn addresses(query: &Query, answer: &Message) -> Result<Vec<IpAddr>, Wrong> {
    let code = answer.metadata.response_code;
    if code == ResponseCode::NXDomain {
        return Err(Wrong::Absent("does not exist"));
    }
    if code != ResponseCode::NoError {
        return Err(Wrong::Code(code));
    }
    let mut name = query.name();
    for _ in 0..=MAX_ALIASES {
        let of_name = || answer.answers.iter().filter(|record| record.name == *name);
        let found: Vec<_> = of_name()
            .filter(|record| record.record_type() == query.query_type())
            .filter_map(|record| record.data.ip_addr())
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let alias = of_name().find_map(|record| {
            if let RData::CNAME(alias) = &record.data { Some(&alias.0) } else { None }
        });
        match alias {
            Some(alias) => name = alias,
            None => return Err(Wrong::Absent("has no address")),
        }
    }
    Err(Wrong::Absent("is an alias that leads nowhere"))
}
