//! Takes the framing off a body, in place and piece by piece as it comes in.
//!
//! Pure: bytes in, bytes out. The buffer holds the decoded body, then what is not decoded yet.

use std::cmp::Ordering;

use super::head::Framing;

/// Most bytes of a body that are read; the verdict is made from these.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// Most bytes of the line before a chunk, extensions included.
const MAX_CHUNK_LINE: u16 = 256;

/// Most bytes of the trailers after the last chunk.
const MAX_TRAILERS: u16 = 8 * 1024;

/// Most bytes of framing: so many, and so many more for each byte of the body. Chunks of one byte, the
/// least that makes sense, have six for each.
const MAX_FRAMING: usize = 16 * 1024;
const MAX_FRAMING_RATIO: usize = 8;

/// What becomes of the connection after the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum After {
    /// It is closed: what comes after the last chunk is of no interest.
    #[default]
    Close,
    /// It is used again: the message must be read to its very end.
    Keep,
}

/// Whether more of the body is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// More must be read.
    More,
    /// The body is whole.
    Whole,
    /// The body is longer than [`MAX_BODY`]; the rest is of no interest.
    Cut,
}

/// Decodes one body.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    decoded: usize,
    framing: usize,
    after: After,
    has_surplus: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In data that ends after so many bytes.
    Length(u64),
    /// In data that ends with the connection.
    Close,
    /// In the line before a chunk.
    Size(SizeLine),
    /// In a chunk, with so many bytes to come.
    Chunk(u64),
    /// Before the carriage return after a chunk.
    ChunkReturn,
    /// Before the line feed after a chunk.
    ChunkFeed,
    /// After the last chunk, in trailers that nothing is asked of.
    Trailers(Trailers),
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Trailers {
    read: u16,
    /// Bytes of the current line, without its end.
    line: u16,
    /// Whether the line's carriage return has come.
    returned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct SizeLine {
    size: u64,
    length: u16,
    part: SizePart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum SizePart {
    #[default]
    Digits,
    Extension,
    Feed,
}

impl Decoder {
    pub(super) fn new(framing: Framing, after: After) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Close => State::Close,
            Framing::Chunked => State::Size(SizeLine::default()),
        };
        Self { state, decoded: 0, framing: 0, after, has_surplus: false }
    }

    /// How many bytes of the body are decoded.
    pub(super) fn decoded(&self) -> usize {
        self.decoded
    }

    /// Whether more came than the message says it has.
    pub(super) fn has_surplus(&self) -> bool {
        self.has_surplus
    }

    /// Whether the end of the connection is the end of the body.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.state == State::Close
    }

    /// Decodes what is in the buffer. Afterwards it holds the body so far, and nothing else.
    pub(super) fn advance(&mut self, buffer: &mut Vec<u8>) -> Result<Progress, &'static str> {
        let mut at = self.decoded;
        while at < buffer.len() && self.state != State::Done {
            let available = buffer.len() - at;
            let take = match self.state {
                State::Length(left) | State::Chunk(left) => {
                    usize::try_from(left).map_or(available, |left| left.min(available))
                }
                State::Close => available,
                State::Size(_)
                | State::ChunkReturn
                | State::ChunkFeed
                | State::Trailers(_)
                | State::Done => 0,
            };
            if take == 0 {
                self.state = self.state.step(buffer[at], self.after)?;
                self.framing += 1;
                at += 1;
            } else {
                buffer.copy_within(at..at + take, self.decoded);
                self.decoded += take;
                at += take;
                self.state = self.state.consume(take as u64);
            }
        }
        if self.framing > MAX_FRAMING + MAX_FRAMING_RATIO * self.decoded {
            return Err("the body is next to nothing but framing");
        }
        self.has_surplus |= at < buffer.len();
        // Also the last read may go beyond the bound; how far must not decide a verdict.
        buffer.truncate(self.decoded.min(MAX_BODY));
        let is_whole = self.state == State::Done;
        Ok(match self.decoded.cmp(&MAX_BODY) {
            Ordering::Less | Ordering::Equal if is_whole => Progress::Whole,
            Ordering::Less => Progress::More,
            Ordering::Equal | Ordering::Greater => Progress::Cut,
        })
    }
}

impl State {
    /// After so many bytes of data.
    fn consume(self, taken: u64) -> Self {
        match self {
            Self::Length(left) if left <= taken => Self::Done,
            Self::Length(left) => Self::Length(left - taken),
            Self::Chunk(left) if left <= taken => Self::ChunkReturn,
            Self::Chunk(left) => Self::Chunk(left - taken),
            Self::Close
            | Self::Size(_)
            | Self::ChunkReturn
            | Self::ChunkFeed
            | Self::Trailers(_)
            | Self::Done => self,
        }
    }

