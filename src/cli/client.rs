//! The client of the daemon's HTTP API: one request, one connection.

use std::{fmt, str::FromStr, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest answer taken: the list of a hundred thousand checks is a tenth of this.
const MAX_BODY: usize = 512 << 20;

/// Longest text of the daemon that is passed on, in characters.
const MAX_TEXT: usize = 4096;

const STRANGE: &str =
    "an answer that is not rollcall's; is it another program, or another version?";

/// Largest line of a stream.
const MAX_LINE: usize = 1 << 20;

/// Which daemon to ask.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Client {
    /// Where the daemon's HTTP API listens.
    #[arg(
        id = "http_addr",
        long = "http-addr",
        value_name = "ADDR:PORT",
        env = "ROLLCALL_HTTP_ADDR",
        default_value = "127.0.0.1:8500"
    )]
    address: Address,
}

/// `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address(String);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Address {
    type Err = &'static str;

    /// Takes what Consul's tools take: with or without `http://`, with or without a slash behind.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("https://") {
            return Err("TLS is not supported; use http:// or ADDR:PORT");
        }
        let text = text.strip_prefix("http://").unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        let uri: http::uri::Authority = text.parse().map_err(|_| "write ADDR:PORT")?;
        match uri.port_u16() {
            Some(port) if port > 0 && !uri.host().is_empty() => Ok(Self(text.to_owned())),
            Some(_) | None => Err("write ADDR:PORT, as in 127.0.0.1:8500"),
        }
    }
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    method: Method,
    path: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: Bytes,
    patience: Duration,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// Who gives it.
    from: String,
    pub(super) status: StatusCode,
    /// The state it shows, where the daemon numbers its states.
    pub(super) index: Option<u64>,
    pub(super) body: Bytes,
}

/// The daemon was reached and may have done what it was asked, but there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0} has closed the connection before it answered")]
pub(super) struct Lost(String);

/// An answer's body, line by line.
#[derive(Debug)]
pub(super) struct Lines {
    body: Incoming,
    rest: Vec<u8>,
    /// Drives the connection.
    _connection: JoinSet<()>,
}

impl<'a> Call<'a> {
    pub(super) fn get(path: &'a str) -> Self {
        Self::new(Method::GET, path, Bytes::new())
    }

    pub(super) fn put(path: &'a str, body: impl Into<Bytes>) -> Self {
        Self::new(Method::PUT, path, body.into())
    }

    pub(super) fn delete(path: &'a str) -> Self {
        Self::new(Method::DELETE, path, Bytes::new())
    }

    fn new(method: Method, path: &'a str, body: Bytes) -> Self {
        Self { method, path, headers: Vec::new(), body, patience: PATIENCE }
    }

    pub(super) fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Gives the daemon this much more time: it was asked to wait.
    pub(super) fn patient(mut self, wait: Duration) -> Self {
        self.patience += wait;
        self
    }
}

impl Answer {
    /// Who says what, for people.
    pub(super) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let text: String = text.trim().chars().take(MAX_TEXT).collect();
        let colon = if text.is_empty() { "" } else { ": " };
        format!("{} answered {}{colon}{text}", self.from, self.status)
    }

    /// The body of a success.
    pub(super) fn success(self) -> anyhow::Result<Bytes> {
        if self.status != StatusCode::OK {
            bail!("{}", self.text());
        }
        Ok(self.body)
    }

    /// The JSON of a success.
    pub(super) fn json<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        let strange = format!("{} gave {STRANGE}", self.from);
        serde_json::from_slice(&self.success()?).context(strange)
    }
}

