//! Exec probes: exit codes, output, and that nothing outlives them. Real processes, in real time.

use std::{fs, path::Path, time::Duration};

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::{
    model::{Answer, Observation, Outcome},
    probe::{
        self, Endpoint, Network, Prober as _, Spec as AnySpec, Target,
        testing::{self, PATIENCE, SLACK},
    },
};

/// Long enough for a shell to start on a busy machine.
const SHORT: Duration = Duration::from_millis(600);

fn target(args: &[&str]) -> Target {
    let endpoint: Endpoint = testing::endpoint("169.254.169.254:1".parse().unwrap());
    testing::target(&AnySpec::Exec(testing::spec(json!({ "args": args }))), endpoint)
}

fn shell(script: &str) -> Target {
    target(&["/bin/sh", "-c", script])
}

async fn ask(target: &Target, timeout: Duration) -> Observation {
    let observation = Network::default().probe(target, timeout).await;
    assert!(observation.duration < timeout + SLACK, "{observation:?}");
    observation
}

/// Outcome and detail.
fn found(observation: &Observation) -> (String, &str) {
    let outcome = match observation.outcome {
        Outcome::Success => "success".to_owned(),
        Outcome::Warning(reason) => format!("warning {reason}"),
        Outcome::Failure(reason) => format!("failure {reason}"),
        Outcome::Inconclusive(reason) => format!("inconclusive {reason}"),
    };
    (outcome, observation.detail.as_deref().unwrap_or("nothing"))
}

#[track_caller]
fn assert_found(observation: &Observation, outcome: &str, detail: &str) {
    assert_eq!(found(observation), (outcome.to_owned(), detail));
}

