//! Each rule by itself, and all of them in random worlds ([`world`]).

use std::collections::BTreeMap;

use super::*;
use crate::share::Share;

mod world;

const SECOND: Duration = Duration::from_secs(1);

/// A check as the bench has it.
#[derive(Debug, Clone)]
struct One {
    place: Place,
    observed: Verdict,
    published: Verdict,
    evidence: Evidence,
    flips: u32,
    held: Option<Brake>,
}

/// A board with the checks it decides on, one for each instance, and a clock.
struct Bench {
    board: Board,
    now: Duration,
    confidence: Confidence,
    checks: BTreeMap<CheckKey, One>,
    told: Vec<String>,
}

fn key(instance: &str) -> CheckKey {
    CheckKey { instance: instance.parse().unwrap(), check: "http".parse().unwrap() }
}

impl Bench {
    fn new(guard: guard::Config, damping: damping::Config) -> Self {
        Self {
            board: Board::new(guard, damping),
            now: Duration::from_secs(1000),
            confidence: Confidence::Clear,
            checks: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    /// So many passing instances of a service, `web-0` and so on.
    fn with(mut self, service: &str, count: usize) -> Self {
        for n in 0..count {
            self.add(&format!("{service}-{n}"), Some(service), None);
        }
        self
    }

    fn add(&mut self, instance: &str, service: Option<&str>, zone: Option<&str>) {
        let one = One {
            place: Place {
                service: service.map(|s| s.parse().unwrap()),
                zone: zone.map(Arc::from),
            },
            observed: Verdict::Passing,
            published: Verdict::Passing,
            evidence: Evidence::Answer,
            flips: 0,
            held: None,
        };
        self.checks.insert(key(instance), one);
    }

    fn crowd(&self, place: &Place) -> Crowd {
        let instances = || self.checks.values().filter(|one| one.place.service.is_some());
        let of_service = || instances().filter(|one| one.place.service == place.service);
        Crowd {
            all: instances().count(),
            service: of_service().count(),
            service_out: of_service().filter(|one| one.published == Verdict::Critical).count(),
            zone: instances().filter(|one| one.place.zone == place.zone).count(),
        }
    }

    /// What is observed of a check changes.
    fn see(&mut self, instance: &str, observed: Verdict, evidence: Evidence) {
        let one = self.checks.get_mut(&key(instance)).unwrap();
        if (one.observed == Verdict::Critical) != (observed == Verdict::Critical) {
            one.flips += 1;
        }
        (one.observed, one.evidence) = (observed, evidence);
        self.decide(&key(instance));
    }

    fn decide(&mut self, key: &CheckKey) {
        let one = self.checks[key].clone();
        let sight = Sight {
            key,
            place: &one.place,
            observed: one.observed,
            published: one.published,
            flips: one.flips,
            evidence: one.evidence,
            is_out: false,
        };
        self.board.begin(self.now, self.confidence);
        let mut board = std::mem::replace(&mut self.board, guarded().board);
        let decision = board.decide(self.now, &sight, || self.crowd(&one.place));
        self.board = board;
        self.told.extend(decision.told.iter().map(|(what, _)| format!("{} {what}", key.instance)));
        let one = self.checks.get_mut(key).unwrap();
        (one.published, one.flips, one.held) = (decision.status, 0, decision.held);
    }

    fn fail(&mut self, instances: &[&str], evidence: Evidence) {
        for instance in instances {
            self.see(instance, Verdict::Critical, evidence);
        }
    }

    fn pass(&mut self, instances: &[&str]) {
        for instance in instances {
            self.see(instance, Verdict::Passing, Evidence::Answer);
        }
    }

    /// Time passes, second by second; what is pending is looked at again.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += SECOND;
            self.board.begin(self.now, self.confidence);
            for key in self.board.pending() {
                self.decide(&key);
            }
        }
    }

