//! Credentials of a request, from files, so that the configuration holds no secret; or from a URL in
//! Consul's form, which may.
//!
//! They are read when the check is made ready, and are part of what makes two checks equal. They go
//! to the configured origin only. No detail shows them, also if a target sends them back.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use percent_encoding::percent_decode_str;
use url::Url;

use crate::probe::fault::Fault;

/// Largest file; servers take heads of 8 KiB at the least.
const MAX_FILE: u64 = 8 * 1024;

/// How many characters of a secret tell that it is the secret: a cut may have left no more.
const TELLING: usize = 8;

/// Shorter passwords than this are common in harmless text.
const SHORTEST_TOLD: usize = 4;

/// Who asks: exactly one of `basic` and `bearer_file`. Files are read at start and at reload; line
/// breaks at their end are left out.
#[derive(Debug, Clone, PartialEq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Auth")]
pub struct Auth {
    /// A user's name and password (RFC 7617). Default: none.
    pub basic: Option<Basic>,
    /// File with a token to send as `Authorization: Bearer …` (RFC 6750). Default: none.
    #[schemars(with = "Option<String>")]
    pub bearer_file: Option<PathBuf>,
    /// Who a URL in Consul's form says it is.
    #[serde(skip)]
    pub user: Option<User>,
}

/// A user's name and password.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Basic")]
pub struct Basic {
    /// The user's name, without a colon. Required.
    pub username: String,
    /// File with the password. Required.
    #[schemars(with = "String")]
    pub password_file: PathBuf,
}

/// A user's name and password as a URL has them.
#[derive(Clone, PartialEq)]
pub struct User {
    name: Vec<u8>,
    password: Vec<u8>,
}

impl User {
    /// Takes them out of a URL, if it has them.
    pub fn take(url: &mut Url) -> Option<Self> {
        let is_there = !url.username().is_empty() || url.password().is_some();
        let user = is_there.then(|| Self {
            name: percent_decode_str(url.username()).collect(),
            password: percent_decode_str(url.password().unwrap_or_default()).collect(),
        })?;
        // Refused only for a URL without a host, which has no user.
        url.set_username("").and_then(|()| url.set_password(None)).ok()?;
        Some(user)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User(..)")
    }
}

/// Credentials that cannot be used. Never says what a file holds.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// None or both of the ways.
    #[error("`auth` takes exactly one of `basic` and `bearer_file`")]
    Choice,
    /// The name cannot be sent.
    #[error("a username must not be empty, and hold no colon and no control characters")]
    Username,
    /// The file cannot be read.
    #[error("cannot read the credentials in {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no secret in the file.
    #[error("{path} is empty; it must hold the password or token")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is no secret.
    #[error("{path} is larger than 8 KiB; it must hold the password or token alone")]
    Large {
        /// The file.
        path: PathBuf,
    },
    /// The secret cannot be sent.
    #[error(
        "{path} holds what cannot be sent: a password is a line of text, a token has no blanks"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

/// An `Authorization` header.
#[derive(PartialEq)]
pub(super) struct Credentials {
    header: Box<str>,
    /// What must not be shown.
    secrets: Vec<Box<str>>,
}

