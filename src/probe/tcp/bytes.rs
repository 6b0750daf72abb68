//! Bytes as a configuration writes them: text with escapes.

use std::{fmt, str::FromStr};

/// Bytes, written as text with the escapes `\r` `\n` `\t` `\0` `\\` `\"` and `\x1f`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct Bytes(Box<[u8]>);

/// A text with a broken escape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    /// Nothing is written.
    #[error("it is empty; leave the field out instead")]
    Empty,
    /// An escape that does not exist.
    #[error("`\\{0}` is no escape; there are \\r \\n \\t \\0 \\\\ \\\" and \\x1f")]
    Unknown(char),
    /// `\x` without two hexadecimal digits.
    #[error("`\\x` needs two hexadecimal digits, as in \\x1f")]
    Hex,
    /// A backslash at the end.
    #[error("it ends in a single backslash; write \\\\ for one")]
    End,
}

impl Bytes {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// With escapes, so that the result can be read back.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0 {
            match byte {
                b'\r' => f.write_str("\\r")?,
                b'\n' => f.write_str("\\n")?,
                b'\t' => f.write_str("\\t")?,
                b'\\' => f.write_str("\\\\")?,
                b' '..=b'~' => write!(f, "{}", char::from(*byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Bytes {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((plain, escape)) = rest.split_once('\\') {
            bytes.extend_from_slice(plain.as_bytes());
            let mut after = escape.chars();
            bytes.push(match after.next().ok_or(BytesError::End)? {
                'r' => b'\r',
                'n' => b'\n',
                't' => b'\t',
                '0' => 0,
                '\\' => b'\\',
                '"' => b'"',
                'x' => {
                    let (high, low) = (hex(after.next())?, hex(after.next())?);
                    high << 4 | low
                }
                unknown => return Err(BytesError::Unknown(unknown)),
            });
            rest = after.as_str();
        }
        bytes.extend_from_slice(rest.as_bytes());
        if bytes.is_empty() { Err(BytesError::Empty) } else { Ok(Self(bytes.into())) }
    }
}

impl TryFrom<String> for Bytes {
    type Error = BytesError;

    fn try_from(text: String) -> Result<Self, BytesError> {
        text.parse()
    }
}

fn hex(digit: Option<char>) -> Result<u8, BytesError> {
    let value = digit.and_then(|digit| digit.to_digit(16)).ok_or(BytesError::Hex)?;
    u8::try_from(value).map_err(|_| BytesError::Hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_bytes() {
        let bytes: Bytes = r"PING\r\n\x1F\0\\é".parse().unwrap();
        assert_eq!(bytes.as_slice(), "PING\r\n\x1f\0\\é".as_bytes());
        assert_eq!(bytes.to_string(), r"PING\r\n\x1f\x00\\\xc3\xa9");
        assert_eq!(bytes.to_string().parse(), Ok(bytes));
    }

    #[test]
    fn a_broken_escape_is_refused() {
        assert_eq!("".parse::<Bytes>(), Err(BytesError::Empty));
        assert_eq!(r"\q".parse::<Bytes>(), Err(BytesError::Unknown('q')));
        assert_eq!(r"\x1".parse::<Bytes>(), Err(BytesError::Hex));
        assert_eq!("a\\".parse::<Bytes>(), Err(BytesError::End));
    }
}