    /// The instances published as critical.
    fn out(&self) -> String {
        let out = self.checks.iter().filter(|(_, one)| one.published == Verdict::Critical);
        let out: Vec<_> = out.map(|(key, _)| key.instance.to_string()).collect();
        out.join(" ")
    }

    fn said(&mut self) -> String {
        std::mem::take(&mut self.told).join(", ")
    }
}

fn guarded() -> Bench {
    Bench::new(guard::Config::default(), damping::Config::default())
}

/// Six changes at once, of which the last is a recovery.
fn flap(bench: &mut Bench, instance: &str) {
    for _ in 0..3 {
        bench.see(instance, Verdict::Critical, Evidence::Answer);
        bench.see(instance, Verdict::Passing, Evidence::Answer);
    }
}

#[test]
fn one_failure_is_published_at_once_and_so_is_its_end() {
    let mut bench = guarded().with("web", 3);
    bench.fail(&["web-0"], Evidence::Silence);
    assert_eq!(bench.out(), "web-0");
    bench.pass(&["web-0"]);
    assert_eq!((bench.out(), bench.said()), (String::new(), String::new()));
}

#[test]
fn of_all_instances_no_more_than_their_share_goes_out_and_one_always_may() {
    let mut bench = guarded().with("a", 10).with("b", 10);
    bench.fail(&["a-0", "b-0", "a-1", "b-1"], Evidence::Silence);
    assert_eq!((bench.out(), bench.said()), ("a-0 a-1 b-0".to_owned(), "b-1 held".to_owned()));
    let mut few = guarded().with("a", 2);
    few.fail(&["a-0", "a-1"], Evidence::Silence);
    assert_eq!(few.out(), "a-0");
}

#[test]
fn of_a_service_or_zone_of_three_no_more_than_half_goes_out() {
    let mut bench = guarded().with("big", 40).with("web", 3).with("db", 2);
    bench.fail(&["web-0", "web-1", "web-2", "db-0", "db-1"], Evidence::Silence);
    assert_eq!(bench.out(), "db-0 db-1 web-0");
    assert_eq!(bench.board.limit(&key("web-1")), Some(Limit::Service));
    let mut bench = guarded().with("big", 40);
    for (service, instance) in [("a", "a-0"), ("b", "b-0"), ("c", "c-0"), ("d", "d-0")] {
        bench.add(instance, Some(service), Some("z1"));
    }
    bench.fail(&["a-0", "b-0", "c-0"], Evidence::Silence);
    assert_eq!(bench.out(), "a-0 b-0");
    assert_eq!(bench.board.limit(&key("c-0")), Some(Limit::Zone));
}

#[test]
fn what_a_client_says_is_never_held_and_exempt_services_neither() {
    let mut bench = guarded().with("web", 3);
    bench.fail(&["web-0", "web-1", "web-2"], Evidence::Word);
    assert_eq!(bench.out(), "web-0 web-1 web-2");
    let exempt = guard::Config { exempt_services: vec!["web".into()], ..Default::default() };
    let mut bench = Bench::new(exempt, damping::Config::default()).with("web", 3).with("db", 3);
    bench.fail(&["web-0", "web-1", "web-2", "db-0", "db-1"], Evidence::Silence);
    assert_eq!(bench.out(), "db-0 web-0 web-1 web-2");
}

#[test]
fn a_check_of_the_node_takes_all_out_and_is_held_unless_there_is_one() {
    let mut bench = guarded().with("web", 3);
    bench.add("_node", None, None);
    bench.fail(&["_node"], Evidence::Silence);
    assert_eq!(bench.out(), "");
    let mut bench = guarded().with("web", 1);
    bench.add("_node", None, None);
    bench.fail(&["_node"], Evidence::Silence);
    assert_eq!(bench.out(), "_node");
}

