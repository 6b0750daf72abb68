//! An answer, and how it is fitted into what the client can take.

use std::collections::HashSet;

use hickory_proto::{
    ProtoError,
    op::{Edns, Header, HeaderCounts, Metadata, Query, ResponseCode},
    rr::{Name, Record},
    serialize::binary::{BinEncodable as _, BinEncoder},
};

/// The bit of the header's third byte that says that something was cut off.
const TRUNCATED: u8 = 0x02;

/// A pointer to the name that follows the header.
const QUESTION_POINTER: u16 = 0xc00c;

/// No record takes less, its name being a pointer: what cannot fit is not tried.
const SMALLEST_RECORD: usize = 12;

/// A record of the answer with what goes into the additional section for it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) record: Record,
    pub(super) extras: Vec<Record>,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) code: ResponseCode,
    /// Whether it is ours to say.
    pub(super) authoritative: bool,
    pub(super) found: Vec<Found>,
    pub(super) authority: Vec<Record>,
    /// What may be left out before anything else.
    pub(super) asides: Vec<Record>,
}

/// What the client can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) bytes: usize,
    pub(super) answers: usize,
}

/// Whom a reply goes to.
#[derive(Debug, Clone)]
pub(super) struct Addressee<'a> {
    /// The header's part that does not depend on the reply.
    pub(super) metadata: Metadata,
    pub(super) query: &'a Query,
    /// What we say of ourselves, to a client that speaks of itself.
    pub(super) edns: Option<Edns>,
}

/// How much of a reply is sent.
#[derive(Debug, Clone, Copy)]
struct Cut {
    answers: usize,
    authority: bool,
    extras: bool,
    asides: bool,
}

impl From<Record> for Found {
    fn from(record: Record) -> Self {
        Self { record, extras: Vec::new() }
    }
}

impl Reply {
    /// Nothing but a code.
    pub(super) const fn code(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            found: Vec::new(),
            authority: Vec::new(),
            asides: Vec::new(),
        }
    }

    /// Records, by us who know.
    pub(super) fn found(found: Vec<Found>) -> Self {
        Self { found, authoritative: true, ..Self::code(ResponseCode::NoError) }
    }

    /// No records, by us who know, with the SOA record that says so.
    pub(super) fn none(code: ResponseCode, soa: Record) -> Self {
        Self { authority: vec![soa], authoritative: true, ..Self::code(code) }
    }

    /// The message, as much of it as there is room for: first go the asides, then the authority
    /// section, then answers from the end, each with what was said beside it. A message that lacks
    /// answers is marked. None if not even an empty one can be written.
    pub(super) fn fit(&self, to: &Addressee<'_>, room: Room) -> Option<Vec<u8>> {
        let write = |cut: Cut| {
            self.write(to, cut, room.bytes).ok().filter(|message| message.len() <= room.bytes)
        };
        let most = self.found.len().min(room.answers).min(room.bytes / SMALLEST_RECORD);
        let all = Cut { answers: most, authority: true, extras: true, asides: true };
        let lean = Cut { authority: false, asides: false, ..all };
        for cut in [all, Cut { asides: false, ..all }, lean] {
            if let Some(message) = write(cut) {
                return Some(self.marked(message, most));
            }
        }
        let fits = largest(most, |answers| write(Cut { answers, ..lean }).is_some());
        // One answer may be too large only for what is beside it.
        if fits == 0
            && let Some(message) = write(Cut { answers: 1.min(most), extras: false, ..lean })
        {
            return Some(self.marked(message, 1));
        }
        Some(self.marked(write(Cut { answers: fits, ..lean })?, fits))
    }

    /// Marks a message if it has not all the answers.
    fn marked(&self, mut message: Vec<u8>, answers: usize) -> Vec<u8> {
        if answers < self.found.len() {
            message[2] |= TRUNCATED;
        }
        message
    }

    /// The message with this much of the reply; an error if that does not fit.
    fn write(&self, to: &Addressee<'_>, cut: Cut, bytes: usize) -> Result<Vec<u8>, ProtoError> {
        let found = &self.found[..cut.answers];
        let authority: &[Record] = if cut.authority { &self.authority } else { &[] };
        let extras = found.iter().flat_map(|found| &found.extras).filter(|_| cut.extras);
        let asides = self.asides.iter().filter(|_| cut.asides);
        let mut seen = HashSet::new();
        let extras: Vec<&Record> =
            extras.chain(asides).filter(|extra| seen.insert((&extra.name, &extra.data))).collect();
        let mut metadata = to.metadata;
        metadata.authoritative = self.authoritative;
        metadata.response_code = self.code;
        let counts = HeaderCounts {
            queries: 1,
            answers: count(found.len())?,
            authorities: count(authority.len())?,
            additionals: count(extras.len() + usize::from(to.edns.is_some()))?,
        };
        let mut message = Vec::new();
        let mut encoder = BinEncoder::new(&mut message);
        encoder.set_max_size(u16::try_from(bytes).unwrap_or(u16::MAX));
        Header { metadata, counts }.emit(&mut encoder)?;
        to.query.emit(&mut encoder)?;
        let answers = found.iter().map(|found| &found.record);
        for record in answers.chain(authority).chain(extras) {
            emit(record, to.query.name(), &mut encoder)?;
        }
        if let Some(mut edns) = to.edns.clone() {
            edns.set_rcode_high(self.code.high());
            Record::from(&edns).emit(&mut encoder)?;
        }
        Ok(message)
    }
}

fn count(records: usize) -> Result<u16, ProtoError> {
    u16::try_from(records).map_err(|_| ProtoError::from("too many for a message"))
}

/// Writes a record. The encoder gives up compressing after some hundred names; the name asked for
/// is at the same place in every message, so that a pointer to it is easily written.
fn emit(record: &Record, asked: &Name, encoder: &mut BinEncoder<'_>) -> Result<(), ProtoError> {
    if record.name.is_root() || !record.name.eq_case(asked) {
        return record.emit(encoder);
    }
    encoder.emit_u16(QUESTION_POINTER)?;
    encoder.emit_u16(record.record_type().into())?;
    encoder.emit_u16(record.dns_class.into())?;
    encoder.emit_u32(record.ttl)?;
    let place = encoder.place::<u16>()?;
    record.data.emit(encoder)?;
    let size = encoder.len_since_place(&place);
    place.replace(encoder, count(size)?)
}

/// The largest number below `too_many` that fits, given that smaller ones fit if larger ones do.
fn largest(mut too_many: usize, fits: impl Fn(usize) -> bool) -> usize {
    let mut known = 0;
    while known + 1 < too_many {
        let half = usize::midpoint(known, too_many);
        if fits(half) {
            known = half;
        } else {
            too_many = half;
        }
    }
    known
}
