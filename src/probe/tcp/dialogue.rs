//! What is said over a connection, step by step.
//!
//! What has answered one step is gone for the next; what came after it is not, so two steps can
//! look for what a target says in one go.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::Bytes;
use crate::{
    model::Reason,
    probe::{
        PrepareError,
        fault::{Fault, printable},
        pattern::{Expectation, Pattern},
        trace::Trace,
    },
};

/// Most bytes of the answer to a step that are read.
const MAX_ANSWER: usize = 64 * 1024;

/// Most bytes of an answer that are shown.
const SHOWN: usize = 80;

/// Most steps.
const MAX_STEPS: usize = 16;

/// One step of a dialogue: what is said, and what is heard then. One of the two may be left out.
#[derive(Debug, Clone, PartialEq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "TcpStep")]
pub struct Step {
    /// What to send, with the escapes `\r` `\n` `\t` `\0` `\\` and `\x1f`. Default: nothing.
    pub send: Option<Bytes>,
    /// What the first 64 KiB must contain of what comes then, with the escapes of `send`. Default:
    /// nothing.
    pub expect: Option<Bytes>,
    /// Regular expression that they must match somewhere. Default: none.
    pub expect_matches: Option<Pattern>,
}

/// All that is said, in order.
#[derive(Debug, PartialEq)]
pub(super) struct Dialogue(Box<[Step]>);

impl Step {
    pub(super) fn is_empty(&self) -> bool {
        self.send.is_none() && !self.listens()
    }

    /// Whether something is expected.
    fn listens(&self) -> bool {
        self.expect.is_some() || self.expect_matches.is_some()
    }

    fn expectation(&self) -> Expectation<'_> {
        Expectation { text: self.expect.as_ref(), pattern: self.expect_matches.as_ref() }
    }
}

impl Dialogue {
    /// Of these steps, or of the one alone if there are none.
    pub(super) fn of(steps: &[Step], one: Step) -> Result<Self, PrepareError> {
        let conflict = |text| Err(PrepareError::Conflict(text));
        match (steps, one.is_empty()) {
            ([], true) => Ok(Self([].into())),
            ([], false) => Ok(Self([one].into())),
            (_, false) => {
                conflict("a check has `dialogue`, or `send` and what is expected; not both")
            }
            (steps, true) if steps.iter().any(Step::is_empty) => {
                conflict("a step of `dialogue` neither sends nor expects anything; remove it")
            }
            (steps, true) if steps.len() > MAX_STEPS => {
                conflict("`dialogue` has more than 16 steps; make two checks of it")
            }
            (steps, true) => Ok(Self(steps.into())),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the target speaks first.
    pub(super) fn is_greeted(&self) -> bool {
        self.0.first().is_some_and(|first| first.send.is_none())
    }

    /// Whether all that is sent is answered.
    pub(super) fn ends_heard(&self) -> bool {
        self.0.last().is_none_or(Step::listens)
    }

    /// A fault with what was expected at the step that the trace is at, and what came.
    pub(super) fn describe(&self, mut fault: Fault, trace: &Trace) -> Fault {
        let at = usize::from(trace.step);
        let Some(step) = self.0.get(at) else { return fault };
        if step.listens() && !trace.buffer.is_empty() {
            let got = printable(trace.buffer.trim_ascii(), SHOWN);
            let expected = printable(step.expectation().to_string().as_bytes(), SHOWN);
            fault.detail = format!("{}; expected {expected}; got \"{got}\"", fault.detail);
        }
        if self.0.len() > 1 {
            fault.detail = format!("step {} of {}: {}", at + 1, self.0.len(), fault.detail);
        }
        fault
    }

    /// Speaks as far as it goes well; the trace knows how far that is.
    pub(super) async fn hold<S>(&self, stream: &mut S, trace: &mut Trace) -> Result<(), Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut heard = 0;
        for (number, step) in (0..).zip(&self.0) {
            trace.step = number;
            trace.buffer.drain(..heard);
            if let Some(bytes) = &step.send {
                stream
                    .write_all(bytes.as_slice())
                    .await
                    .map_err(|error| Fault::exchange(&error))?;
                stream.flush().await.map_err(|error| Fault::exchange(&error))?;
            }
            heard = if step.listens() { hear(step, stream, trace).await? } else { 0 };
        }
        Ok(())
    }
}

/// Waits for what is expected; says where it ends in the trace's buffer.
async fn hear<S>(step: &Step, stream: &mut S, trace: &mut Trace) -> Result<usize, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        if let Some(end) = step.expectation().end_in(&trace.buffer) {
            return Ok(end);
        }
        if trace.buffer.len() >= MAX_ANSWER {
            return Err(Fault::new(Reason::Body, "the first 64 KiB are not as expected"));
        }
        let read = trace.fill(stream).await?;
        trace.buffer.truncate(MAX_ANSWER);
        if read == 0 {
            return Err(if trace.buffer.is_empty() {
                let detail = "the target closed the connection without an answer";
                Fault::new(Reason::ConnectionReset, detail)
            } else {
                Fault::new(Reason::Body, "the answer is not as expected")
            });
        }
    }
}