/// Whether a process is there and not dead; whether somebody else reaps it is not our affair.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Waits until something is so.
async fn becomes(what: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !what() {
        assert!(Instant::now() < until, "it does not become so");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_exit_code_decides() {
    for (code, outcome) in [
        (1, "warning status"),
        (2, "failure status"),
        (3, "failure status"),
        (255, "failure status"),
    ] {
        let observation = ask(&shell(&format!("exit {code}")), PATIENCE).await;
        assert_found(&observation, outcome, &format!("/bin/sh: exit code {code}"));
    }
    let observation = ask(&shell("exit 0"), PATIENCE).await;
    assert_found(&observation, "success", "nothing");
    assert_eq!((observation.answer, observation.peer), (Answer::None, None));
    assert_eq!(shell("exit 0").success(Answer::None, None), "/bin/sh: exit code 0");
}

#[tokio::test]
async fn a_death_by_signal_is_a_failure() {
    let observation = ask(&shell("kill -TERM $$"), PATIENCE).await;
    assert_found(&observation, "failure status", "/bin/sh: killed by signal 15");
}

#[tokio::test]
async fn what_is_written_is_shown_also_on_a_success() {
    let script = "echo one; echo two >&2; printf 'thr\\033\\303\\274e\\r\\n'";
    let observation = ask(&shell(script), PATIENCE).await;
    assert_found(&observation, "success", "one\ntwo\nthr??e");
    let observation = ask(&shell(&format!("{script}; exit 2")), PATIENCE).await;
    assert_found(&observation, "failure status", "/bin/sh: exit code 2: one\ntwo\nthr??e");
}

#[tokio::test]
async fn of_much_output_the_end_is_kept() {
    let script = "head -c 10000 /dev/zero | tr '\\0' x; echo; echo end";
    let observation = ask(&shell(script), PATIENCE).await;
    let detail = observation.detail.unwrap();
    assert!(detail.starts_with("Captured 4096 of 10005 bytes\n...\nxxx"), "{detail}");
    assert!(detail.ends_with("xxx\nend"), "{detail}");
}

#[tokio::test]
async fn what_is_in_the_pipe_at_the_exit_is_not_lost() {
    for _ in 0..10 {
        let observation = ask(&shell("head -c 60000 /dev/zero | tr '\\0' x"), PATIENCE).await;
        let detail = observation.detail.unwrap();
        assert!(detail.starts_with("Captured 4096 of 60000 bytes"), "{}", &detail[..40]);
    }
}

#[tokio::test]
async fn endless_output_takes_no_more_memory() {
    let probe = Probe::prepare(&testing::spec(json!({ "args": ["yes"] }))).unwrap();
    let mut trace = Trace::new(SHORT, Arc::default());
    let places = Places::default();
    let asked = super::probe(&probe, &places, &mut trace);
    assert!(timeout(SHORT, asked).await.is_err());
    assert!(trace.dropped > 1 << 20, "{} bytes", trace.dropped);
    assert!(trace.buffer.capacity() <= 4 * KEPT, "{} bytes", trace.buffer.capacity());
    let fault = expired(&trace);
    assert_eq!(fault.outcome, Outcome::Failure(Reason::TimeoutResponse));
    let detail = probe.detail(&fault, &trace);
    assert!(detail.starts_with("yes: did not exit within 600ms and was killed: Captured 4096 of"));
    assert!(detail.len() < KEPT + 256, "{} bytes", detail.len());
}

#[tokio::test]
async fn at_the_timeout_the_whole_group_is_killed_and_reaped() {
    let observation = ask(&shell("sleep 100 & echo $$ $!; wait"), SHORT).await;
    let (outcome, detail) = found(&observation);
    assert_eq!(outcome, "failure timeout_response");
    let (said, pids) = detail.rsplit_once(": ").unwrap();
    assert_eq!(said, "/bin/sh: did not exit within 600ms and was killed");
    let (own, grandchild) = pids.split_once(' ').unwrap();
    becomes(|| !is_alive(grandchild)).await;
    becomes(|| !Path::new("/proc").join(own).exists()).await;
}

#[tokio::test]
async fn what_is_left_behind_in_the_group_is_killed_at_the_exit() {
    let observation = ask(&shell("sleep 100 & echo $!"), PATIENCE).await;
    let (outcome, pid) = found(&observation);
    assert_eq!(outcome, "success");
    assert!(observation.duration < PATIENCE / 4);
    becomes(|| !is_alive(pid)).await;
}

#[tokio::test]
async fn who_holds_the_pipe_besides_is_not_waited_for() {
    // It tells when it is out of the group, so that it is not killed with it.
    let script = "mkfifo \"$0\"; setsid sh -c 'echo > \"$0\"; exec sleep 3' \"$0\" & \
                  read _ < \"$0\"; echo done; exit 1";
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let target = target(&["/bin/sh", "-c", script, fifo.to_str().unwrap()]);
    let observation = ask(&target, PATIENCE).await;
    assert_found(&observation, "warning status", "/bin/sh: exit code 1: done");
    assert!(observation.duration < Duration::from_secs(2), "{observation:?}");
}

#[tokio::test]
async fn a_probe_that_is_dropped_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pids");
    let script = "sleep 100 & echo $$ $! > \"$0.new\"; mv \"$0.new\" \"$0\"; wait";
    let target = target(&["/bin/sh", "-c", script, path.to_str().unwrap()]);
    tokio::select! {
        observation = ask(&target, PATIENCE) => panic!("{observation:?}"),
        () = becomes(|| path.exists()) => {}
    }
    let pids = fs::read_to_string(path).unwrap();
    let (own, grandchild) = pids.trim().split_once(' ').unwrap();
    becomes(|| !is_alive(grandchild)).await;
    becomes(|| !Path::new("/proc").join(own).exists()).await;
}

#[tokio::test]
async fn what_cannot_be_started_is_the_checks_fault_and_a_shortage_is_ours() {
    let observation = ask(&target(&["/nowhere/check"]), PATIENCE).await;
    let detail = "/nowhere/check: cannot be started: No such file or directory (os error 2)";
    assert_found(&observation, "failure protocol", detail);
    let observation = ask(&target(&["no-such-program-anywhere"]), PATIENCE).await;
    assert_eq!(found(&observation).0, "failure protocol");
    let observation = ask(&target(&["/etc/passwd"]), PATIENCE).await;
    assert_eq!(found(&observation).0, "failure protocol");
    for number in [11, 12, 23, 24] {
        let fault = not_started(&io::Error::from_raw_os_error(number));
        assert_eq!(fault.outcome, Outcome::Inconclusive(Reason::Internal));
    }
}

#[tokio::test]
async fn little_of_our_environment_is_handed_on_and_nothing_to_read() {
    assert!(env::var_os("CARGO_MANIFEST_DIR").is_some(), "what is looked for must be there");
    let observation = ask(&target(&["env"]), PATIENCE).await;
    let (outcome, detail) = found(&observation);
    assert_eq!(outcome, "success");
    for line in detail.lines() {
        let (name, _) = line.split_once('=').unwrap();
        assert!(ENVIRONMENT.contains(&name), "{line}");
    }
    let observation = ask(&target(&["cat"]), PATIENCE).await;
    assert_found(&observation, "success", "nothing");
}

#[tokio::test]
async fn arguments_are_taken_as_they_are() {
    let observation =
        ask(&target(&["printf", "%s|", "a b", "$HOME;`id`", "", "*"]), PATIENCE).await;
    assert_found(&observation, "success", "a b|$HOME;`id`||*|");
}

#[tokio::test]
async fn a_program_that_gets_no_turn_is_our_fault() {
    let network = Network::default();
    let Places(places) = &network.programs;
    let held = Arc::clone(places).acquire_many_owned(u32::try_from(MOST).unwrap()).await.unwrap();
    let target = shell("exit 0");
    let observation = network.probe(&target, Duration::from_millis(20)).await;
    let detail = "/bin/sh: not started within 20ms; at most 32 programs run at once";
    assert_found(&observation, "inconclusive internal", detail);
    // Whoever waits gets the turn of one that ends, and the turns come back.
    let (observation, ()) = tokio::join!(network.probe(&target, PATIENCE), async { drop(held) });
    assert_found(&observation, "success", "nothing");
    assert_eq!(places.available_permits(), MOST);
}

#[test]
fn a_program_must_be_named_clearly() {
    for (args, rule) in [
        (json!([]), "`args` names no program"),
        (json!(["", "x"]), "`args` names no program"),
        (
            json!(["bin/check"]),
            "the program in `args` must be an absolute path, or a name without a slash",
        ),
        (json!(["check", "a\0b"]), "`args` holds a zero byte"),
    ] {
        let spec = AnySpec::Exec(testing::spec(json!({ "args": args })));
        assert_eq!(probe::Probe::prepare(&spec).unwrap_err().to_string(), rule);
    }
}

#[test]
fn nothing_is_allowed_that_is_not_named() {
    let may = |allowed: Allowed| (allowed.allows_files(), allowed.allows_api());
    assert_eq!(may(Config::default().exec), (false, false));
    assert_eq!(may(Allowed::Files), (true, false));
    assert_eq!(may(Allowed::Api), (true, true));
}

#[test]
fn a_program_goes_nowhere() {
    let target = shell("exit 0");
    assert_eq!(target.destination(), None);
    assert_eq!(target.url(), "/bin/sh");
}
