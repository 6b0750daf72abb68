//! An anchor as it is configured: a URL, made ready to be asked.

use std::sync::Arc;

use crate::probe::{self, Endpoint, PrepareError, Probe, Target, UrlError};

/// Something that answers as long as the network is there.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct Anchor {
    probe: Arc<Probe>,
    endpoint: Endpoint,
}

/// A URL that cannot be an anchor.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// It cannot be probed.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// It cannot be made ready.
    #[error("{}", .0.with_causes())]
    Prepare(PrepareError),
}

impl Anchor {
    /// Who is asked.
    pub fn endpoint(&self) -> &Endpoint {
        self.probe.destination(&self.endpoint).unwrap_or(&self.endpoint)
    }

    /// The anchor, aimed.
    pub fn target(&self) -> Target {
        Target::new(Arc::clone(&self.probe), self.endpoint.clone())
    }
}

impl TryFrom<String> for Anchor {
    type Error = AnchorError;

    fn try_from(url: String) -> Result<Self, AnchorError> {
        let (spec, endpoint) = probe::parse_url(&url)?;
        let probe = Probe::prepare(&spec).map_err(AnchorError::Prepare)?;
        Ok(Self { probe: Arc::new(probe), endpoint })
    }
}