#[test]
fn what_answers_is_let_go_after_a_while_and_silence_is_not() {
    let mut bench = guarded().with("web", 3);
    bench.fail(&["web-0", "web-1"], Evidence::Answer);
    bench.fail(&["web-2"], Evidence::Silence);
    bench.wait(29);
    assert_eq!(bench.out(), "web-0");
    bench.wait(1);
    assert_eq!(bench.out(), "web-0 web-1");
    bench.wait(569);
    assert_eq!(bench.out(), "web-0 web-1");
    bench.wait(1);
    assert_eq!(bench.out(), "web-0 web-1 web-2");
    assert_eq!(bench.said(), "web-1 held, web-2 held, web-1 released, web-2 released");
    assert!(!bench.board.is_guarding());
}

#[test]
fn an_answer_counts_from_when_it_began_and_as_long_as_there_is_no_doubt() {
    let mut bench = guarded().with("web", 3);
    bench.fail(&["web-0", "web-1"], Evidence::Silence);
    bench.wait(20);
    bench.fail(&["web-1"], Evidence::Answer);
    bench.wait(20);
    bench.confidence = Confidence::Doubtful;
    bench.wait(60);
    assert_eq!(bench.out(), "web-0");
    bench.confidence = Confidence::Clear;
    bench.wait(30);
    assert_eq!(bench.out(), "web-0", "from the second on in which the doubt was gone");
    bench.wait(1);
    assert_eq!(bench.out(), "web-0 web-1");
}

#[test]
fn what_is_well_outside_confirms_whatever_kind_of_failure() {
    let mut bench = guarded().with("web", 3);
    bench.confidence = Confidence::Confirmed;
    bench.wait(100);
    bench.fail(&["web-0", "web-1"], Evidence::Silence);
    bench.wait(29);
    assert_eq!(bench.out(), "web-0");
    bench.wait(1);
    assert_eq!(bench.out(), "web-0 web-1");
}

#[test]
fn a_doubtful_daemon_takes_nothing_out_for_silence_until_it_trusts_itself() {
    let mut bench = guarded().with("web", 10);
    bench.confidence = Confidence::Doubtful;
    bench.wait(1);
    bench.fail(&["web-0", "web-1"], Evidence::Silence);
    bench.fail(&["web-2"], Evidence::Answer);
    assert_eq!(bench.out(), "web-2");
    assert_eq!(bench.board.limit(&key("web-0")), Some(Limit::Doubt));
    bench.pass(&["web-2"]);
    bench.wait(60);
    assert_eq!(bench.out(), "");
    bench.confidence = Confidence::Clear;
    bench.wait(31);
    assert_eq!(bench.out(), "web-0", "no more than there is room for");
    assert_eq!(bench.board.limit(&key("web-1")), Some(Limit::All));
}

/// Failures seen in the moment before the daemon knows that its network is gone.
#[test]
fn the_bound_of_a_hold_does_not_pass_while_the_daemon_doubts_itself() {
    let mut bench = guarded().with("web", 10);
    bench.fail(&["web-0", "web-1"], Evidence::Silence);
    assert_eq!(bench.out(), "web-0");
    bench.confidence = Confidence::Doubtful;
    bench.wait(3600);
    assert_eq!(bench.out(), "web-0", "nothing has been seen for an hour");
    let until = bench.board.standing(bench.now, &key("web-1")).held.unwrap().until;
    assert_eq!(until, bench.now + SECOND * 600);
    bench.confidence = Confidence::Clear;
    bench.wait(599);
    assert_eq!(bench.out(), "web-0");
    bench.wait(2);
    assert_eq!(bench.out(), "web-0 web-1");
}

#[test]
fn instances_that_are_gone_take_no_place_when_the_window_has_passed() {
    let mut bench = guarded().with("web", 10);
    bench.fail(&["web-0", "web-1"], Evidence::Silence);
    assert_eq!((bench.out(), bench.board.is_guarding()), ("web-0".into(), true));
    bench.wait(300);
    bench.board.bury(|id| id.as_str() == "web-0");
    bench.wait(1);
    bench.fail(&["web-1"], Evidence::Silence);
    assert_eq!(bench.out(), "web-0 web-1", "the one that is gone went out long ago");
}

