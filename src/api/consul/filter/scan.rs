//! The words, texts and numbers of a filter.

use super::Error;

/// Reads a filter from left to right.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    /// In bytes, always between two characters.
    at: usize,
}

/// What a comparison is of: the name of a field or a value, which its place tells.
#[derive(Debug)]
pub(super) struct Operand {
    /// Where it begins, in bytes.
    pub(super) at: usize,
    /// As a value.
    pub(super) text: String,
    /// As a field, if it can be one.
    pub(super) path: Option<Vec<String>>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// A refusal at a place given in bytes.
    pub(super) fn fault(&self, at: usize, problem: impl Into<String>) -> Error {
        Error { at: self.text[..at].chars().count() + 1, problem: problem.into() }
    }

    /// A refusal of what comes next.
    pub(super) fn unexpected(&self, expected: &str) -> Error {
        let problem = match self.rest().chars().next() {
            None => format!("expected {expected}, found the end"),
            Some(found) => format!("expected {expected}, found {found:?}"),
        };
        self.fault(self.at, problem)
    }

    /// Skips blanks; where what follows begins, in bytes.
    pub(super) fn next_place(&mut self) -> usize {
        self.skip(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
        self.at
    }

    pub(super) fn is_at_end(&mut self) -> bool {
        self.next_place() == self.text.len()
    }

    /// Takes a symbol if it comes next.
    pub(super) fn symbol(&mut self, symbol: &str) -> bool {
        self.next_place();
        let found = self.rest().starts_with(symbol);
        self.at += if found { symbol.len() } else { 0 };
        found
    }

    /// Takes a word if it comes next as a whole.
    pub(super) fn word(&mut self, word: &str) -> bool {
        let before = self.next_place();
        let found = self.skip(is_of_a_word) == word;
        if !found {
            self.at = before;
        }
        found
    }

    pub(super) fn operand(&mut self) -> Result<Operand, Error> {
        let at = self.next_place();
        match self.rest().chars().next() {
            Some('"' | '`') => {
                let is_pointer = self.rest().starts_with("\"/");
                let text = self.quoted()?;
                let path = is_pointer.then(|| pointer(&text));
                Ok(Operand { at, text, path })
            }
            Some('-' | '0'..='9') => Ok(Operand { at, text: self.number()?, path: None }),
            Some(c) if c.is_ascii_alphabetic() => {
                let path = self.path()?;
                Ok(Operand { at, text: path.join("."), path: Some(path) })
            }
            _ => Err(self.unexpected("a field or a value")),
        }
    }

    /// An operand that ends where it seems to.
    pub(super) fn value(&mut self) -> Result<Operand, Error> {
        let operand = self.operand()?;
        let next = self.rest().chars().next();
        match next.filter(|c| !c.is_ascii_whitespace() && *c != ')') {
            None => Ok(operand),
            Some(c) => {
                let problem = format!("{c:?} right after a value; put the whole value in quotes");
                Err(self.fault(self.at, problem))
            }
        }
    }

    /// `A.b["c d"].0`
    fn path(&mut self) -> Result<Vec<String>, Error> {
        let mut path = vec![self.skip(is_of_a_word).to_owned()];
        loop {
            let mut next = self.rest().chars();
            match (next.next(), next.next()) {
                (Some('.'), Some(c)) if c.is_ascii_alphanumeric() => {
                    self.at += 1;
                    path.push(self.skip(is_of_a_word).to_owned());
                }
                (Some('['), _) => {
                    self.at += 1;
                    self.next_place();
                    path.push(self.quoted()?);
                    if !self.symbol("]") {
                        return Err(self.unexpected("]"));
                    }
                }
                _ => return Ok(path),
            }
        }
    }

    fn number(&mut self) -> Result<String, Error> {
        let at = self.at;
        let text = self.skip(|c| is_of_a_word(c) || matches!(c, '-' | '.'));
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_whole = is_digits(whole) && (whole == "0" || !whole.starts_with('0'));
        if is_whole && is_digits(fraction) {
            return Ok(text.to_owned());
        }
        Err(self.fault(at, format!("{text:?} is no number; put texts in quotes")))
    }

    fn quoted(&mut self) -> Result<String, Error> {
        let at = self.at;
        let rest = self.rest();
        let Some(quote @ ('"' | '`')) = rest.chars().next() else {
            return Err(self.unexpected("a text in quotes"));
        };
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.take() {
            match c {
                c if c == quote => return Ok(text),
                '\\' if quote == '"' => text.push(self.escape()?),
                c => text.push(c),
            }
        }
        Err(self.fault(at, "a text whose quotes are not closed"))
    }

    /// What follows a backslash, in Go's notation.
    fn escape(&mut self) -> Result<char, Error> {
        let at = self.at - 1;
        let escaped = match self.take() {
            Some(c @ ('"' | '\\')) => Some(c),
            Some('a') => Some('\u{7}'),
            Some('b') => Some('\u{8}'),
            Some('f') => Some('\u{c}'),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('v') => Some('\u{b}'),
            // A higher one is a byte and no character.
            Some('x') => self.hex(2).filter(char::is_ascii),
            Some('u') => self.hex(4),
            Some('U') => self.hex(8),
            _ => None,
        };
        escaped.ok_or_else(|| self.fault(at, "an escape that stands for no character"))
    }

    fn hex(&mut self, digits: usize) -> Option<char> {
        let text = self.rest().get(..digits)?;
        if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.at += digits;
        char::from_u32(u32::from_str_radix(text, 16).ok()?)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !of(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }
}

fn is_of_a_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '/')
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The steps of a JSON pointer (RFC 6901) that begins with a slash.
fn pointer(text: &str) -> Vec<String> {
    text.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
}
