//! Why a check cannot be made ready.

use super::{http, tls};

/// A check that cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Fields that cannot be so, alone or together.
    #[error("{0}")]
    Conflict(&'static str),
    /// A piece of metadata cannot be sent.
    #[error("the metadata `{0}` cannot be sent")]
    Metadata(String),
    /// Credentials cannot be used.
    #[error(transparent)]
    Auth(#[from] http::AuthError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::PrepareError),
}

impl PrepareError {
    /// What is wrong with its causes, in one line.
    pub fn with_causes(&self) -> String {
        std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ")
    }
}
