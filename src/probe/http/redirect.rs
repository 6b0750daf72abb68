//! Follows redirects, with care: what the configuration told us to send to one origin is not sent
//! to another, and https is never left for http. Headers are left out on the way to another origin;
//! a redirect (307, 308) that would have a body sent there is not followed, because the request
//! would not be the same without it.

use url::Url;

use super::{
    Probe,
    body::After,
    exchange::{Origin, Received, Route},
    head::Body,
    request::Request,
    session::{self, Outgoing, Rendering},
    verdict,
};
use crate::probe::{
    endpoint::Endpoint,
    fault::Fault,
    trace::Trace,
    url::{HttpUrl, Scheme, UrlError},
};

/// Where the walk stands.
struct Walk<'a> {
    at: HttpUrl,
    method: &'a str,
    body: &'a str,
    origin: Origin,
}

/// Goes where `answer` points, as often as allowed, and judges the last answer.
pub(super) async fn follow(
    probe: &Probe,
    instance: &Endpoint,
    mut answer: Received,
    trace: &mut Trace,
) -> Result<(), Fault> {
    let spec = &probe.spec;
    let mut walk = Walk {
        at: HttpUrl {
            scheme: probe.scheme,
            endpoint: spec.endpoint(instance).clone(),
            path: spec.path().clone(),
        },
        method: spec.method.as_str(),
        body: &spec.body,
        origin: Origin::Own,
    };
    for _ in 0..spec.follow_redirects {
        let Some(location) = &answer.head.location else { break };
        if let Err(refusal) = walk.step(location, answer.head.status) {
            return verdict::judge(spec, &answer, trace)
                .map_err(|fault| note(fault, &format!("; not followed: {refusal}")));
        }
        let hop = |fault| note(fault, &format!("; after a redirect to {}", walk.at));
        answer = session::ask(probe, walk.outgoing(probe), trace).await.map_err(hop)?;
    }
    let left = if answer.head.location.is_some() { "the last allowed" } else { "a" };
    verdict::judge(spec, &answer, trace)
        .map_err(|fault| note(fault, &format!("; after {left} redirect, to {}", walk.at)))
}

impl Walk<'_> {
    /// Moves on to where an answer points, or says why not.
    fn step(&mut self, location: &str, status: u16) -> Result<(), String> {
        let next = resolve(&self.at, location).map_err(|error| error.to_string())?;
        if self.at.scheme == Scheme::Https && next.scheme == Scheme::Http {
            return Err(format!("{next} leaves https"));
        }
        let is_own = next.scheme == self.at.scheme && next.endpoint.is_at(&self.at.endpoint);
        let is_foreign = !is_own;
        // 303 asks for GET; for 301 and 302 after POST everybody does the same (RFC 9110, 15.4.2).
        let becomes_get = match status {
            303 => self.method != "HEAD",
            301 | 302 => self.method == "POST",
            _ => false,
        };
        if becomes_get {
            (self.method, self.body) = ("GET", "");
        }
        if is_foreign && !self.body.is_empty() {
            return Err(format!("the request's body is not for {next}"));
        }
        if is_foreign {
            self.origin = Origin::Foreign;
        }
        self.at = next;
        Ok(())
    }

    fn outgoing<'a>(&'a self, probe: &'a Probe) -> Outgoing<'a> {
        let spec = &probe.spec;
        let is_own = self.origin == Origin::Own;
        Outgoing {
            request: Request {
                method: self.method,
                path: self.at.path.as_str(),
                host: spec.host.as_ref().filter(|_| is_own),
                headers: is_own.then_some(&spec.headers),
                credentials: probe.credentials.as_ref().filter(|_| is_own),
                body: self.body,
                after: After::Close,
                form: spec.form,
            },
            route: Route {
                endpoint: &self.at.endpoint,
                scheme: self.at.scheme,
                origin: self.origin,
                body: if self.method == "HEAD" { Body::Forbidden } else { Body::Allowed },
            },
            rendering: Rendering::Made,
        }
    }
}

fn resolve(base: &HttpUrl, location: &str) -> Result<HttpUrl, UrlError> {
    let syntax = |error: url::ParseError| UrlError::Syntax(error.to_string());
    let mut url =
        Url::parse(&base.to_string()).and_then(|base| base.join(location)).map_err(syntax)?;
    url.set_fragment(None);
    HttpUrl::try_from(&url)
}

fn note(mut fault: Fault, note: &str) -> Fault {
    fault.detail.push_str(note);
    fault
}
