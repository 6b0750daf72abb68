//! `rollcall probe`: one probe of one target, with everything it found; from here, or by the daemon.

use std::{io::Write, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};

use crate::{
    api::native::{self, Report},
    clock,
    duration::Period,
    probe::{self, Network, Probe, Prober as _, Protocol, Spec, Target, egress::Policy, http},
};

use super::{
    Exit,
    client::{Call, Client, escape},
    explain,
    ls::millis,
};

/// Width of the longest bar.
const BAR: f64 = 40.0;

/// Arguments of `rollcall probe`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to ask, as a URL: http://host:port/path, tcp://host:port, grpc://host:port/service; a
    /// scheme that is not known is answered with all that are.
    #[arg(value_name = "URL", required_unless_present = "check", conflicts_with = "check")]
    url: Option<String>,
    /// Let the daemon ask the target of this check (`instance:check`, or its id in Consul's API) now,
    /// as the check says and by the daemon's own egress policy. No status, count or schedule changes.
    #[arg(
        long,
        value_name = "ID",
        conflicts_with_all = [
            "timeout", "insecure", "ca", "cert", "key", "header", "expect", "body_contains"
        ]
    )]
    check: Option<String>,
    #[command(flatten)]
    client: Client,
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
    let asked = match &args.check {
        Some(id) => ask_daemon(&args.client, id).await,
        None => args.ask().await,
    };
    let report = match asked {
        Ok(report) => report,
        // Not a failure: that would say that the target is struggling.
        Err(error) => {
            eprintln!("rollcall: {error:#}");
            return Ok(Exit::Usage);
        }
    };
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", show(&report, clock::now()))?;
    }
    Ok(match &*report.attempt.outcome {
        "success" => Exit::Ok,
        "warning" => Exit::Failure,
        _ => Exit::Usage,
    })
}

/// Has the daemon ask the target of a check.
async fn ask_daemon(client: &Client, id: &str) -> anyhow::Result<Report> {
    // How long that may take is the check's business.
    let checks = explain::ask(client, id).await?;
    let seconds = checks.iter().map(|check| check.timeout_seconds).fold(0.0, f64::max);
    let timeout = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let path = format!("{}{}", native::PROBE, escape(id));
    client.call(&Call::put(&path, "").patient(timeout)).await?.json()
}

impl Args {
    /// Asks from here.
    async fn ask(&self) -> anyhow::Result<Report> {
        let target = self.target()?;
        // The operator's own tool, run with the operator's own rights.
        let network = Network::new(Policy::unrestricted());
        let found = network.probe(&target, self.timeout.get()).await;
        Ok(Report::of(&target, &found))
    }

    /// What is to be asked, and how.
    fn target(&self) -> anyhow::Result<Target> {
        let url = self.url.as_deref().context("a URL is missing")?;
        let (spec, endpoint) =
            probe::parse_url(url).with_context(|| format!("cannot probe {url:?}"))?;
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

/// The report for people: who was asked, where the time went, and what came of it.
fn show(report: &Report, now: clock::Timestamp) -> String {
    let attempt = &report.attempt;
    let probe = &attempt.probe;
    let peer = probe.peer.as_deref().unwrap_or("not resolved");
    let mut lines = vec![format!("{} ({peer})", report.target), String::new()];
    let longest = probe.duration_seconds.max(f64::MIN_POSITIVE);
    for (phase, name) in Protocol::named(&report.protocol).map_or(&[][..], Protocol::phases) {
        if let Some(time) = probe.phases.get(phase.as_str()) {
            lines.push(format!("  {name:<12}{:>9}  {}", millis(*time), bar(time / longest)));
        }
    }
    lines.push(format!("  {:<12}{:>9}", "total", millis(probe.duration_seconds)));
    lines.push(String::new());
    let certificate = certificate(probe, now).into_iter().enumerate();
    lines.extend(certificate.map(|(at, line)| match at {
        0 => format!("  certificate {line}"),
        _ => format!("    {line}"),
    }));
    let code = probe.code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
    let reason = attempt.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    lines.push(format!("  {}{code}{reason}", attempt.outcome));
    lines.extend(attempt.detail.as_deref().map(|detail| format!("  {detail}")));
    lines.join("\n") + "\n"
}

/// A moment as the API writes it.
pub(super) fn moment(text: &str) -> Option<clock::Timestamp> {
    let moment = text.parse::<jiff::Timestamp>().ok()?;
    Some(clock::Timestamp::from_millis(moment.as_millisecond()))
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

/// What a certificate says, and what about it should be known: a line, and further ones that belong
/// to it.
pub(super) fn certificate(probe: &native::Probe, now: clock::Timestamp) -> Vec<String> {
    let Some(expiry) = probe.certificate_expiry.as_deref().and_then(moment) else {
        return Vec::new();
    };
    let mut lines = vec![expires(expiry, now)];
    let Some(certificate) = &probe.certificate else { return lines };
    lines.push(format!("of {}, signed by {}", certificate.subject, certificate.issuer));
    if moment(&certificate.start).is_some_and(|start| start > now) {
        lines.push(format!("not valid before {}", certificate.start));
    }
    if let Some(chain) = moment(&certificate.chain_expiry).filter(|chain| *chain < expiry) {
        lines.push(format!("another of its chain {}", expires(chain, now)));
    }
    if !certificate.is_for_name {
        lines.push("not for the name that was asked for".to_owned());
    }
    lines
}

pub(super) fn expires(expiry: clock::Timestamp, now: clock::Timestamp) -> String {
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
    use crate::{
        cli::testing,
        model::{Certificate, Observation, Outcome, Phase, Phases, Reason},
    };

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

    #[tokio::test]
    async fn the_daemon_is_asked_for_a_check_with_patience_and_says_what_it_found() {
        let explained = "[]";
        let report = r#"{"target": "http://h/", "protocol": "http", "outcome": "failure",
            "reason": "status", "detail": "GET http://h/: 500", "code": "500",
            "started": "2026-11-20T14:00:00.000Z", "duration_seconds": 0.01, "peer": "10.0.0.1:80",
            "phases": {"connect": 0.01}}"#;
        let answers = [(200, explained), (200, report)];
        let (exit, text, asked) = testing::run(&["probe", "--check", "web-1:http"], &answers).await;
        assert_eq!(exit, Ok(Exit::Usage));
        assert_eq!(
            asked,
            ["GET /v1/rollcall/explain/web-1%3Ahttp", "PUT /v1/rollcall/probe/web-1%3Ahttp"]
        );
        assert!(text.starts_with("http://h/ (10.0.0.1:80)\n"), "{text}");
        assert!(text.ends_with("  failure (500): status\n  GET http://h/: 500\n"), "{text}");
        let (exit, text, _) = testing::run(&["probe", "--check", "x"], &[(404, "none")]).await;
        assert_eq!((exit, &*text), (Ok(Exit::Usage), ""));
    }

    #[test]
    fn a_check_and_what_is_said_of_a_url_do_not_go_together() {
        for words in [
            &["probe"][..],
            &["probe", "http://h/", "--check", "x"],
            &["probe", "--check", "x", "-k"],
        ] {
            Command::try_parse_from(words).unwrap_err();
        }
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
        .assert_eq(&show(
            &Report::of(&target, &found),
            clock::Timestamp::from_seconds(1_795_183_200),
        ));
    }
}
