//! One check of all the addresses of a name: each is asked, and so many must be well.
//!
//! The addresses are asked together, so that one that is silent does not take the others' time, and
//! all within the check's one timeout. The probe of one address is the same as any other: the name
//! stays what it is in TLS and in HTTP, only the look-up is left out. Nothing is kept between
//! probes, for the addresses may be others next time.

use std::{net::IpAddr, sync::Arc};

use futures_util::future::join_all;
use tokio::time::timeout_at;

use super::{
    Network, Target,
    dial::{Addresses, MAX_ASKED, Require},
    endpoint::Host,
    fault::Fault,
    resolve,
    trace::Trace,
};
use crate::model::{Outcome, Phase, Reason};

/// What came of one address.
struct Answer {
    ip: IpAddr,
    result: Result<(), Fault>,
    trace: Trace,
}

/// The name whose every address is to be asked, if that is what the check wants and it has one.
pub(super) fn name_of(target: &Target) -> Option<&Arc<str>> {
    let dial = target.probe.1.dial.as_ref()?;
    match (dial.addresses, &target.destination()?.host) {
        (Addresses::Each, Host::Name(name)) => Some(name),
        (Addresses::First, _) | (Addresses::Each, Host::Ip(_)) => None,
    }
}

/// Asks every address, and judges by how many are well.
pub(super) async fn ask(
    target: &Target,
    name: &Arc<str>,
    network: &Network,
    trace: &mut Trace,
) -> Result<(), Fault> {
    let require = trace.dial.as_ref().map(|dial| dial.require).unwrap_or_default();
    let ips = resolve::find(name, trace).await?;
    if ips.len() > MAX_ASKED {
        let count = ips.len();
        let detail =
            format!("`{name}` has {count} addresses; at most {MAX_ASKED} can be asked each");
        return Err(Fault::inconclusive(Reason::Dns, detail));
    }
    trace.enter(Phase::Connect);
    let asked = ips.into_iter().map(|ip| {
        let mut branch = trace.branch(Arc::clone(name), ip);
        // Boxed: as large as a whole probe.
        Box::pin(async move {
            let deadline = branch.deadline();
            let asked = target.ask_one(None, network, &mut branch);
            let result = match timeout_at(deadline, asked).await {
                Ok(result) => result,
                Err(_elapsed) => Err(target.expired(&branch)),
            };
            branch.end();
            Answer { ip, result, trace: branch }
        })
    });
    let answers = join_all(asked.collect::<Vec<_>>()).await;
    let verdict =
        judge(require, answers.iter().map(|answer| (answer.ip, answer.result.as_ref().err())));
    report(answers, &verdict, trace);
    verdict
}

/// What so many addresses say together. Enough successes are a success; else enough of them with
/// those that struggle are a warning; else nothing is known if those of which nothing is known could
/// have been enough.
fn judge<'a>(
    require: Require,
    answers: impl ExactSizeIterator<Item = (IpAddr, Option<&'a Fault>)>,
) -> Result<(), Fault> {
    let count = answers.len();
    let needed = require.of(count);
    let (mut warnings, mut unknown, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for (ip, fault) in answers {
        match fault.map(|fault| (fault.outcome, fault)) {
            None | Some((Outcome::Success, _)) => {}
            Some((Outcome::Warning(reason), fault)) => warnings.push((ip, reason, fault)),
            Some((Outcome::Failure(reason), fault)) => failures.push((ip, reason, fault)),
            Some((Outcome::Inconclusive(reason), fault)) => unknown.push((ip, reason, fault)),
        }
    }
    let well = count - warnings.len() - unknown.len() - failures.len();
    if well >= needed {
        return Ok(());
    }
    let first = |faults: &[(IpAddr, Reason, &Fault)]| faults.first().map(|(_, reason, _)| *reason);
    let (warned, unsure) = (well + warnings.len(), well + warnings.len() + unknown.len());
    let outcome = match (first(&warnings), first(&unknown), first(&failures)) {
        (Some(reason), _, _) if warned >= needed => Outcome::Warning(reason),
        (_, Some(reason), _) if unsure >= needed => Outcome::Inconclusive(reason),
        (_, _, Some(reason)) => Outcome::Failure(reason),
        // There are too few of them, however well they are.
        (_, _, None) => Outcome::Failure(Reason::Dns),
    };
    let mut said = vec![format!("{well} of {count} addresses are well, {needed} must be")];
    for (ip, _, fault) in failures.iter().chain(&unknown).chain(&warnings) {
        said.push(format!("{ip}: {}", fault.detail));
    }
    Err(Fault { outcome, detail: said.join("; ") })
}

/// Takes one answer for all: where all is well the slowest, else the first with the reason given.
/// The certificate that expires first counts, and the longest time for which not to ask.
fn report(answers: Vec<Answer>, verdict: &Result<(), Fault>, trace: &mut Trace) {
    let reason = verdict.as_ref().err().and_then(|fault| fault.outcome.reason());
    let certificates = answers.iter().filter_map(|answer| answer.trace.certificate());
    let certificate = certificates.min_by_key(|certificate| certificate.expiry);
    let ask_again = answers.iter().filter_map(|answer| answer.trace.ask_again).max();
    let says = |answer: &Answer| answer.result.as_ref().err().and_then(|f| f.outcome.reason());
    let mut chosen: Option<Trace> = None;
    for answer in answers {
        let is_meant = says(&answer) == reason;
        let goes_before = chosen
            .as_ref()
            .is_none_or(|chosen| reason.is_none() && answer.trace.ended() > chosen.ended());
        if is_meant && goes_before {
            chosen = Some(answer.trace);
        }
    }
    if let Some(chosen) = chosen {
        trace.adopt(chosen);
    }
    trace.set_certificate(certificate);
    trace.ask_again = ask_again;
}

#[cfg(test)]
mod tests;
