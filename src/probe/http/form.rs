//! In whose words a check speaks: what its request says of itself.

/// Whose form a check has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Our own.
    #[default]
    Own,
    /// Consul's.
    Consul,
}

impl Form {
    /// The headers that say who asks and what it takes, unless the check says it.
    pub(super) fn headers(self) -> [(&'static str, &'static str); 2] {
        const AGENT: &str = concat!("rollcall/", env!("CARGO_PKG_VERSION"));
        let (agent, accept) = match self {
            Self::Own => (AGENT, "*/*"),
            Self::Consul => ("Consul Health Check", "text/plain, text/*, */*"),
        };
        [("User-Agent", agent), ("Accept", accept)]
    }
}
