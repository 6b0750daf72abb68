//! What a lock asks of the daemon: sessions, and keys that are held by them.

use std::time::Duration;

use anyhow::Context as _;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::super::{
    client::{self, Call, Client},
    kv::{self, Pair},
};

/// The flags of a key that is a lock, as Consul's Go client sets them.
pub(super) const LOCK_FLAGS: u64 = 3_304_740_253_564_472_344;

/// The daemon, as far as locks need it. The seam that tests replace.
pub(super) trait Store {
    /// Creates a session and tells its id.
    fn create(&self, session: &NewSession) -> impl Future<Output = anyhow::Result<String>>;

    /// Gives a session its whole TTL again.
    fn renew(&self, session: &str) -> impl Future<Output = anyhow::Result<Renewal>>;

    /// Ends a session, with all it holds.
    fn destroy(&self, session: &str) -> impl Future<Output = anyhow::Result<()>>;

    /// Reads a key as the leader knows it; with `since`, as soon as it has changed.
    fn read(&self, key: &str, since: Option<Since>) -> impl Future<Output = anyhow::Result<State>>;

    /// Makes the session the key's holder; false if that cannot be now.
    fn acquire(&self, claim: &Claim) -> impl Future<Output = anyhow::Result<bool>>;

    /// Makes the key free; false if the session does not hold it.
    fn release(&self, claim: &Claim) -> impl Future<Output = anyhow::Result<bool>>;
}

/// A session to be created. It is also bound to the node's own health, by the daemon's default.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NewSession {
    name: String,
    #[serde(rename = "TTL")]
    ttl: String,
    lock_delay: String,
    behavior: &'static str,
}

impl NewSession {
    pub(super) fn new(
        name: &str,
        ttl: impl Into<Duration>,
        lock_delay: impl Into<Duration>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            ttl: client::duration(ttl.into()),
            lock_delay: client::duration(lock_delay.into()),
            behavior: "release",
        }
    }
}

/// Who wants which key.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) key: String,
    pub(super) session: String,
    /// For people: the value of the key while it is held, and after.
    pub(super) holder: String,
}

/// What has become of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    Renewed,
    Gone,
}

/// What the reader knows already, and how long it may wait for something else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    pub(super) index: u64,
    pub(super) wait: Duration,
}

/// A key, if there is one, and the state it was read in.
#[derive(Debug)]
pub(super) struct State {
    pub(super) pair: Option<Pair>,
    pub(super) index: u64,
}

impl State {
    /// Who holds the key.
    pub(super) fn session(&self) -> Option<&str> {
        self.pair.as_ref()?.session.as_deref().filter(|session| !session.is_empty())
    }
}

impl Store for Client {
    async fn create(&self, session: &NewSession) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "UPPERCASE")]
        struct Created {
            id: String,
        }
        let body = serde_json::to_vec(session)?;
        let answer = self.call(&Call::put("/v1/session/create", body)).await?;
        Ok(answer.json::<Created>()?.id)
    }

    async fn renew(&self, session: &str) -> anyhow::Result<Renewal> {
        let path = format!("/v1/session/renew/{}", client::escape(session));
        let answer = self.call(&Call::put(&path, "")).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Renewal::Gone);
        }
        answer.success()?;
        Ok(Renewal::Renewed)
    }

    async fn destroy(&self, session: &str) -> anyhow::Result<()> {
        let path = format!("/v1/session/destroy/{}", client::escape(session));
        self.call(&Call::put(&path, "")).await?.success().map(drop)
    }

    async fn read(&self, key: &str, since: Option<Since>) -> anyhow::Result<State> {
        // Without a wait of its own the daemon takes five minutes.
        let wait = since.map_or(Duration::ZERO, |since| since.wait.max(Duration::from_millis(1)));
        let index = since.map(|since| since.index.to_string());
        let millis = format!("{}ms", wait.as_millis());
        let mut parameters = vec![("consistent", "")];
        if let Some(index) = &index {
            parameters.extend([("index", index.as_str()), ("wait", &millis)]);
        }
        let path = kv::path(key, &parameters);
        // The daemon adds up to a sixteenth.
        let call = Call::get(&path).patient(wait + wait / 16);
        let answer = self.call(&call).await?;
        let index = answer.index;
        let pair = kv::pair(answer)?;
        Ok(State { pair, index: index.context("the answer has no X-Consul-Index")? })
    }

    async fn acquire(&self, claim: &Claim) -> anyhow::Result<bool> {
        claim_by(self, claim, "acquire").await
    }

    async fn release(&self, claim: &Claim) -> anyhow::Result<bool> {
        claim_by(self, claim, "release").await
    }
}

async fn claim_by(client: &Client, claim: &Claim, verb: &str) -> anyhow::Result<bool> {
    let flags = LOCK_FLAGS.to_string();
    let path = kv::path(&claim.key, &[(verb, &claim.session), ("flags", &flags)]);
    client.call(&Call::put(&path, claim.holder.clone())).await?.json()
}
