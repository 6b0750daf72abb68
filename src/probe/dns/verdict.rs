//! What an answer means; pure.

use std::net::IpAddr;

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};

use super::{QueryType, Rcode, Spec};
use crate::{
    model::Reason,
    probe::fault::{Fault, printable},
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
    let found: Vec<String> = answer
        .answers
        .iter()
        .filter(|record| is_wanted(record.record_type()))
        .map(|record| record.data.to_string())
        .collect();
    let unmet = |rule: String| {
        let shown = match found.len() {
            0 => "none".to_owned(),
            _ => printable(found.join(", ").as_bytes(), SHOWN),
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
        Some(pattern) if !found.iter().any(|data| pattern.is_match(data.as_bytes())) => {
            let pattern = printable(pattern.as_str().as_bytes(), SHOWN);
            unmet(format!("no record matches \"{pattern}\""))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether both hold the same, each as often, in any order.
fn are_same(expected: &[String], found: &[String]) -> bool {
    let sorted = |texts: &[String]| {
        let mut texts: Vec<_> = texts.iter().map(|text| normal(text)).collect();
        texts.sort_unstable();
        texts
    };
    sorted(expected) == sorted(found)
}

/// One spelling for what has several: addresses, and names with and without the last dot.
fn normal(text: &str) -> String {
    match text.trim().parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => text.trim().trim_end_matches('.').to_ascii_lowercase(),
    }
}