impl Client {
    /// Asks for JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let (response, _connection) = self.get(path, &[]).await?;
        let body = self.body(response).await?;
        serde_json::from_slice(&body).with_context(|| format!("{self} gave {STRANGE}"))
    }

    /// Asks anything, and takes any answer. Fails with [`Lost`] if the daemon goes away in between.
    pub(super) async fn call(&self, call: &Call<'_>) -> anyhow::Result<Answer> {
        let (response, _connection) = self.send(call).await?;
        let status = response.status();
        let index = response.headers().get("x-consul-index");
        let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
        Ok(Answer { from: self.to_string(), status, index, body: self.body(response).await? })
    }

    /// Asks for a stream of events, from behind `seen` on.
    pub(super) async fn events(&self, path: &str, seen: Option<&str>) -> anyhow::Result<Lines> {
        let mut headers = vec![(header::ACCEPT.as_str(), "text/event-stream")];
        headers.extend(seen.map(|seen| ("last-event-id", seen)));
        let (response, connection) = self.get(path, &headers).await?;
        Ok(Lines { body: response.into_body(), rest: Vec::new(), _connection: connection })
    }

    async fn get(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<(Response<Incoming>, JoinSet<()>)> {
        let call = Call { headers: headers.to_vec(), ..Call::get(path) };
        let (response, connection) = self.send(&call).await?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            bail!("{self} answered {status} to {path}: {}", text(response).await.trim());
        }
        Ok((response, connection))
    }

    async fn send(&self, call: &Call<'_>) -> anyhow::Result<(Response<Incoming>, JoinSet<()>)> {
        let stream = self.connect().await?;
        let (mut sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .with_context(|| format!("{self} does not speak HTTP"))?;
        let mut connection = JoinSet::new();
        // How the connection ended shows in the answer.
        connection.spawn(async move { drop(driver.await) });
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(call.path)
            .header(header::HOST, &self.address.0);
        for (name, value) in &call.headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(call.body.clone()))?;
        let patience = call.patience;
        let response = match timeout(patience, sender.send_request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_parse() => {
                return Err(error).context(format!("{self} does not speak HTTP"));
            }
            Ok(Err(_)) => return Err(Lost(self.to_string()).into()),
            Err(_) => bail!("{self} has not answered within {patience:?}"),
        };
        Ok((response, connection))
    }

    async fn body(&self, response: Response<Incoming>) -> anyhow::Result<Bytes> {
        let body = Limited::new(response.into_body(), MAX_BODY).collect();
        match timeout(PATIENCE, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if !error.is::<LengthLimitError>() => {
                Err(anyhow::Error::new(Lost(self.to_string())))
            }
            Ok(Err(_)) | Err(_) => bail!("{self} broke its answer off"),
        }
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let connected = timeout(PATIENCE, TcpStream::connect(&self.address.0)).await;
        let hint = "is the daemon running?";
        let error = match connected {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                "connection refused".to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no connection within {PATIENCE:?}"),
        };
        bail!("cannot reach {self}: {error}; {hint}")
    }
}

/// `rollcall at 127.0.0.1:8500`.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rollcall at {}", self.address)
    }
}

/// A name as it is written in a path: all that has a meaning there is escaped, slashes too.
pub(super) fn escape(name: &str) -> String {
    // A form's plus sign means a blank only in queries.
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

/// A duration as Consul's API reads it: days are not known there.
pub(super) fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

/// Enough of a text answer to show.
async fn text(response: Response<Incoming>) -> String {
    let body = Limited::new(response.into_body(), 4096).collect();
    match timeout(PATIENCE, body).await {
        Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Ok(Err(_)) | Err(_) => String::new(),
    }
}

impl Lines {
    /// The next line, without its end; nothing at the end of the stream.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                return Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()));
            }
            if self.rest.len() > MAX_LINE {
                bail!("a line of the stream is longer than {MAX_LINE} bytes");
            }
            match self.body.frame().await {
                Some(frame) => {
                    let data = frame?.into_data();
                    self.rest.extend_from_slice(&data.unwrap_or_default());
                }
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_as_consuls_tools_take_it() {
        let parse = |text: &str| text.parse::<Address>().map(|address| address.0);
        assert_eq!(parse("127.0.0.1:8500"), Ok("127.0.0.1:8500".to_owned()));
        assert_eq!(parse("http://roll.example:80/"), Ok("roll.example:80".to_owned()));
        assert_eq!(parse("http://[::1]:8500"), Ok("[::1]:8500".to_owned()));
        assert!(parse("https://roll.example:443").is_err());
        assert!(parse("roll.example").is_err());
        assert!(parse("http://roll.example:80/path").is_err());
    }

    #[test]
    fn names_and_durations_are_written_for_the_api() {
        assert_eq!(escape("a/b c+d%é:1"), "a%2Fb%20c%2Bd%25%C3%A9%3A1");
        assert_eq!(duration(Duration::from_secs(90)), "90s");
        assert_eq!(duration(Duration::from_millis(1500)), "1500ms");
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = Client { address: free.to_string().parse().unwrap() };
        let error = client.json::<()>("/").await.unwrap_err().to_string();
        let said =
            format!("cannot reach rollcall at {free}: connection refused; is the daemon running?");
        assert_eq!(error, said);
    }
}
