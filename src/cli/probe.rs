//! `rollcall probe`: one probe of one target, with everything it found.

use std::{io::Write, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::{
    api::native,
    clock,
    duration::Period,
    model::{Certificate, Observation, Outcome, Reason},
    probe::{self, Network, Probe, Prober as _, Spec, Target, egress::Policy, http},
};

use super::{Exit, ls::millis};

/// Width of the longest bar.
const BAR: f64 = 40.0;

/// Arguments of `rollcall probe`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to ask, as a URL: http://host:port/path, tcp://host:port, grpc://host:port/service; a
    /// scheme that is not known is answered with all that are.
    #[arg(value_name = "URL")]
    url: String,
    /// The longest the probe may take, name resolution included.
    #[arg(long, short, value_name = "DURATION", default_value = "2s")]
    timeout: Period,
    /// Accept any certificate.
    #[arg(long, short = 'k')]
    insecure: bool,
    /// Trust the authorities in this PEM file instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Show the certificate in this PEM file to a target that asks; needs --key.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The key of the certificate, a PEM file.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// A header to send, as 'Name: value'; may be given more than once.
    #[arg(long, short = 'H', value_name = "HEADER")]
    header: Vec<String>,
    /// The HTTP statuses that mean success [default: 200-299].
    #[arg(long, value_name = "STATUS")]
    expect: Option<http::StatusSet>,
    /// Text that the body must contain.
    #[arg(long, value_name = "TEXT")]
    body_contains: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Probes once. What it finds is in the exit code: well, struggling, or not well.
pub(super) async fn run(args: Args, out: &mut impl Write) -> anyhow::Result<Exit> {
    let target = match args.target() {
        Ok(target) => target,
        // Not a failure: that would say that the target is struggling.
        Err(error) => {
            eprintln!("rollcall: {error:#}");
            return Ok(Exit::Usage);
        }
    };
    // The operator's own tool, run with the operator's own rights.
    let network = Network::new(Policy::unrestricted());
    let found = network.probe(&target, args.timeout.get()).await;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &Report::of(&target, &found))?;
        writeln!(out)?;
    } else {
        write!(out, "{}", show(&target, &found, clock::now()))?;
    }
    Ok(match found.outcome {
        Outcome::Success => Exit::Ok,
        Outcome::Warning(_) => Exit::Failure,
        Outcome::Failure(_) | Outcome::Inconclusive(_) => Exit::Usage,
    })
}

impl Args {
    /// What is to be asked, and how.
    fn target(&self) -> anyhow::Result<Target> {
        let (spec, endpoint) =
            probe::parse_url(&self.url).with_context(|| format!("cannot probe {:?}", self.url))?;
        if self.timeout.get() == Duration::ZERO {
            bail!("--timeout must be more than zero");
        }
        let prepared =
            Probe::prepare(&self.refine(spec)?).context("cannot make the probe ready")?;
        Ok(Target::new(Arc::new(prepared), endpoint))
    }

    /// Brings the options into what the URL says.
    fn refine(&self, mut spec: Spec) -> anyhow::Result<Spec> {
        let http_only = [
            ("--header", !self.header.is_empty()),
            ("--expect", self.expect.is_some()),
            ("--body-contains", self.body_contains.is_some()),
        ];
        let given = http_only.iter().find(|(_, given)| *given);
        match spec.tls_mut() {
            Some(tls) => {
                tls.ca_file.clone_from(&self.ca);
                tls.cert_file.clone_from(&self.cert);
                tls.key_file.clone_from(&self.key);
                tls.insecure_skip_verify = self.insecure;
            }
            None if self.insecure || self.ca.is_some() || self.cert.is_some() => {
                bail!("--insecure, --ca and --cert need a URL that speaks TLS, such as https://")
            }
            None => {}
        }
        if let Spec::Http(spec) = &mut spec {
            self.refine_http(spec)?;
        } else if let Some((option, _)) = given {
            bail!("{option} is for http:// and https:// only");
        }
        Ok(spec)
    }

