//! `rollcall probe`: one probe of one target, with everything it found.

use std::{io::Write, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::{
    api::native,
    clock,
    duration::Period,
    model::{Observation, Outcome, Protocol},
    probe::{self, Network, Probe, Prober as _, Spec, Target, http, tls},
};

use super::{Exit, ls::millis};

/// Width of the longest bar.
const BAR: f64 = 40.0;

/// Arguments of `rollcall probe`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to ask: http://, https://, tcp://, tls://, grpc:// or grpcs://.
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
    let (spec, endpoint) =
        probe::parse_url(&args.url).with_context(|| format!("cannot probe {:?}", args.url))?;
    if args.timeout.get() == Duration::ZERO {
        bail!("--timeout must be more than zero");
    }
    let spec = args.refine(spec)?;
    let prepared = Probe::prepare(&spec).context("cannot make the probe ready")?;
    let target = Target::new(Arc::new(prepared), endpoint);
    let found = Network::default().probe(&target, args.timeout.get()).await;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &Report::of(&target, &found))?;
        writeln!(out)?;
    } else {
        write!(out, "{}", show(&target, &found, clock::now()))?;
    }
    Ok(match found.outcome {
        Outcome::Success => Exit::Ok,
        Outcome::Warning(_) => Exit::Failure,
        Outcome::Failure(_) => Exit::Usage,
    })
}

impl Args {
    /// Brings the options into what the URL says.
    fn refine(&self, spec: Spec) -> anyhow::Result<Spec> {
        let http_only = [
            ("--header", !self.header.is_empty()),
            ("--expect", self.expect.is_some()),
            ("--body-contains", self.body_contains.is_some()),
        ];
        let wrong = http_only.iter().find(|(_, given)| *given);
        if let (Some((option, _)), Protocol::Tcp | Protocol::Grpc) = (wrong, spec.protocol()) {
            bail!("{option} is for http:// and https:// only");
        }
        Ok(match spec {
            Spec::Http(mut spec) => {
                if spec.https {
                    spec.tls = self.tls(spec.tls)?;
                } else {
                    self.tls(None)?;
                }
                self.refine_http(&mut spec)?;
                Spec::Http(spec)
            }
            Spec::Tcp(mut spec) => {
                spec.tls = self.tls(spec.tls)?;
                Spec::Tcp(spec)
            }
            Spec::Grpc(mut spec) => {
                spec.tls = self.tls(spec.tls)?;
                Spec::Grpc(spec)
            }
        })
    }

    fn tls(&self, spec: Option<tls::Spec>) -> anyhow::Result<Option<tls::Spec>> {
        let asked = self.insecure || self.ca.is_some();
        match spec {
            None if asked => bail!("--insecure and --ca need https://, tls:// or grpcs://"),
            None => Ok(None),
            Some(spec) => Ok(Some(tls::Spec {
                ca_file: self.ca.clone(),
                insecure_skip_verify: self.insecure,
                ..spec
            })),
        }
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
            reason: found.outcome.reason().map(|reason| reason.as_str()),
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
    if let Some(expiry) = found.certificate_expiry {
        lines.push(format!("  certificate {}", expires(expiry, now)));
    }
    let code = native::Probe::of(found).code;
    let (verdict, code) = (verdict(found.outcome), code.map(|code| format!(" ({code})")));
    let mut last = format!("  {verdict}{}", code.unwrap_or_default());
    if let Some(reason) = found.outcome.reason() {
        last.push_str(&format!(": {reason}"));
    }
    lines.push(last);
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

fn expires(expiry: clock::Timestamp, now: clock::Timestamp) -> String {
    let days = |time: Duration| time.as_secs() / 86400;
    if expiry > now {
        format!("expires {expiry}, in {} days", days(expiry.since(now)))
    } else {
        format!("expired {expiry}, {} days ago", days(now.since(expiry)))
    }
}
