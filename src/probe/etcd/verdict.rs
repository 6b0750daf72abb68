//! What the members' answers mean for the cluster; pure.
//!
//! A member is well if it answers and shares the view of its cluster, leader and term, that most
//! voters have. A cluster works as long as a majority of its voters is well.

use std::{
    cmp::{Ordering, Reverse},
    time::Duration,
};

use super::{
    SickMember, Spec,
    member::{Report, Role, Status},
};
use crate::{
    model::{Outcome, Reason},
    probe::fault::Fault,
};

/// A verdict, and whether asking again may bring another.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) result: Result<(), Fault>,
    accord: Accord,
}

/// Whether the members that answer agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accord {
    Agreed,
    /// There may be an election under way.
    Torn,
}

/// The cluster, its leader and the term, as a member sees them.
type View = (u64, u64, u64);

/// How bad something is; the worse, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// Our own fault, so that nothing is known.
    Ours,
    Warning,
    Failure,
}

/// Something that is wrong with members.
#[derive(Debug)]
struct Complaint {
    weight: Weight,
    reason: Reason,
    members: String,
    said: String,
}

impl Judged {
    pub(super) fn is_settled(&self) -> bool {
        self.accord == Accord::Agreed
    }
}

/// What the reports of all members mean.
pub(super) fn judge(spec: &Spec, reports: &[Report]) -> Judged {
    let judge = Judge { spec, reports, view: common_view(reports) };
    let mut accord = Accord::Agreed;
    let mut complaints = Vec::new();
    for report in reports {
        match &report.status {
            Err(fault) => complaints.push(judge.unknown(report, fault)),
            Ok(status) => {
                if Some(view(status)) != judge.view {
                    accord = Accord::Torn;
                    complaints.push(judge.dissent(report, status));
                }
                judge.look_at(report, status, &mut complaints);
            }
        }
    }
    complaints.sort_by_key(|complaint| Reverse(complaint.weight));
    let text = told(&complaints);
    let result = match (judge.majority(), complaints.first()) {
        (Majority::Well, None) => Ok(()),
        (Majority::Well, Some(worst)) => Err(worst.fault(text)),
        (Majority::Unknown, _) => Err(Fault::ours(text)),
        (Majority::Sick { well, of }, worst) => {
            // What keeps members from being well, and not what is wrong with those that are.
            let sick = complaints.iter().find(|c| c.weight > Weight::Ours).or(worst);
            let reason = sick.map_or(Reason::Status, |complaint| complaint.reason);
            let detail = format!("only {well} of {of} members are well and agree; {text}");
            Err(Fault::new(reason, detail))
        }
    };
    Judged { result, accord }
}

impl Complaint {
    fn fault(&self, text: String) -> Fault {
        match self.weight {
            Weight::Ours => Fault::inconclusive(self.reason, text),
            Weight::Warning => Fault::warning(self.reason, text),
            Weight::Failure => Fault::new(self.reason, text),
        }
    }
}

/// All of them in one line; what is wrong with several members alike is said once.
fn told(complaints: &[Complaint]) -> String {
    let mut groups: Vec<(String, &str)> = Vec::new();
    for complaint in complaints {
        match groups.iter_mut().find(|(_, said)| *said == complaint.said) {
            Some((members, _)) => {
                members.push_str(", ");
                members.push_str(&complaint.members);
            }
            None => groups.push((complaint.members.clone(), &complaint.said)),
        }
    }
    let texts: Vec<_> = groups.iter().map(|(members, said)| format!("{members}: {said}")).collect();
    texts.join("; ")
}

fn view(status: &Status) -> View {
    (status.cluster, status.leader, status.term)
}

/// The view that most voters have; of two the one of the later term. Nothing if no voter knows a
/// leader.
fn common_view(reports: &[Report]) -> Option<View> {
    let views: Vec<View> = reports
        .iter()
        .filter(|report| report.role == Role::Voter)
        .filter_map(|report| report.status.as_ref().ok())
        .filter(|status| status.leader != 0)
        .map(view)
        .collect();
    let votes = |view: &View| views.iter().filter(|other| *other == view).count();
    views.iter().copied().max_by_key(|view| (votes(view), view.2, *view))
}

/// Whether enough voters are well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Majority {
    Well,
    /// It depends on members that could not be asked, by our own fault.
    Unknown,
    Sick {
        well: usize,
        of: usize,
    },
}

struct Judge<'a> {
    spec: &'a Spec,
    reports: &'a [Report],
    view: Option<View>,
}