    fn refine_http(&self, spec: &mut http::Spec) -> anyhow::Result<()> {
        for header in &self.header {
            let (name, value) = header
                .split_once(':')
                .with_context(|| format!("--header {header:?} is not of the form 'Name: value'"))?;
            let bad = || format!("--header {header:?} cannot be sent");
            let name: http::HeaderName = name.trim().parse().with_context(bad)?;
            let value: http::HeaderValue = value.trim().parse().with_context(bad)?;
            let mut values: Vec<_> =
                spec.headers.get(&name).into_iter().flat_map(|held| held.iter().cloned()).collect();
            values.push(value);
            spec.headers.insert(name, values.into());
        }
        if let Some(expected) = &self.expect {
            spec.expected_status = expected.clone();
        }
        spec.body_contains.clone_from(&self.body_contains);
        Ok(())
    }
}

fn verdict(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Warning(_) => "warning",
        Outcome::Failure(_) => "failure",
        Outcome::Inconclusive(_) => "inconclusive",
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    target: String,
    protocol: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(flatten)]
    probe: native::Probe,
}

impl Report {
    fn of(target: &Target, found: &Observation) -> Self {
        Self {
            target: target.url(),
            protocol: target.protocol().as_str(),
            outcome: verdict(found.outcome),
            reason: found.outcome.reason().map(Reason::as_str),
            detail: found.detail.as_deref().map(str::to_owned),
            probe: native::Probe::of(found),
        }
    }
}

/// The report for people: who was asked, where the time went, and what came of it.
fn show(target: &Target, found: &Observation, now: clock::Timestamp) -> String {
    let peer = found.peer.map_or_else(|| "not resolved".to_owned(), |peer| peer.to_string());
    let mut lines = vec![format!("{} ({peer})", target.url()), String::new()];
    let longest = found.duration.as_secs_f64().max(f64::MIN_POSITIVE);
    for (phase, name) in target.protocol().phases() {
        let time = found.phases.get(*phase).as_secs_f64();
        if time > 0.0 {
            lines.push(format!("  {name:<12}{:>9}  {}", millis(time), bar(time / longest)));
        }
    }
    lines.push(format!("  {:<12}{:>9}", "total", millis(found.duration.as_secs_f64())));
    lines.push(String::new());
    lines.extend(found.certificate.iter().flat_map(|certificate| describe(certificate, now)));
    let code = native::Probe::of(found).code;
    let (verdict, code) = (verdict(found.outcome), code.map(|code| format!(" ({code})")));
    let reason = found.outcome.reason().map(|reason| format!(": {reason}"));
    let (code, reason) = (code.unwrap_or_default(), reason.unwrap_or_default());
    lines.push(format!("  {verdict}{code}{reason}"));
    lines.extend(found.detail.as_deref().map(|detail| format!("  {detail}")));
    lines.join("\n") + "\n"
}

/// A bar as long as the share, at least one character.
fn bar(share: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and the width of the longest bar"
    )]
    let width = (share.clamp(0.0, 1.0) * BAR).ceil().max(1.0) as usize;
    "█".repeat(width)
}

/// What a certificate says, and what about it should be known.
fn describe(certificate: &Certificate, now: clock::Timestamp) -> Vec<String> {
    let Certificate { start, expiry, chain_expiry, is_for_name, subject, issuer } = certificate;
    let mut lines = vec![format!("  certificate {}", expires(*expiry, now))];
    lines.push(format!("    of {subject}, signed by {issuer}"));
    if *start > now {
        lines.push(format!("    not valid before {start}"));
    }
    if chain_expiry < expiry {
        lines.push(format!("    another of its chain {}", expires(*chain_expiry, now)));
    }
    if !is_for_name {
        lines.push("    not for the name that was asked for".to_owned());
    }
    lines
}

