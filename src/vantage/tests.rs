//! The canary over real sockets; the anchors on paused time with a prober that plays them.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;
use crate::{
    clock::Timestamp,
    doubt::Confidence,
    model::{Observation, Reason},
    probe::{Held, Network, egress::Policy},
};

/// Plays the canary and the anchors; whoever is asked answers after 10 ms, or hangs.
#[derive(Debug, Clone, Default)]
struct Played {
    canary_fails: Arc<AtomicBool>,
    anchors_hang: Arc<AtomicBool>,
}

impl Prober for Played {
    async fn hold(&self, _: &Target, _: Duration, _: Duration) -> Held {
        std::future::pending().await
    }

    async fn probe(&self, target: &Target, timeout: Duration) -> Observation {
        let canary = target.url().starts_with("127.0.0.1");
        let (took, outcome) = if canary && self.canary_fails.load(Relaxed) {
            (Duration::ZERO, Outcome::Inconclusive(Reason::Internal))
        } else if !canary && self.anchors_hang.load(Relaxed) {
            (timeout, Outcome::Failure(Reason::TimeoutConnect))
        } else {
            (Duration::from_millis(10), Outcome::Success)
        };
        sleep(took).await;
        Observation::new(Timestamp::from_seconds(1), took, outcome)
    }
}

fn config(anchors: &[&str]) -> Config {
    let anchor = |url: &&str| Anchor::try_from((*url).to_owned()).unwrap();
    Config { anchors: anchors.iter().map(anchor).collect(), ..Config::default() }
}

/// Looks with this prober in the background.
fn start(played: &Played, config: Config) -> (Doubt, metrics::Daemon, crate::tasks::Tasks) {
    let (doubt, metrics) = (Doubt::new(config.abstain_at), metrics::Daemon::new());
    let vantage = Vantage {
        own: played.clone(),
        prober: played.clone(),
        doubt: doubt.clone(),
        metrics: metrics.clone(),
    };
    let mut tasks = crate::tasks::Tasks::default();
    tasks.spawn("vantage", vantage.run(config, CancellationToken::new()));
    (doubt, metrics, tasks)
}

#[tokio::test]
async fn the_canary_is_reached_as_a_target_is() {
    let canary = Canary::open().await;
    let network = Network::new(Policy::unrestricted());
    tokio::select! {
        never = canary.answer() => match never {},
        seen = canary.see(&network) => {
            assert_eq!(seen.sight, Sight::Answers, "{seen:?}");
            assert!(seen.what.starts_with("127.0.0.1:"), "{seen:?}");
        }
    }
}

#[tokio::test]
async fn a_canary_that_cannot_be_opened_fails() {
    let canary = Canary::shut(&io::Error::from_raw_os_error(24));
    let seen = canary.see(&Network::new(Policy::unrestricted())).await;
    assert_eq!(seen.sight, Sight::Fails);
    assert!(seen.detail.unwrap().contains("Too many open files"));
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_could_not_be_opened_is_opened_when_it_can_be() {
    let (doubt, metrics) = (Doubt::default(), metrics::Daemon::new());
    let (own, prober) = (Played::default(), Played::default());
    let vantage = Vantage { own, prober, doubt: doubt.clone(), metrics };
    let shut = Canary::shut(&io::Error::from_raw_os_error(24));
    let round = Mutex::default();
    tokio::select! {
        () = vantage.look(shut, &round) => {}
        () = sleep(REVIEW * 10) => {}
    }
    let report = doubt.report(Instant::now());
    assert_eq!((report.canary.sight, report.score), (Sight::Answers, 0), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_lost_is_noticed_within_four_seconds_and_its_return_too() {
    let played = Played::default();
    let (doubt, _, _tasks) = start(&played, config(&["tcp://10.0.0.1:53", "tcp://10.0.0.2:53"]));
    sleep(REVIEW * 10).await;
    assert_eq!(doubt.confidence(), Confidence::Confirmed);
    played.anchors_hang.store(true, Relaxed);
    sleep(REVIEW * 4).await;
    assert!(doubt.abstains());
    assert_eq!(doubt.confidence(), Confidence::Doubtful);
    sleep(REVIEW * 600).await;
    let report = doubt.report(Instant::now());
    assert_eq!(report.score, 8);
    assert!(report.abstaining.unwrap() > REVIEW * 599);
    played.anchors_hang.store(false, Relaxed);
    sleep(REVIEW * 10).await;
    assert_eq!(doubt.confidence(), Confidence::Confirmed);
    assert!(!doubt.abstains());
}

#[tokio::test(start_paused = true)]
async fn a_daemon_out_of_descriptors_abstains_after_seconds() {
    let played = Played::default();
    let (doubt, metrics, _tasks) = start(&played, config(&[]));
    sleep(REVIEW * 3 + REVIEW / 2).await;
    assert_eq!(doubt.confidence(), Confidence::Clear, "nothing confirms it");
    played.canary_fails.store(true, Relaxed);
    sleep(REVIEW).await;
    assert_eq!((doubt.confidence(), doubt.abstains()), (Confidence::Doubtful, false));
    sleep(REVIEW * 2).await;
    assert!(doubt.abstains());
    let mut writer = metrics::text::Writer::default();
    metrics.write(&mut writer);
    let text = writer.take();
    for line in [
        "rollcall_local_health_score 6\n",
        "rollcall_abstaining 1\n",
        "rollcall_self_symptom{symptom=\"canary\"} 1\n",
        "rollcall_canary_failures_total 3\n",
        "rollcall_canary_duration_seconds_count 4\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    played.canary_fails.store(false, Relaxed);
    sleep(REVIEW * 7).await;
    assert!(!doubt.abstains());
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_is_stopped_for_a_while_is_well_again_within_seconds() {
    let (doubt, _, _tasks) = start(&Played::default(), config(&[]));
    sleep(REVIEW * 3 + REVIEW / 2).await;
    tokio::time::advance(REVIEW * 8).await;
    sleep(REVIEW / 2).await;
    let report = doubt.report(Instant::now());
    assert!(report.symptoms.has(Symptom::LateWakes), "{report:?}");
    assert!(!doubt.abstains());
    sleep(REVIEW * 4).await;
    assert_eq!(doubt.report(Instant::now()).score, 0);
}