impl Judge<'_> {
    fn majority(&self) -> Majority {
        let voters = || self.reports.iter().filter(|report| report.role == Role::Voter);
        let is_well = |report: &&Report| {
            report.status.as_ref().is_ok_and(|status| Some(view(status)) == self.view)
        };
        let is_unknown = |report: &&Report| {
            report.status.as_ref().is_err_and(|f| matches!(f.outcome, Outcome::Inconclusive(_)))
        };
        let (of, well) = (voters().count(), voters().filter(is_well).count());
        let needed = of / 2 + 1;
        if well >= needed {
            Majority::Well
        } else if well + voters().filter(is_unknown).count() >= needed {
            Majority::Unknown
        } else {
            Majority::Sick { well, of }
        }
    }

    /// What a sick member weighs while a majority is well.
    fn weight(&self) -> Weight {
        match self.spec.sick_member {
            SickMember::Warning => Weight::Warning,
            SickMember::Failure => Weight::Failure,
        }
    }

    fn unknown(&self, report: &Report, fault: &Fault) -> Complaint {
        let (weight, reason) = match fault.outcome {
            Outcome::Inconclusive(reason) => (Weight::Ours, reason),
            Outcome::Warning(reason) | Outcome::Failure(reason) => (self.weight(), reason),
            Outcome::Success => (self.weight(), Reason::Protocol),
        };
        Complaint { weight, reason, members: report.place.clone(), said: fault.detail.clone() }
    }

    /// A member that does not see what most see.
    fn dissent(&self, report: &Report, status: &Status) -> Complaint {
        let said = match self.view {
            _ if status.leader == 0 => format!("knows no leader (term {})", status.term),
            Some((cluster, ..)) if cluster != status.cluster => "is of another cluster".to_owned(),
            Some((_, leader, term)) => format!(
                "follows {} in term {}, others {} in term {term}",
                self.name_of(status.leader),
                status.term,
                self.name_of(leader),
            ),
            None => "is the only one that knows a leader".to_owned(),
        };
        let (members, reason) = (report.name.clone(), Reason::Status);
        Complaint { weight: self.weight(), reason, members, said }
    }

    /// What is wrong with a member that answers.
    fn look_at(&self, report: &Report, status: &Status, complaints: &mut Vec<Complaint>) {
        let mut add = |weight, said: String| {
            let (members, reason) = (report.name.clone(), Reason::Status);
            complaints.push(Complaint { weight, reason, members, said });
        };
        for error in &status.errors {
            match alarm(error) {
                // All members tell of all alarms, so one is only passed on where it is somebody else's.
                Some((member, _)) if member != status.id && self.is_asked(member) => {}
                Some((member, kind)) if member == status.id => {
                    add(self.weight(), format!("alarm {kind}"));
                }
                // That it knows no leader has been said.
                None if status.leader == 0 => {}
                Some(_) | None => add(self.weight(), error.clone()),
            }
        }
        if let Some((weight, percent)) = self.fullness(report, status) {
            add(weight, format!("the database takes {percent}% of its quota"));
        }
        if let Some(fault) = &report.no_metrics {
            let weight = match fault.outcome {
                Outcome::Inconclusive(_) => Weight::Ours,
                Outcome::Success | Outcome::Warning(_) | Outcome::Failure(_) => Weight::Warning,
            };
            add(weight, format!("no metrics: {}", fault.detail));
        }
        for (what, limit, found) in [
            ("commits take", self.spec.max_commit_latency, report.latency.commit),
            ("fsyncs take", self.spec.max_fsync_latency, report.latency.fsync),
        ] {
            if let (Some(limit), Some(found)) = (limit, found)
                && found > limit.get()
            {
                let found = rounded(found);
                add(Weight::Warning, format!("{what} {found:?} (99th percentile), limit {limit}"));
            }
        }
    }

    /// How full a database is in percent, if that matters.
    fn fullness(&self, report: &Report, status: &Status) -> Option<(Weight, u64)> {
        let quota = report.quota?;
        let reaches = |share: f64| {
            let limit = share * float(quota);
            float(status.db_size).partial_cmp(&limit).is_some_and(Ordering::is_ge)
        };
        let weight = match (reaches(self.spec.db_failure), reaches(self.spec.db_warning)) {
            (true, _) => Weight::Failure,
            (false, true) => Weight::Warning,
            (false, false) => return None,
        };
        Some((weight, status.db_size.saturating_mul(100) / quota.max(1)))
    }

    fn status_of(&self, id: u64) -> Option<&Report> {
        let is_it = |status: &Status| status.id == id;
        self.reports.iter().find(|report| report.status.as_ref().is_ok_and(is_it))
    }

    fn is_asked(&self, id: u64) -> bool {
        self.status_of(id).is_some()
    }

    fn name_of(&self, id: u64) -> String {
        self.status_of(id).map_or_else(|| format!("{id:x}"), |report| report.name.clone())
    }
}

