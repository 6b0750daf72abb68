//! In whose words a check speaks: what its request says of itself, and what is told of an answer.

use super::fault::Fault;
use crate::model::Answer;

/// Whose form a check has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Our own.
    #[default]
    Own,
    /// Consul's, which shows the end of a body.
    Consul {
        /// Most bytes of it.
        shown: u16,
    },
}

impl Form {
    /// The headers that say who asks and what it takes, unless the check says it.
    pub(super) fn headers(self) -> [(&'static str, &'static str); 2] {
        const AGENT: &str = concat!("rollcall/", env!("CARGO_PKG_VERSION"));
        let (agent, accept) = match self {
            Self::Own => (AGENT, "*/*"),
            Self::Consul { .. } => ("Consul Health Check", "text/plain, text/*, */*"),
        };
        [("User-Agent", agent), ("Accept", accept)]
    }

    /// Whether it is Consul's.
    pub(super) fn is_consuls(self) -> bool {
        self != Self::Own
    }

    /// What is wrong with the answer to a call of gRPC.
    pub(super) fn grpc(self, url: &str, fault: &Fault, answer: Answer) -> String {
        match answer {
            Answer::Grpc(serving)
                if self.is_consuls() && fault.detail.starts_with(serving.as_str()) =>
            {
                format!("gRPC {url} serving status: {serving}")
            }
            Answer::Grpc(_) | Answer::None | Answer::Http(_) => {
                format!("gRPC {url}: {}", fault.detail)
            }
        }
    }

    /// What is shown of a body, harmless and no longer than it may be; nothing in our own form.
    pub(super) fn shown_of(self, body: &[u8]) -> Option<String> {
        let Self::Consul { shown } = self else { return None };
        let from = body.len().saturating_sub(shown.into());
        // A character that the cut has left the end of.
        let torn = |byte: &&u8| from > 0 && **byte & 0xc0 == 0x80;
        let torn = body[from..].iter().take(3).take_while(torn).count();
        let text = String::from_utf8_lossy(&body[from + torn..]);
        Some(text.chars().filter(|c| *c != '\r').map(harmless).collect())
    }
}

/// The character, or what stands for one that a terminal would obey or a reader would not see. None
/// takes more bytes than what it stands for.
fn harmless(character: char) -> char {
    match character {
        '\n' | '\t' => character,
        '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | char::REPLACEMENT_CHARACTER => '?',
        _ if character.is_control() => '?',
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(most: u16, body: &[u8]) -> String {
        Form::Consul { shown: most }.shown_of(body).unwrap()
    }

    #[test]
    fn the_end_of_a_body_is_shown_and_does_no_harm() {
        assert_eq!(Form::Own.shown_of(b"ok"), None);
        assert_eq!(shown(10, b""), "");
        assert_eq!(shown(10, b"a\tb\r\nc"), "a\tb\nc");
        assert_eq!(shown(4, b"0123456789"), "6789");
        assert_eq!(shown(99, "läuft\u{1b}[31m\u{202e}\u{9b}\0".as_bytes()), "läuft?[31m???");
        assert_eq!(shown(99, b"\xff\xfe\x80ok"), "???ok");
        assert_eq!(shown(3, "aäb\u{fc}".as_bytes()), "b\u{fc}");
        assert_eq!(shown(2, "\u{1f600}".as_bytes()), "");
    }

    proptest! {
        #[test]
        fn no_more_is_shown_than_may_be(body: Vec<u8>, most in 0..50_u16) {
            prop_assert!(shown(most, &body).len() <= most.into());
        }
    }
}
