//! The DNS probe: one question to the server that is probed; success is an answer with a code, flags
//! and records as expected.
//!
//! A question goes out by UDP, once, and again by TCP where the answer says that it was cut off
//! (RFC 1035, 4.2; RFC 7766, 5), or by TCP at once if so configured. It carries no EDNS, which not
//! every server takes, so answers by UDP are of 512 bytes at most.
//!
//! An answer is one only if it comes from the address that was asked, repeats the question's number,
//! which is chance, and the question itself. Datagrams with another number are passed over, since
//! anybody can send them; all else that breaks the protocol is `protocol`. A code that is not
//! expected is `status`, a flag that is missing `header`, and records that are not as expected are
//! `body`. What the answer announces is compared with its length before room is made for it.

mod verdict;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use ::url::Url;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RecordType},
};
use serde::{Deserialize, de::IntoDeserializer};
use tokio::io::AsyncWriteExt;

use super::{
    PrepareError,
    endpoint::{Endpoint, Host},
    fault::Fault,
    nonce::nonce,
    pattern::Pattern,
    resolve::{self, Acknowledge, Close},
    trace::Trace,
    udp,
    url::{self, UrlError},
};
use crate::model::{Phase, Reason};

/// The port where a URL names none (RFC 1035, 4.2).
const PORT: u16 = 53;

/// Bytes of a message's header.
const HEADER: usize = 12;

/// Room for an answer by UDP; without EDNS at most 512 bytes are allowed.
const ROOM: usize = 4096;

/// Most datagrams that are passed over for the sake of one answer.
const MAX_STRAYS: usize = 64;

/// No record takes less: a name of one byte, type, class, time to live and length.
const SMALLEST_RECORD: usize = 11;

/// No question takes less: a name of one byte, type and class.
const SMALLEST_QUESTION: usize = 5;

/// The flag of an answer, in the header's third byte.
const ANSWER: u8 = 0x80;

/// The flag of an answer that was cut off, in the same byte.
const TRUNCATED: u8 = 0x02;

/// A DNS check: the instance is a server, and is asked one question.
#[derive(Debug, Clone, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DnsQuery")]
pub struct Spec {
    /// The name to ask for, always taken as complete: `example.org`, or `.` for the root. Required.
    pub name: QueryName,
    /// The type of records to ask for. Default: `A`.
    #[serde(default, rename = "type")]
    pub kind: QueryType,
    /// How to ask: by `udp`, and by TCP where the answer says that it was cut off, or by `tcp` at
    /// once. Default: `udp`.
    #[serde(default)]
    pub transport: Transport,
    /// Whether the server is to ask others for what it does not know itself. Default: true.
    #[serde(default = "yes")]
    pub recursion_desired: bool,
    /// The codes that mean success. Default: `[NOERROR]`.
    #[serde(default = "no_error")]
    pub expected_rcodes: Vec<Rcode>,
    /// How many records of the type asked for there must be at least; aliases (CNAME) on the way to
    /// them do not count. Default: 1 in an answer with NOERROR, 0 in any other.
    #[serde(default)]
    pub min_answers: Option<u16>,
    /// What the records of the type asked for must be, all of them and no other, in any order:
    /// their data as in a zone file, `10.0.0.1` or `10 mail.example.org`, in any case. The strings of
    /// a text (TXT) are in quotes with blanks between, as `"v=spf1 -all"`, or without quotes and joined,
    /// as `v=spf1 -all`. Default: not looked at.
    #[serde(default)]
    pub expected_answers: Vec<String>,
    /// Regular expression that the data of at least one record of the type asked for must match
    /// somewhere, written as in a zone file; of a text (TXT) also what is without quotes and joined.
    /// Default: none.
    #[serde(default)]
    pub answer_matches: Option<Pattern>,
    /// Whether the server must answer as one that is responsible for the name (flag AA), and not
    /// from its cache. Default: false.
    #[serde(default)]
    pub require_authoritative: bool,
    /// Whether the server must say that it has verified the records by DNSSEC (flag AD). Default:
    /// false.
    #[serde(default)]
    pub require_authentic: bool,
}

/// A name to ask for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct QueryName(Name);

/// A text that is not a [`QueryName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name to ask for; write for example example.org, or `.` for the root")]
pub struct QueryNameError(String);

/// A type of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum QueryType {
    /// IPv4 addresses.
    #[default]
    A,
    /// IPv6 addresses.
    Aaaa,
    /// All that the server cares to give (RFC 8482).
    Any,
    /// Who may issue certificates.
    Caa,
    /// An alias.
    Cname,
    /// How to reach a web server.
    Https,
    /// Mail servers.
    Mx,
    /// Rules of rewriting.
    Naptr,
    /// Name servers.
    Ns,
    /// A name of an address.
    Ptr,
    /// The zone's own record.
    Soa,
    /// Hosts and ports of a service.
    Srv,
    /// How to reach a service.
    Svcb,
    /// Texts.
    Txt,
}