#[test]
fn while_something_is_held_time_alone_makes_no_room() {
    let mut bench = guarded().with("web", 10);
    bench.fail(&["web-0", "web-1"], Evidence::Silence);
    bench.wait(300);
    bench.fail(&["web-2"], Evidence::Silence);
    assert_eq!(bench.out(), "web-0");
    // One that has come back makes room when the window has passed, for what is held first.
    bench.pass(&["web-0"]);
    bench.wait(60);
    bench.fail(&["web-3"], Evidence::Silence);
    assert_eq!(bench.out(), "web-1");
}

#[test]
fn who_begins_to_be_well_again_is_not_taken_out_on_the_way_there() {
    let mut bench = guarded().with("web", 4);
    bench.fail(&["web-0", "web-1"], Evidence::Silence);
    bench.see("web-0", Verdict::Passing, Evidence::Answer);
    // One success of the three that it takes, and no failure since.
    for _ in 0..20 {
        bench.wait(5);
        bench.see("web-1", Verdict::Critical, Evidence::Nothing);
        assert_eq!(bench.out(), "");
    }
    bench.see("web-1", Verdict::Passing, Evidence::Answer);
    assert_eq!(bench.out(), "");
}

#[test]
fn what_is_back_leaves_its_place_to_what_is_held() {
    let mut bench = guarded().with("web", 4);
    bench.fail(&["web-0", "web-1", "web-2"], Evidence::Silence);
    assert_eq!((bench.out().as_str(), bench.said().as_str()), ("web-0", "web-1 held, web-2 held"));
    bench.pass(&["web-0"]);
    bench.wait(59);
    assert_eq!(bench.out(), "", "it counts as long as the window");
    bench.wait(1);
    assert_eq!((bench.out().as_str(), bench.said().as_str()), ("web-1", "web-1 released"));
    bench.wait(500);
    assert_eq!(bench.out(), "web-1", "there is one place only");
}

#[test]
fn what_recovers_leaves_the_hold_in_silence() {
    let mut bench = guarded().with("web", 3);
    bench.fail(&["web-0", "web-1"], Evidence::Silence);
    assert_eq!(bench.said(), "web-1 held");
    bench.pass(&["web-1"]);
    assert!(!bench.board.is_guarding());
    assert_eq!(bench.said(), "");
    bench.wait(60);
    bench.fail(&["web-1"], Evidence::Silence);
    assert_eq!(bench.out(), "web-0 web-1", "the one before went out long ago");
}

#[test]
fn a_guard_that_is_turned_off_lets_go_at_once() {
    let mut bench = guarded().with("web", 3);
    bench.fail(&["web-0", "web-1"], Evidence::Silence);
    let off = guard::Config { enabled: false, ..Default::default() };
    bench.board.configure(off, damping::Config::default());
    bench.wait(1);
    assert_eq!(bench.out(), "web-0 web-1");
}

#[test]
fn the_same_asked_twice_is_answered_the_same() {
    let mut bench = guarded().with("web", 3);
    bench.fail(&["web-0"], Evidence::Silence);
    // It could not be written.
    bench.checks.get_mut(&key("web-0")).unwrap().published = Verdict::Passing;
    bench.decide(&key("web-0"));
    assert_eq!((bench.out(), bench.said()), ("web-0".to_owned(), String::new()));
}

#[test]
fn what_comes_and_goes_stays_critical_until_it_has_settled() {
    let mut bench = guarded().with("web", 4);
    flap(&mut bench, "web-0");
    assert_eq!(bench.out(), "web-0");
    assert_eq!(bench.said(), "web-0 flapping, web-0 damped");
    assert_eq!(bench.checks[&key("web-0")].held, Some(Brake::Damping));
    // 6000 points are 2000 after 1.585 half-lives.
    bench.wait(190);
    assert_eq!(bench.out(), "web-0");
    bench.wait(1);
    assert_eq!((bench.out(), bench.said()), (String::new(), "web-0 steady, web-0 released".into()));
}