    /// After one byte of framing.
    fn step(self, byte: u8, after: After) -> Result<Self, &'static str> {
        match (self, byte) {
            (Self::Size(line), _) => line.step(byte, after),
            (Self::Trailers(trailers), _) => trailers.step(byte),
            (Self::ChunkReturn, b'\r') => Ok(Self::ChunkFeed),
            (Self::ChunkFeed, b'\n') => Ok(Self::Size(SizeLine::default())),
            (Self::ChunkReturn | Self::ChunkFeed, _) => Err("a chunk is longer than it says"),
            (Self::Length(_) | Self::Close | Self::Chunk(_) | Self::Done, _) => Ok(self),
        }
    }
}

impl Trailers {
    fn step(mut self, byte: u8) -> Result<State, &'static str> {
        self.read += 1;
        if self.read > MAX_TRAILERS {
            return Err("the trailers are too long");
        }
        match (self.returned, byte) {
            (true, b'\n') if self.line == 0 => return Ok(State::Done),
            (true, b'\n') => self = Self { read: self.read, ..Self::default() },
            (false, b'\r') => self.returned = true,
            (true, _) | (false, b'\n') => return Err("a trailer is malformed"),
            (false, _) => self.line += 1,
        }
        Ok(State::Trailers(self))
    }
}