fn expires(expiry: clock::Timestamp, now: clock::Timestamp) -> String {
    let days = |time: Duration| match time.as_secs() / 86400 {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    };
    if expiry > now {
        format!("expires {expiry}, in {}", days(expiry.since(now)))
    } else {
        format!("expired {expiry}, {} ago", days(now.since(expiry)))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::model::{Phase, Phases};

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        Command::parse_from([&["probe"], words].concat()).args
    }

    /// Answers each connection with this text.
    async fn scripted(answer: &'static str) -> (String, tokio::task::JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let read = stream.read(&mut [0; 4096]).await.unwrap();
                assert!(read > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (url, tasks)
    }

    async fn ran(words: &[&str]) -> (Exit, String) {
        let mut out = Vec::new();
        let exit = run(args(words), &mut out).await.unwrap();
        (exit, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn an_operator_may_probe_what_the_daemon_may_not() {
        let (url, _tasks) = scripted("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let (exit, text) = ran(&[&url.replace("127.0.0.1", "0.0.0.0")]).await;
        assert_eq!(exit, Exit::Ok, "{text}");
    }

    #[tokio::test]
    async fn the_exit_code_says_what_the_target_is() {
        let (url, _tasks) = scripted("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        let (exit, text) = ran(&[&url]).await;
        assert_eq!(exit, Exit::Ok, "{text}");
        assert!(text.contains("\n  success (200)\n"), "{text}");
        assert_eq!(ran(&[&url, "--expect", "204"]).await.0, Exit::Usage);
        assert_eq!(ran(&[&url, "--body-contains", "hi"]).await.0, Exit::Ok);
        assert_eq!(ran(&[&url, "--body-contains", "ho"]).await.0, Exit::Usage);
        let (url, _tasks) = scripted("HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(ran(&[&url]).await.0, Exit::Failure);
        assert_eq!(ran(&["gopher://h"]).await, (Exit::Usage, String::new()));
    }

    #[tokio::test]
    async fn json_holds_the_same() {
        let (url, _tasks) = scripted("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await;
        let (_, text) = ran(&[&url, "--json"]).await;
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["outcome"], "failure");
        assert_eq!(report["reason"], "status");
        assert_eq!(report["code"], "500");
        assert!(report["phases"]["connect"].as_f64().unwrap() > 0.0, "{text}");
    }

    #[test]
    fn an_option_that_does_not_fit_the_url_is_refused() {
        for (words, said) in [
            (&["tcp://h:1", "--expect", "200"][..], "--expect is for http:// and https:// only"),
            (
                &["http://h/", "-k"],
                "--insecure, --ca and --cert need a URL that speaks TLS, such as https://",
            ),
            (&["http://h/", "-H", "x"], "--header \"x\" is not of the form 'Name: value'"),
        ] {
            let (spec, _) = probe::parse_url(words[0]).unwrap();
            assert_eq!(args(words).refine(spec).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn headers_of_one_name_are_all_sent() {
        let (spec, _) = probe::parse_url("https://h/").unwrap();
        let args = args(&["https://h/", "-k", "-H", "A: 1", "-H", "a: 2"]);
        let Spec::Http(spec) = args.refine(spec).unwrap() else { panic!() };
        let values: Vec<_> =
            spec.headers.values().flat_map(|v| v.iter().map(http::HeaderValue::as_str)).collect();
        assert_eq!(values, ["1", "2"]);
        assert!(spec.tls.unwrap().insecure_skip_verify);
    }

    #[test]
    fn the_report_shows_where_the_time_went() {
        let (spec, endpoint) = probe::parse_url("https://h/x").unwrap();
        let target = Target::new(Arc::new(Probe::prepare(&spec).unwrap()), endpoint);
        let mut phases = Phases::default();
        phases.add(Phase::Connect, Duration::from_micros(1500));
        phases.add(Phase::Tls, Duration::from_millis(6));
        let started = clock::Timestamp::from_seconds(1_795_183_200);
        let outcome = Outcome::Failure(Reason::TlsExpired);
        let found = Observation {
            phases,
            peer: Some(std::net::SocketAddr::from(([10, 0, 0, 1], 443))),
            certificate: Some(Arc::new(Certificate {
                start: clock::Timestamp::from_seconds(1_795_000_000),
                expiry: clock::Timestamp::from_seconds(1_795_096_800),
                chain_expiry: clock::Timestamp::from_seconds(1_795_010_400),
                is_for_name: false,
                subject: "CN=shop".into(),
                issuer: "CN=ours".into(),
            })),
            detail: Some("GET https://h:443/x: certificate expired".into()),
            ..Observation::new(started, Duration::from_millis(10), outcome)
        };
        expect_test::expect![[r"
            https://h/x (10.0.0.1:443)

              connect        1.50ms  ██████
              tls            6.00ms  ████████████████████████
              total          10.0ms

              certificate expired 2026-11-19T14:00:00.000Z, 1 day ago
                of CN=shop, signed by CN=ours
                another of its chain expired 2026-11-18T14:00:00.000Z, 2 days ago
                not for the name that was asked for
              failure: tls_expired
              GET https://h:443/x: certificate expired
        "]]
        .assert_eq(&show(&target, &found, clock::Timestamp::from_seconds(1_795_183_200)));
    }
}