#[test]
fn however_much_it_flapped_it_is_held_no_longer_than_the_bound() {
    let mut bench = guarded().with("web", 4);
    for _ in 0..50 {
        flap(&mut bench, "web-0");
    }
    assert!(bench.board.standing(bench.now, &key("web-0")).penalty < 11_400.0);
    let held = bench.board.standing(bench.now, &key("web-0")).held.unwrap();
    assert_eq!(held.until, bench.now + SECOND * 300);
    bench.wait(299);
    assert_eq!(bench.out(), "web-0");
    bench.wait(1);
    assert_eq!(bench.out(), "");
}

#[test]
fn a_lasting_outage_is_not_hidden_however_much_it_flapped() {
    let mut bench = guarded().with("web", 4);
    flap(&mut bench, "web-0");
    bench.fail(&["web-0"], Evidence::Silence);
    bench.wait(1000);
    assert_eq!(bench.out(), "web-0");
    assert!(!bench.board.standing(bench.now, &key("web-0")).is_flapping);
    bench.pass(&["web-0"]);
    assert_eq!(bench.out(), "", "it has been steady, if only steadily critical");
}

#[test]
fn a_deployment_and_an_occasional_failure_are_no_flapping() {
    let mut bench = guarded().with("web", 4);
    for _ in 0..50 {
        bench.fail(&["web-0"], Evidence::Answer);
        bench.wait(10);
        bench.pass(&["web-0"]);
        bench.wait(110);
    }
    assert_eq!(bench.said(), "");
}

#[test]
fn the_last_of_a_service_is_never_kept_out_nor_more_than_half_of_it() {
    let mut bench = guarded().with("lone", 1).with("web", 3).with("big", 40);
    flap(&mut bench, "lone-0");
    for instance in ["web-0", "web-1", "web-2"] {
        flap(&mut bench, instance);
    }
    assert_eq!(bench.out(), "web-0");
    assert!(bench.board.standing(bench.now, &key("lone-0")).is_flapping);
    // When others die, it is let in again.
    bench.fail(&["web-1"], Evidence::Word);
    bench.wait(1);
    assert_eq!(bench.out(), "web-1");
}

#[test]
fn what_a_client_says_is_not_damped() {
    let mut bench = guarded().with("web", 4);
    for _ in 0..10 {
        bench.see("web-0", Verdict::Critical, Evidence::Word);
        bench.see("web-0", Verdict::Passing, Evidence::Word);
        assert_eq!(bench.out(), "");
    }
    assert_eq!(bench.said(), "web-0 flapping");
}

#[test]
fn what_has_not_changed_for_long_is_forgotten() {
    let mut bench = guarded().with("web", 4);
    flap(&mut bench, "web-0");
    bench.wait(3600);
    assert!(bench.board.is_idle());
    assert_eq!(bench.board.counts(), Counts::default());
}

#[test]
fn a_check_that_is_gone_leaves_nothing_behind() {
    let mut bench = guarded().with("web", 4);
    flap(&mut bench, "web-0");
    bench.fail(&["web-1", "web-2"], Evidence::Silence);
    for instance in ["web-0", "web-1", "web-2"] {
        bench.board.forget(bench.now, &key(instance));
    }
    assert!(bench.board.is_idle());
}

#[test]
fn figures_that_could_never_damp_are_known() {
    assert!(damping::Config::default().is_consistent());
    let high = damping::Config { suppress: 20_000, ..Default::default() };
    assert!(!high.is_consistent(), "above the ceiling");
    let crossed = damping::Config { reuse: 6000, ..Default::default() };
    assert!(!crossed.is_consistent());
}