/// How to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Transport {
    /// By UDP, and by TCP if the answer was cut off.
    #[default]
    Udp,
    /// By TCP.
    Tcp,
}

/// The code of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum Rcode {
    /// No error; perhaps no record either.
    NoError,
    /// The server cannot read the question.
    FormErr,
    /// The server has failed.
    ServFail,
    /// The name does not exist.
    NxDomain,
    /// The server does not know this kind of question.
    NotImp,
    /// The server does not want to answer.
    Refused,
    /// The server is not responsible.
    NotAuth,
}

/// A DNS check made ready.
#[derive(Debug, PartialEq)]
pub(super) struct Probe {
    spec: Spec,
}

fn yes() -> bool {
    true
}

fn no_error() -> Vec<Rcode> {
    vec![Rcode::NoError]
}

impl QueryType {
    const fn record_type(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Any => RecordType::ANY,
            Self::Caa => RecordType::CAA,
            Self::Cname => RecordType::CNAME,
            Self::Https => RecordType::HTTPS,
            Self::Mx => RecordType::MX,
            Self::Naptr => RecordType::NAPTR,
            Self::Ns => RecordType::NS,
            Self::Ptr => RecordType::PTR,
            Self::Soa => RecordType::SOA,
            Self::Srv => RecordType::SRV,
            Self::Svcb => RecordType::SVCB,
            Self::Txt => RecordType::TXT,
        }
    }
}

impl TryFrom<String> for QueryName {
    type Error = QueryNameError;

    fn try_from(text: String) -> Result<Self, QueryNameError> {
        // As ASCII: a name in another alphabet is written in its own spelling (`xn--...`).
        let name = Some(&text).filter(|text| !text.is_empty()).map(Name::from_ascii);
        let Some(Ok(mut name)) = name else {
            return Err(QueryNameError(text.chars().take(64).collect()));
        };
        name.set_fqdn(true);
        Ok(Self(name))
    }
}

impl Spec {
    /// One that asks for addresses of a name.
    fn of_name(name: QueryName) -> Self {
        Self {
            name,
            kind: QueryType::default(),
            transport: Transport::default(),
            recursion_desired: true,
            expected_rcodes: no_error(),
            min_answers: None,
            expected_answers: Vec::new(),
            answer_matches: None,
            require_authoritative: false,
            require_authentic: false,
        }
    }

    /// What `dns://server/name?type=A&transport=tcp` asks.
    pub(super) fn of_url(url: &Url) -> Result<(Self, Endpoint), UrlError> {
        let part = |text: String| UrlError::Part(text);
        let name = url.path().trim_start_matches('/').to_owned();
        let name = QueryName::try_from(name).map_err(|error| part(error.to_string()))?;
        let mut spec = Self::of_name(name);
        for (key, value) in url.query_pairs() {
            let text = value.as_ref().into_deserializer();
            let bad = |error: serde::de::value::Error| part(format!("`{key}`: {error}"));
            match key.as_ref() {
                "type" => spec.kind = QueryType::deserialize(text).map_err(bad)?,
                "transport" => spec.transport = Transport::deserialize(text).map_err(bad)?,
                other => {
                    let rule = "a URL of DNS takes `type` and `transport`, as in \
                                dns://10.0.0.53/example.org?type=MX";
                    return Err(part(format!("`{other}` is not known; {rule}")));
                }
            }
        }
        Ok((spec, url::endpoint_or(url, PORT)?))
    }

    /// What is asked of whom, for people.
    pub(super) fn url(&self, server: &Endpoint) -> String {
        let name = &self.name.0;
        format!("{server}/{name}?type={}", self.kind.record_type())
    }
}

impl Probe {
    pub(super) fn prepare(spec: &Spec) -> Result<Self, PrepareError> {
        if spec.expected_rcodes.is_empty() {
            return Err(PrepareError::Conflict("`expected_rcodes` names no code"));
        }
        Ok(Self { spec: spec.clone() })
    }

    pub(super) fn spec(&self) -> &Spec {
        &self.spec
    }
}

/// Asks, and judges the answer.
pub(super) async fn probe(
    Probe { spec }: &Probe,
    endpoint: &Endpoint,
    trace: &mut Trace,
) -> Result<(), Fault> {
    let question = Question::new(spec);
    let bytes = question.bytes()?;
    let answer = match spec.transport {
        Transport::Tcp => by_tcp(&question, &bytes, endpoint, trace).await?,
        Transport::Udp => {
            let address = resolve::first(endpoint, trace).await?;
            if let Some(answer) = by_udp(&question, &bytes, address, trace).await? {
                answer
            } else {
                let same = Endpoint::new(Host::Ip(address.ip()), address.port());
                by_tcp(&question, &bytes, &same, trace).await?
            }
        }
    };
    verdict::judge(spec, &answer)
}