impl SizeLine {
    fn step(mut self, byte: u8, after: After) -> Result<State, &'static str> {
        self.length += 1;
        if self.length > MAX_CHUNK_LINE {
            return Err("the line before a chunk is too long");
        }
        match (self.part, byte) {
            (SizePart::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if self.size >> 60 != 0 {
                    return Err("a chunk's size is too large");
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.size = self.size << 4 | u64::from(digit);
            }
            (SizePart::Digits, _) if self.length == 1 => return Err("a chunk has no size"),
            (SizePart::Digits | SizePart::Extension, b'\r') => self.part = SizePart::Feed,
            (SizePart::Digits, b';' | b' ' | b'\t') => self.part = SizePart::Extension,
            (SizePart::Extension, b'\n') | (SizePart::Digits, _) => {
                return Err("a chunk's size is malformed");
            }
            (SizePart::Extension, _) => {}
            (SizePart::Feed, b'\n') if self.size == 0 => {
                return Ok(match after {
                    After::Close => State::Done,
                    After::Keep => State::Trailers(Trailers::default()),
                });
            }
            (SizePart::Feed, b'\n') => return Ok(State::Chunk(self.size)),
            (SizePart::Feed, _) => return Err("a chunk's size is malformed"),
        }
        Ok(State::Size(self))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes pieces as they would come in; shows the end and the body.
    fn run(framing: Framing, pieces: &[&[u8]]) -> (Result<Progress, &'static str>, String) {
        run_with(&mut Decoder::new(framing, After::Close), pieces)
    }

    fn run_with(
        decoder: &mut Decoder,
        pieces: &[&[u8]],
    ) -> (Result<Progress, &'static str>, String) {
        let mut buffer = Vec::new();
        let mut progress = Ok(Progress::More);
        for piece in pieces {
            buffer.extend_from_slice(piece);
            progress = decoder.advance(&mut buffer);
            if progress != Ok(Progress::More) {
                break;
            }
        }
        (progress, String::from_utf8_lossy(&buffer).into_owned())
    }

    #[track_caller]
    fn check(framing: Framing, bytes: &str, expected: (Result<Progress, &'static str>, &str)) {
        let (progress, body) = expected;
        let expected = (progress, body.to_owned());
        assert_eq!(run(framing, &[bytes.as_bytes()]), expected, "in one piece");
        let single: Vec<&[u8]> = bytes.as_bytes().chunks(1).collect();
        let (progress, body) = run(framing, &single);
        assert_eq!(progress, expected.0, "byte by byte");
        if progress.is_ok() {
            assert_eq!(body, expected.1, "byte by byte");
        }
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        check(Framing::Length(2), "okay", (Ok(Progress::Whole), "ok"));
        check(Framing::Length(5), "ok", (Ok(Progress::More), "ok"));
        check(Framing::Close, "ok", (Ok(Progress::More), "ok"));
        check(Framing::Chunked, "2\r\nok\r\n0\r\n\r\n", (Ok(Progress::Whole), "ok"));
        check(
            Framing::Chunked,
            "1;a=b\r\no\r\nA \r\n0123456789\r\n00\r\n",
            (Ok(Progress::Whole), "o0123456789"),
        );
        check(Framing::Chunked, "5\r\nok", (Ok(Progress::More), "ok"));
    }

    /// What is said of a chunked message whose connection is to be used again, byte by byte.
    fn kept(after_last_chunk: &str) -> (Result<Progress, &'static str>, bool) {
        let wire = format!("2\r\nok\r\n0\r\n{after_last_chunk}");
        let mut decoder = Decoder::new(Framing::Chunked, After::Keep);
        let single: Vec<&[u8]> = wire.as_bytes().chunks(1).collect();
        let (progress, _) = run_with(&mut decoder, &single);
        let mut decoder = Decoder::new(Framing::Chunked, After::Keep);
        let (at_once, body) = run_with(&mut decoder, &[wire.as_bytes()]);
        assert_eq!(progress, at_once);
        assert!(progress.is_err() || body == "ok", "{body}");
        (progress, decoder.has_surplus())
    }

    #[test]
    fn a_message_is_read_to_its_very_end_where_another_is_to_follow() {
        assert_eq!(kept(""), (Ok(Progress::More), false));
        assert_eq!(kept("\r\n"), (Ok(Progress::Whole), false));
        assert_eq!(kept("A: b\r\nC: d\r\n"), (Ok(Progress::More), false));
        assert_eq!(kept("A: b\r\nC: d\r\n\r\n"), (Ok(Progress::Whole), false));
        assert_eq!(kept("\r\nHTTP/1.1 200 OK"), (Ok(Progress::Whole), true));
        for malformed in ["\n", "A: b\n", "A: b\rc"] {
            assert_eq!(kept(malformed).0, Err("a trailer is malformed"));
        }
        assert_eq!(kept(&"A: b\r\n".repeat(2000)).0, Err("the trailers are too long"));
        let mut decoder = Decoder::new(Framing::Length(2), After::Keep);
        assert_eq!(run_with(&mut decoder, &[b"okay"]), (Ok(Progress::Whole), "ok".to_owned()));
        assert!(decoder.has_surplus());
    }

    #[test]
    fn a_malformed_chunk_is_refused() {
        let error = |bytes: &str| run(Framing::Chunked, &[bytes.as_bytes()]).0.unwrap_err();
        assert_eq!(error("\r\n"), "a chunk has no size");
        assert_eq!(error("-1\r\n"), "a chunk has no size");
        assert_eq!(error("2\nok"), "a chunk's size is malformed");
        assert_eq!(error("2\rX"), "a chunk's size is malformed");
        assert_eq!(error("2\r\nokay\r\n"), "a chunk is longer than it says");
        assert_eq!(error("10000000000000000\r\n"), "a chunk's size is too large");
        assert_eq!(error(&format!("1;{}", "x".repeat(300))), "the line before a chunk is too long");
    }

    #[test]
    fn a_long_body_is_cut_at_the_same_place_however_it_comes() {
        let bytes = vec![b'x'; MAX_BODY + 9];
        let (progress, body) = run(Framing::Length(MAX_BODY as u64 + 9), &[&bytes]);
        assert_eq!((progress, body.len()), (Ok(Progress::Cut), MAX_BODY));
        let (progress, body) = run(Framing::Length(MAX_BODY as u64), &[&bytes]);
        assert_eq!((progress, body.len()), (Ok(Progress::Whole), MAX_BODY));
        let (progress, body) = run(Framing::Length(u64::MAX), &[&vec![b'x'; MAX_BODY]]);
        assert_eq!((progress, body.len()), (Ok(Progress::Cut), MAX_BODY));
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_into_pieces_does_not_matter(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..5),
            noise in prop::collection::vec(any::<u8>(), 0..20),
            cut in 1..9_usize,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            wire.extend_from_slice(&noise);
            let pieces: Vec<&[u8]> = wire.chunks(cut).collect();
            let expected = String::from_utf8_lossy(&chunks.concat()).into_owned();
            prop_assert_eq!(run(Framing::Chunked, &pieces), (Ok(Progress::Whole), expected));
        }

        #[test]
        fn any_bytes_end_in_progress_or_error(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'1')], 0..200),
        ) {
            let (progress, body) = run(Framing::Chunked, &[&bytes]);
            prop_assert!(progress.is_err() || body.len() <= bytes.len() * 3);
        }
    }
}