/// Whose alarm it is, and which: `memberID:13668033151171901709 alarm:NOSPACE`.
fn alarm(error: &str) -> Option<(u64, &str)> {
    let (member, kind) = error.split_once(' ')?;
    let member = member.strip_prefix("memberID:")?.parse().ok()?;
    Some((member, kind.trim().strip_prefix("alarm:")?))
}

/// To a hundredth of a millisecond, which is enough to read.
fn rounded(time: Duration) -> Duration {
    let step = 10_000;
    Duration::from_micros(u64::try_from(time.as_nanos() / step).unwrap_or(u64::MAX) * 10)
}

/// Sizes of databases, far below what a float holds exactly.
#[expect(clippy::cast_precision_loss, reason = "sizes of databases are far below 2^53")]
fn float(size: u64) -> f64 {
    size as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duration::Period;
    use crate::probe::etcd::latency::Latency;

    const MIB: u64 = 1 << 20;

    /// A member of three that is well, with the number n.
    fn well(n: u64) -> Report {
        let status =
            Status { cluster: 7, id: n, leader: 1, term: 5, db_size: 10 * MIB, errors: Vec::new() };
        Report {
            name: format!("etcd-{n}"),
            place: format!("etcd-{n} (at {n})"),
            role: Role::Voter,
            status: Ok(status),
            no_metrics: None,
            quota: Some(100 * MIB),
            latency: Latency::default(),
        }
    }

    fn with(n: u64, change: impl FnOnce(&mut Status)) -> Report {
        let mut report = well(n);
        change(report.status.as_mut().unwrap());
        report
    }

    fn down(n: u64) -> Report {
        let fault = Fault::new(Reason::ConnectionRefused, "refused");
        Report { status: Err(fault), ..well(n) }
    }

    fn ours(n: u64) -> Report {
        Report { status: Err(Fault::ours("no descriptors")), ..well(n) }
    }

    fn shown(spec: &Spec, reports: &[Report]) -> String {
        match judge(spec, reports).result {
            Ok(()) => "well".to_owned(),
            Err(fault) => {
                let outcome = match fault.outcome {
                    Outcome::Success => "success".to_owned(),
                    Outcome::Warning(reason) => format!("warning {reason}"),
                    Outcome::Failure(reason) => format!("failure {reason}"),
                    Outcome::Inconclusive(reason) => format!("inconclusive {reason}"),
                };
                format!("{outcome}: {}", fault.detail)
            }
        }
    }

    #[track_caller]
    fn check(reports: &[Report], expected: &str) {
        assert_eq!(shown(&Spec::default(), reports), expected);
    }

    #[test]
    fn members_that_answer_and_agree_are_well() {
        check(&[well(1), well(2), well(3)], "well");
        check(&[well(1)], "well");
        let learner = Report { role: Role::Learner, ..well(4) };
        check(&[well(1), well(2), well(3), learner], "well");
    }

    #[test]
    fn a_minority_that_does_not_answer_is_named() {
        let reports = [well(1), down(2), well(3)];
        check(&reports, "warning connection_refused: etcd-2 (at 2): refused");
        let spec = Spec { sick_member: SickMember::Failure, ..Spec::default() };
        assert_eq!(shown(&spec, &reports), "failure connection_refused: etcd-2 (at 2): refused");
        // A learner has no vote, and is missed all the same.
        let learner = Report { role: Role::Learner, ..down(2) };
        check(&[well(1), learner], "warning connection_refused: etcd-2 (at 2): refused");
    }

    #[test]
    fn without_a_majority_the_cluster_has_failed() {
        check(
            &[well(1), down(2), down(3)],
            "failure connection_refused: only 1 of 3 members are well and agree; \
             etcd-2 (at 2), etcd-3 (at 3): refused",
        );
        check(
            &[well(1), down(2)],
            "failure connection_refused: only 1 of 2 members are well and agree; etcd-2 (at 2): refused",
        );
        let lost = |n| with(n, |status| status.leader = 0);
        check(
            &[lost(1), lost(2)],
            "failure status: only 0 of 2 members are well and agree; \
             etcd-1, etcd-2: knows no leader (term 5)",
        );
    }

    #[test]
    fn members_that_do_not_agree_are_named_and_may_be_asked_again() {
        let lost = with(2, |status| status.leader = 0);
        let reports = [well(1), lost, well(3)];
        check(&reports, "warning status: etcd-2: knows no leader (term 5)");
        assert!(!judge(&Spec::default(), &reports).is_settled());
        let old = with(3, |status| (status.leader, status.term) = (3, 4));
        check(
            &[well(1), well(2), old],
            "warning status: etcd-3: follows etcd-3 in term 4, others etcd-1 in term 5",
        );
        let strange = with(3, |status| status.cluster = 8);
        check(&[well(1), well(2), strange], "warning status: etcd-3: is of another cluster");
        let new = with(2, |status| (status.leader, status.term) = (2, 6));
        check(
            &[well(1), new],
            "failure status: only 1 of 2 members are well and agree; \
             etcd-1: follows etcd-1 in term 5, others etcd-2 in term 6",
        );
        assert!(judge(&Spec::default(), &[well(1), down(2), well(3)]).is_settled());
    }

    #[test]
    fn an_alarm_is_told_once_of_the_member_that_raised_it() {
        let raised = |status: &mut Status| {
            status.errors = vec!["memberID:2 alarm:NOSPACE".to_owned()];
        };
        let reports = [with(1, raised), with(2, raised), with(3, raised)];
        check(&reports, "warning status: etcd-2: alarm NOSPACE");
        let unknown = |status: &mut Status| status.errors = vec!["it is odd".to_owned()];
        check(&[with(1, unknown), well(2)], "warning status: etcd-1: it is odd");
        // One that does not answer is spoken for by the others.
        let text = shown(&Spec::default(), &[with(1, raised), down(2), well(3)]);
        assert!(text.contains("etcd-1: memberID:2 alarm:NOSPACE"), "{text}");
    }

    #[test]
    fn a_database_that_fills_its_quota_is_a_warning_then_a_failure() {
        let sized = |size| with(1, |status| status.db_size = size * MIB);
        check(&[sized(79)], "well");
        check(&[sized(80)], "warning status: etcd-1: the database takes 80% of its quota");
        check(&[sized(95)], "failure status: etcd-1: the database takes 95% of its quota");
        check(&[Report { quota: None, ..sized(99) }], "well");
        // The worst comes first.
        check(
            &[down(3), sized(95), well(2)],
            "failure status: etcd-1: the database takes 95% of its quota; etcd-3 (at 3): refused",
        );
    }

    #[test]
    fn a_slow_disk_is_a_warning() {
        let latency = Latency {
            commit: Some(Duration::from_micros(25_123)),
            fsync: Some(Duration::from_millis(11)),
        };
        let slow = || [Report { latency, ..well(1) }];
        check(&slow(), "well");
        let limit = |millis| Some(Period::from_millis(millis));
        let spec =
            Spec { max_commit_latency: limit(25), max_fsync_latency: limit(11), ..Spec::default() };
        assert_eq!(
            shown(&spec, &slow()),
            "warning status: etcd-1: commits take 25.12ms (99th percentile), limit 25ms"
        );
        let no_metrics = Some(Fault::new(Reason::Status, "404 Not Found; expected 200-299"));
        check(
            &[Report { no_metrics, ..well(1) }],
            "warning status: etcd-1: no metrics: 404 Not Found; expected 200-299",
        );
    }

    #[test]
    fn our_own_fault_says_nothing_of_a_member() {
        check(&[well(1), well(2), ours(3)], "inconclusive internal: etcd-3 (at 3): no descriptors");
        let both = "etcd-2 (at 2): refused; etcd-3 (at 3): no descriptors";
        check(&[well(1), down(2), ours(3)], &format!("inconclusive internal: {both}"));
        check(
            &[well(1), well(2), down(4), ours(3), well(5)],
            "warning connection_refused: etcd-4 (at 4): refused; etcd-3 (at 3): no descriptors",
        );
        check(
            &[well(1), down(2), down(4), down(5), ours(3)],
            "failure connection_refused: only 1 of 5 members are well and agree; \
             etcd-2 (at 2), etcd-4 (at 4), etcd-5 (at 5): refused; etcd-3 (at 3): no descriptors",
        );
    }
}
