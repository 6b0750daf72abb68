//! What an answer means.

use std::fmt::Write;

use super::{Probe, Spec, exchange::Received, json, retry_after};
use crate::{
    clock,
    model::Reason,
    probe::{
        fault::{DETAIL_LEN, Fault, printable},
        pattern::contains,
        trace::Trace,
    },
};

/// Most bytes of a body that are shown.
const SHOWN_BODY: usize = 100;

/// Most bytes of an expectation that are shown.
const SHOWN_EXPECTATION: usize = 60;

impl Probe {
    /// What the target said in an answer that is whole, without what may not be shown; nothing in our
    /// own form.
    pub(in crate::probe) fn said(&self, trace: &Trace) -> Option<String> {
        let said = self.spec.form.shown_of(&trace.buffer)?;
        Some(match &self.credentials {
            Some(credentials) => credentials.hide(said),
            None => said,
        })
    }

    /// What is told of an answer that is whole and not what it should be; nothing in our own form.
    pub(in crate::probe) fn answered(
        &self,
        url: &str,
        fault: &Fault,
        trace: &Trace,
    ) -> Option<String> {
        let is_answer = fault.outcome.reason() == Some(Reason::Status);
        let said = self.said(trace).filter(|_| is_answer)?;
        let detail = printable(fault.detail.as_bytes(), DETAIL_LEN);
        Some(format!("HTTP {} {url}: {detail} Output: {said}", self.spec.method.as_str()))
    }
}

/// Success, or what is wrong with the answer; also whether the target wants to be left alone.
pub(super) fn judge(spec: &Spec, answer: &Received, trace: &mut Trace) -> Result<(), Fault> {
    let wish = answer.head.retry_after.as_deref();
    trace.ask_again = wish.and_then(|text| retry_after::wait(text, clock::now()));
    judge_answer(spec, answer, &trace.buffer)
}

fn judge_answer(spec: &Spec, answer: &Received, body: &[u8]) -> Result<(), Fault> {
    let status = answer.head.status;
    if !spec.expected_status.contains(status) {
        let detail = if spec.form.is_consuls() {
            // The body follows where the whole is put together.
            name(status)
        } else {
            let mut detail = format!("{}; expected {}", name(status), spec.expected_status);
            append_body(&mut detail, body);
            detail
        };
        return Err(match status {
            429 => Fault::warning(Reason::Status, detail),
            _ => Fault::new(Reason::Status, detail),
        });
    }
    if let Some(unmet) = &answer.head.unmet {
        return Err(Fault::new(Reason::Header, format!("{}; {unmet}", name(status))));
    }
    if !spec.expects_body() {
        return Ok(());
    }
    if let Some(encoding) = &answer.head.encoding {
        let detail = format!("{}; the body is encoded ({encoding}), unasked", name(status));
        return Err(Fault::new(Reason::Body, detail));
    }
    if let Some(text) = &spec.body_contains
        && !contains(body, text.as_bytes())
    {
        return Err(mismatch("contain", text, answer, body));
    }
    if let Some(pattern) = &spec.body_matches
        && !pattern.is_match(body)
    {
        return Err(mismatch("match", pattern.as_str(), answer, body));
    }
    judge_json(spec, answer, body)
}

fn judge_json(spec: &Spec, answer: &Received, body: &[u8]) -> Result<(), Fault> {
    let unmet = match answer.cut {
        _ if spec.body_json.is_empty() => None,
        true => Some("the body is longer than 64 KiB and not read as JSON".to_owned()),
        false => json::unmet(&spec.body_json, body),
    };
    let Some(unmet) = unmet else { return Ok(()) };
    let mut detail = format!("{}; {unmet}", name(answer.head.status));
    append_body(&mut detail, body);
    Err(Fault::new(Reason::Body, detail))
}

fn mismatch(verb: &str, expected: &str, answer: &Received, body: &[u8]) -> Fault {
    let part = if answer.cut { "first 64 KiB of the body do" } else { "body does" };
    let status = name(answer.head.status);
    let expected = printable(expected.as_bytes(), SHOWN_EXPECTATION);
    let mut detail = format!("{status}; the {part} not {verb} \"{expected}\"");
    append_body(&mut detail, body);
    Fault::new(Reason::Body, detail)
}

fn append_body(detail: &mut String, body: &[u8]) {
    if body.is_empty() {
        detail.push_str("; no body");
    } else {
        write!(detail, "; body: \"{}\"", printable(body.trim_ascii(), SHOWN_BODY))
            .expect("a String takes every write");
    }
}

/// `500 Internal Server Error`; the code alone if it has no name.
pub(super) fn name(status: u16) -> String {
    let known = http::StatusCode::from_u16(status).ok();
    match known.and_then(|status| status.canonical_reason()) {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_answer_is_named_if_it_has_a_name() {
        assert_eq!(super::name(200), "200 OK");
        assert_eq!(super::name(429), "429 Too Many Requests");
        assert_eq!(super::name(799), "799");
    }
}
