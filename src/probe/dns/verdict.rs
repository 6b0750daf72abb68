//! What an answer means; pure.

use std::net::IpAddr;

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, RecordType},
};

use super::{QueryType, Rcode, Spec};
use crate::{
    model::Reason,
    probe::{
        fault::{Fault, printable},
        pattern::Pattern,
    },
};

/// Most bytes of the records that are shown.
const SHOWN: usize = 80;

/// The codes with their words.
const CODES: &[(Rcode, ResponseCode, &str)] = &[
    (Rcode::NoError, ResponseCode::NoError, "NOERROR"),
    (Rcode::FormErr, ResponseCode::FormErr, "FORMERR"),
    (Rcode::ServFail, ResponseCode::ServFail, "SERVFAIL"),
    (Rcode::NxDomain, ResponseCode::NXDomain, "NXDOMAIN"),
    (Rcode::NotImp, ResponseCode::NotImp, "NOTIMP"),
    (Rcode::Refused, ResponseCode::Refused, "REFUSED"),
    (Rcode::NotAuth, ResponseCode::NotAuth, "NOTAUTH"),
];

/// Success, or what is wrong with the answer.
pub(super) fn judge(spec: &Spec, answer: &Message) -> Result<(), Fault> {
    let code = answer.metadata.response_code;
    let known = CODES.iter().find(|(_, known, _)| *known == code);
    let word = known.map_or_else(|| code.low().to_string(), |(.., word)| (*word).to_owned());
    if !known.is_some_and(|(code, ..)| spec.expected_rcodes.contains(code)) {
        let expected: Vec<_> = CODES
            .iter()
            .filter(|(code, ..)| spec.expected_rcodes.contains(code))
            .map(|(.., word)| *word)
            .collect();
        let detail = format!("{word}; expected {}", expected.join(" or "));
        return Err(Fault::new(Reason::Status, detail));
    }
    if spec.require_authoritative && !answer.metadata.authoritative {
        return Err(Fault::new(Reason::Header, format!("{word}, but not authoritative (AA)")));
    }
    if spec.require_authentic && !answer.metadata.authentic_data {
        return Err(Fault::new(Reason::Header, format!("{word}, but not verified by DNSSEC (AD)")));
    }
    let least = spec.min_answers.unwrap_or(u16::from(code == ResponseCode::NoError));
    records(spec, answer, usize::from(least))
}

fn records(spec: &Spec, answer: &Message, least: usize) -> Result<(), Fault> {
    let is_wanted =
        |kind: RecordType| spec.kind == QueryType::Any || kind == spec.kind.record_type();
    let wanted = answer.answers.iter().filter(|record| is_wanted(record.record_type()));
    let found: Vec<_> = wanted.map(|record| Data::of(&record.data)).collect();
    let unmet = |rule: String| {
        let shown = if found.is_empty() {
            "none".to_owned()
        } else {
            let texts: Vec<_> = found.iter().map(|data| &*data.text).collect();
            printable(texts.join(", ").as_bytes(), SHOWN)
        };
        Err(Fault::new(Reason::Body, format!("{rule}; there is {shown}")))
    };
    if found.len() < least {
        let kind = spec.kind.record_type();
        return unmet(format!("{} records of type {kind}, expected {least}", found.len()));
    }
    if !spec.expected_answers.is_empty() && !are_same(&spec.expected_answers, &found) {
        let expected = printable(spec.expected_answers.join(", ").as_bytes(), SHOWN);
        return unmet(format!("the records are not as expected ({expected})"));
    }
    match &spec.answer_matches {
        Some(pattern) if !found.iter().any(|data| data.has(pattern)) => {
            let pattern = printable(pattern.as_str().as_bytes(), SHOWN);
            unmet(format!("no record matches \"{pattern}\""))
        }
        Some(_) | None => Ok(()),
    }
}

/// The data of a record.
struct Data {
    /// As in a zone file.
    text: String,
    /// What the strings of a text say without their quotes, one after the other.
    said: Option<String>,
}

impl Data {
    fn of(data: &RData) -> Self {
        let RData::TXT(txt) = data else { return Self { text: data.to_string(), said: None } };
        let quoted: Vec<_> = txt.txt_data.iter().map(|string| quoted(string)).collect();
        let said = String::from_utf8_lossy(&txt.txt_data.concat()).into_owned();
        Self { text: quoted.join(" "), said: Some(said) }
    }

    fn has(&self, pattern: &Pattern) -> bool {
        let said = self.said.as_deref().unwrap_or_default();
        pattern.is_match(self.text.as_bytes()) || pattern.is_match(said.as_bytes())
    }
}

/// A string as in a zone file (RFC 1035, 5.1).
fn quoted(string: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in string {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => text.push(char::from(*byte)),
            other => {
                text.push('\\');
                text.extend(
                    [other / 100, other / 10 % 10, other % 10].map(|n| char::from(b'0' + n)),
                );
            }
        }
    }
    text.push('"');
    text
}

/// Whether both hold the same, each as often, in any order. What is expected of a text may be without
/// quotes.
fn are_same(expected: &[String], found: &[Data]) -> bool {
    let mut left: Vec<_> =
        found.iter().map(|data| (normal(&data.text), data.said.as_deref().map(normal))).collect();
    let mut expected: Vec<_> = expected.iter().map(|text| normal(text)).collect();
    // Those that are written in full go first: they have no other that they could stand for.
    expected.retain(|text| !take(&mut left, |(whole, _)| whole == text));
    expected.retain(|text| !take(&mut left, |(_, said)| said.as_ref() == Some(text)));
    expected.is_empty() && left.is_empty()
}

/// Takes one out that is as it should be, if there is one.
fn take<T>(from: &mut Vec<T>, is_it: impl FnMut(&T) -> bool) -> bool {
    let at = from.iter().position(is_it);
    at.map(|at| from.swap_remove(at)).is_some()
}

/// One spelling for what has several: addresses, and names with and without the last dot.
fn normal(text: &str) -> String {
    match text.trim().parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => text.trim().trim_end_matches('.').to_ascii_lowercase(),
    }
}
