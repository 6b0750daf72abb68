//! Bytes in, bytes out.

use hickory_proto::{
    op::{Edns, Message, Metadata, Query, ResponseCode},
    rr::{DNSClass, RecordType},
};

use super::{
    Directory, Zone,
    name::{self, Place},
    records::Question,
    reply::{Addressee, Reply, Room},
};

/// Bytes of a message's header.
const HEADER: usize = 12;

/// Most bytes of an answer by UDP, whatever the client says it can take: more than this is only of
/// use to somebody who wants to flood a third party.
pub(super) const MAX_UDP: u16 = 4096;

/// Most bytes of an answer by UDP to a client that does not say.
const PLAIN_UDP: usize = 512;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By UDP.
    Udp,
    /// By TCP.
    Tcp,
}

impl Transport {
    /// The word of the metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// A query as it came.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Its bytes.
    pub query: &'a [u8],
    /// How it came.
    pub transport: Transport,
    /// Chance: what the order of instances depends on.
    pub seed: u64,
    /// The wall clock in seconds.
    pub now: u32,
}

/// An answer to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Its bytes.
    pub message: Vec<u8>,
    /// The type asked for, a word such as `A`, or `other`.
    pub query_type: &'static str,
    /// The code, a word such as `NOERROR`.
    pub code: &'static str,
}

/// The types that are told apart when queries are counted.
const QUERY_TYPES: &[&str] = &["A", "AAAA", "SRV", "TXT", "ANY", "SOA", "NS", "PTR", "other"];

/// The words for the codes of answers.
const CODES: &[(ResponseCode, &str)] = &[
    (ResponseCode::NoError, "NOERROR"),
    (ResponseCode::FormErr, "FORMERR"),
    (ResponseCode::ServFail, "SERVFAIL"),
    (ResponseCode::NXDomain, "NXDOMAIN"),
    (ResponseCode::NotImp, "NOTIMP"),
    (ResponseCode::Refused, "REFUSED"),
    (ResponseCode::BADVERS, "BADVERS"),
];

/// Answers a query. None if it cannot be answered, or must not be: what is too short to be a query
/// or is itself an answer.
pub fn answer(zone: &Zone, directory: &dyn Directory, asking: Asking<'_>) -> Option<Answered> {
    let header: &[u8; HEADER] = asking.query.first_chunk()?;
    let [_, _, flags, _, questions @ ..] = header;
    let is_answer = flags & 0x80 != 0;
    if is_answer {
        return None;
    }
    if flags & 0x78 != 0 {
        return Some(refuse(header, ResponseCode::NotImp));
    }
    // Looked at before anything is read: the reader makes room for as many as are announced.
    if questions[..2] != [0, 1] {
        return Some(refuse(header, ResponseCode::FormErr));
    }
    let Ok(message) = Message::from_vec(asking.query) else {
        return Some(refuse(header, ResponseCode::FormErr));
    };
    let [query] = message.queries.as_slice() else {
        return Some(refuse(header, ResponseCode::FormErr));
    };
    let reply = reply(zone, directory, &message, query, asking);
    let room = room(zone, &message, asking.transport);
    let metadata = Metadata::response_from_request(&message.metadata);
    let to = Addressee { metadata, query, edns: message.edns.as_ref().map(echo) };
    match reply.fit(&to, room) {
        Some(message) => {
            let query_type = type_word(query.query_type());
            Some(Answered { message, query_type, code: code_word(reply.code) })
        }
        None => Some(refuse(header, ResponseCode::ServFail)),
    }
}

/// A header with a code and nothing else.
fn refuse(header: &[u8; HEADER], code: ResponseCode) -> Answered {
    let mut message = vec![0; HEADER];
    message[..2].copy_from_slice(&header[..2]);
    // An answer to this kind of query; recursion as desired as it was.
    message[2] = 0x80 | header[2] & 0x79;
    message[3] = code.low();
    Answered { message, query_type: "other", code: code_word(code) }
}

fn reply(
    zone: &Zone,
    directory: &dyn Directory,
    message: &Message,
    query: &Query,
    asking: Asking<'_>,
) -> Reply {
    if message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return Reply::code(ResponseCode::BADVERS);
    }
    if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
        return Reply::code(ResponseCode::NotImp);
    }
    if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
        return Reply::code(ResponseCode::Refused);
    }
    let question = |domain| Question {
        zone,
        directory,
        name: query.name(),
        kind: query.query_type(),
        domain,
        serial: asking.now,
    };
    match name::place(zone, query.name()) {
        Place::Zone(domain, asked) => {
            question(domain).answer(asked, |instances| shuffle(instances, asking.seed))
        }
        Place::Reverse(above, Some(address)) => question(zone.domain()).reverse(&above, address),
        Place::Reverse(above, None) => {
            Reply::none(ResponseCode::NoError, question(zone.domain()).soa(&above))
        }
        Place::Elsewhere => Reply::code(ResponseCode::Refused),
    }
}

/// How much the client can take.
fn room(zone: &Zone, message: &Message, transport: Transport) -> Room {
    match (transport, &message.edns) {
        (Transport::Tcp, _) => Room { bytes: usize::from(u16::MAX), answers: usize::MAX },
        (Transport::Udp, Some(edns)) => {
            let bytes = usize::from(edns.max_payload().min(MAX_UDP)).max(PLAIN_UDP);
            Room { bytes, answers: usize::MAX }
        }
        (Transport::Udp, None) => {
            let answers = usize::from(zone.config().udp_answer_limit);
            Room { bytes: PLAIN_UDP, answers }
        }
    }
}

/// What we say of ourselves to a client that speaks of itself.
fn echo(theirs: &Edns) -> Edns {
    let mut ours = Edns::new();
    ours.set_max_payload(MAX_UDP).set_dnssec_ok(theirs.flags().dnssec_ok);
    ours
}

/// Puts items in an order that the seed alone decides; every order is as likely.
fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for end in (1..items.len()).rev() {
        seed = next(seed);
        let choices = u64::try_from(end + 1).unwrap_or(u64::MAX);
        let at = usize::try_from(mix(seed) % choices).unwrap_or(0);
        items.swap(at, end);
    }
}

/// The seed after this one.
pub(super) const fn next(seed: u64) -> u64 {
    seed.wrapping_add(0x9e37_79b9_7f4a_7c15)
}

/// The output function of `SplitMix64` (Steele, Lea and Flood, 2014).
pub(super) const fn mix(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn type_word(kind: RecordType) -> &'static str {
    let word = <&str>::from(kind);
    QUERY_TYPES.iter().find(|known| **known == word).unwrap_or(&"other")
}

fn code_word(code: ResponseCode) -> &'static str {
    CODES.iter().find(|(known, _)| *known == code).map_or("SERVFAIL", |(_, word)| word)
}