impl Credentials {
    /// Reads the file.
    pub(super) fn read(auth: &Auth) -> Result<Self, AuthError> {
        match (&auth.basic, &auth.bearer_file, &auth.user) {
            (Some(basic), None, None) => Self::basic(basic),
            (None, None, Some(user)) => Ok(Self::pair(&user.name, &user.password)),
            (None, Some(path), None) => {
                let token = secret(path)?;
                if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(AuthError::Unusable { path: path.clone() });
                }
                Ok(Self { header: format!("Bearer {token}").into(), secrets: vec![token.into()] })
            }
            _ => Err(AuthError::Choice),
        }
    }

    fn basic(basic: &Basic) -> Result<Self, AuthError> {
        let name = &basic.username;
        if name.is_empty() || name.contains(|c: char| c == ':' || c.is_control()) {
            return Err(AuthError::Username);
        }
        let password = secret(&basic.password_file)?;
        if password.contains(char::is_control) {
            return Err(AuthError::Unusable { path: basic.password_file.clone() });
        }
        Ok(Self::pair(name.as_bytes(), password.as_bytes()))
    }

    fn pair(name: &[u8], password: &[u8]) -> Self {
        let encoded = base64(&[name, b":", password].concat());
        let header = format!("Basic {encoded}").into();
        let mut secrets: Vec<Box<str>> = vec![encoded.into()];
        let told = (password.len() >= SHORTEST_TOLD).then(|| String::from_utf8_lossy(password));
        secrets.extend(told.map(Into::into));
        Self { header, secrets }
    }

    /// The header's value.
    pub(super) fn header(&self) -> &str {
        &self.header
    }

    /// A fault without secrets.
    pub(super) fn redact(&self, fault: Fault) -> Fault {
        Fault { detail: self.hide(fault.detail), ..fault }
    }

    /// A text that ends where it would show a secret, or the start of one.
    pub(super) fn hide(&self, mut text: String) -> String {
        let starts = self.secrets.iter().filter_map(|secret| {
            let telling: String = secret.chars().take(TELLING).collect();
            text.find(&telling)
        });
        if let Some(start) = starts.min() {
            text.truncate(start);
            text.push_str("(credentials, not shown)");
        }
        text
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// What a file holds, without the line breaks at its end.
fn secret(path: &Path) -> Result<String, AuthError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|source| AuthError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(AuthError::Large { path: path.to_owned() });
    }
    let text =
        String::from_utf8(bytes).map_err(|_| AuthError::Unusable { path: path.to_owned() })?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(AuthError::Empty { path: path.to_owned() }),
        secret => Ok(secret.to_owned()),
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit > chunk.len() { '=' } else { char::from(DIGITS[value]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::model::Reason;

    use super::*;

    fn file(content: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    fn bearer(content: impl AsRef<[u8]>) -> Result<String, String> {
        let file = file(content);
        let path = file.path().display().to_string();
        let auth = Auth { bearer_file: Some(file.path().into()), ..Auth::default() };
        let read = Credentials::read(&auth).map(|credentials| credentials.header().to_owned());
        read.map_err(|error| error.to_string().replace(&path, "FILE"))
    }

    fn basic(username: &str, content: impl AsRef<[u8]>) -> Result<Credentials, AuthError> {
        let file = file(content);
        let basic = Basic { username: username.to_owned(), password_file: file.path().into() };
        Credentials::read(&Auth { basic: Some(basic), ..Auth::default() })
    }

    #[test]
    fn credentials_are_what_files_hold() {
        assert_eq!(bearer("abc.def\r\n\n"), Ok("Bearer abc.def".to_owned()));
        let header = |name, password: &str| basic(name, password).unwrap().header;
        assert_eq!(&*header("Aladdin", "open sesame\n"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(&*header("test", "123\u{a3}"), "Basic dGVzdDoxMjPCow==");
        assert_eq!(&*header("ab", "cde"), "Basic YWI6Y2Rl");
        assert_eq!(&*header("ab", "cd"), "Basic YWI6Y2Q=");
    }

    #[test]
    fn files_without_a_secret_are_refused() {
        let error = |content: &[u8]| bearer(content).unwrap_err();
        assert!(error(b"\r\n").starts_with("FILE is empty"));
        assert!(error(b"a b").starts_with("FILE holds what cannot be sent"));
        assert!(error(b"a\r\nX-Key: b").starts_with("FILE holds what cannot be sent"));
        assert!(error(&[0xff]).starts_with("FILE holds what cannot be sent"));
        assert!(error(&[b'a'; 9000]).starts_with("FILE is larger than 8 KiB"));
        assert!(matches!(basic("a", "b\nc"), Err(AuthError::Unusable { .. })));
        for name in ["", "a:b", "a\n"] {
            assert!(matches!(basic(name, "secret"), Err(AuthError::Username)), "{name:?}");
        }
        assert!(matches!(Credentials::read(&Auth::default()), Err(AuthError::Choice)));
        let missing = Auth { bearer_file: Some("/does/not/exist".into()), ..Auth::default() };
        let error = Credentials::read(&missing).unwrap_err().to_string();
        assert_eq!(error, "cannot read the credentials in /does/not/exist");
    }

    #[test]
    fn a_detail_ends_before_a_secret_also_if_it_is_cut() {
        let credentials = basic("ops", "hunter2hunter2").unwrap();
        let redact = |text: &str| credentials.redact(Fault::new(Reason::Body, text)).detail;
        assert_eq!(redact("as ops"), "as ops");
        assert_eq!(redact("got hunter2h..."), "got (credentials, not shown)");
        let header = credentials.header();
        assert_eq!(redact(&format!("500; {header}; x")), "500; Basic (credentials, not shown)");
        assert_eq!(format!("{credentials:?}"), "Credentials(..)");
    }
}