/// The answer, or nothing if it was cut off.
async fn by_udp(
    question: &Question<'_>,
    bytes: &[u8],
    address: SocketAddr,
    trace: &mut Trace,
) -> Result<Option<Message>, Fault> {
    trace.peer = Some(address);
    trace.enter(Phase::Exchange);
    let socket = udp::open(address, trace.source())?;
    socket.send(bytes).await.map_err(|error| Fault::exchange(&error))?;
    for _ in 0..MAX_STRAYS {
        trace.buffer.clear();
        udp::receive(&socket, ROOM, trace).await?;
        match question.read(&trace.buffer)? {
            Read::Stray => {}
            Read::Cut => return Ok(None),
            Read::Whole(answer) => return Ok(Some(answer)),
        }
    }
    Err(protocol(format!("{MAX_STRAYS} datagrams, none of them an answer to the question")))
}

async fn by_tcp(
    question: &Question<'_>,
    bytes: &[u8],
    endpoint: &Endpoint,
    trace: &mut Trace,
) -> Result<Message, Fault> {
    /// Bytes of the length that goes before a message.
    const PREFIX: usize = 2;
    let options = resolve::Options { close: Close::Reset, acknowledge: Acknowledge::Late };
    let mut stream = resolve::connect(endpoint, options, trace).await?;
    trace.enter(Phase::Exchange);
    let length = u16::try_from(bytes.len()).map_err(|error| Fault::ours(error.to_string()))?;
    let message = [&length.to_be_bytes(), bytes].concat();
    stream.write_all(&message).await.map_err(|error| Fault::exchange(&error))?;
    trace.buffer.clear();
    loop {
        if let Some((length, message)) = trace.buffer.split_first_chunk::<PREFIX>()
            && let Some(message) = message.get(..usize::from(u16::from_be_bytes(*length)))
        {
            return match question.read(message)? {
                Read::Whole(answer) => Ok(answer),
                Read::Stray => Err(protocol("the answer is to another question")),
                Read::Cut => Err(protocol("the answer by TCP says that it was cut off")),
            };
        }
        if trace.fill(&mut stream).await? == 0 {
            let read = trace.buffer.len();
            let detail = match read {
                0 => "the server closed the connection without an answer".to_owned(),
                read => format!("the server closed the connection {read} bytes into the answer"),
            };
            return Err(Fault::new(Reason::ConnectionReset, detail));
        }
    }
}

fn protocol(detail: impl Into<String>) -> Fault {
    Fault::new(Reason::Protocol, detail)
}

/// What is asked, with the number that an answer must repeat.
#[derive(Debug)]
struct Question<'a> {
    spec: &'a Spec,
    id: u16,
}

/// What a message turned out to be.
#[derive(Debug)]
enum Read {
    /// Not an answer to our question.
    Stray,
    /// An answer of which a part was left out.
    Cut,
    /// An answer.
    Whole(Message),
}

impl<'a> Question<'a> {
    fn new(spec: &'a Spec) -> Self {
        let [high, low, ..] = nonce().to_be_bytes();
        Self { spec, id: u16::from_be_bytes([high, low]) }
    }

    fn bytes(&self) -> Result<Vec<u8>, Fault> {
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.spec.recursion_desired;
        // That says that we would like to know (RFC 6840, 5.7).
        message.metadata.authentic_data = self.spec.require_authentic;
        message.add_query(Query::query(self.spec.name.0.clone(), self.spec.kind.record_type()));
        message.to_vec().map_err(|error| Fault::ours(error.to_string()))
    }

    fn read(&self, bytes: &[u8]) -> Result<Read, Fault> {
        let Some(header) = bytes.first_chunk::<HEADER>() else {
            return Err(protocol("the answer is too short to be one"));
        };
        let [id_high, id_low, flags, ..] = *header;
        if u16::from_be_bytes([id_high, id_low]) != self.id {
            return Ok(Read::Stray);
        }
        if flags & ANSWER == 0 {
            return Err(protocol("the answer is marked as a question"));
        }
        if flags & TRUNCATED != 0 {
            return Ok(Read::Cut);
        }
        if announced(header) > bytes.len() {
            return Err(protocol("the answer is shorter than what it announces"));
        }
        let answer = Message::from_vec(bytes)
            .map_err(|error| protocol(format!("the answer cannot be read: {error}")))?;
        if self.is_repeated_in(&answer) {
            Ok(Read::Whole(answer))
        } else {
            Err(protocol("the answer is to another question"))
        }
    }

    fn is_repeated_in(&self, answer: &Message) -> bool {
        match answer.queries.as_slice() {
            [query] => {
                query.name() == &self.spec.name.0
                    && query.query_type() == self.spec.kind.record_type()
                    && query.query_class() == DNSClass::IN
            }
            // A server that cannot read a question cannot repeat it.
            [] => answer.metadata.response_code != ResponseCode::NoError,
            [_, ..] => false,
        }
    }
}

/// The least bytes that a message with these counts has.
fn announced(header: &[u8; HEADER]) -> usize {
    let [_, _, _, _, counts @ ..] = header;
    let count = |at: usize| usize::from(u16::from_be_bytes([counts[at], counts[at + 1]]));
    let records = count(2) + count(4) + count(6);
    HEADER + count(0) * SMALLEST_QUESTION + records * SMALLEST_RECORD
}
