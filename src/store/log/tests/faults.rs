//! Disks that fail, at any step and in any order.

use super::*;

/// What a failing disk does with what was written and not synced.
#[derive(Debug, Default, Clone, Copy)]
enum Unsynced {
    /// It is there: the process died, or the sync alone failed.
    #[default]
    Kept,
    /// It is gone: the power went.
    Lost,
}

#[derive(Debug, Default)]
struct Faults {
    step: u64,
    failing: std::ops::Range<u64>,
    unsynced: Unsynced,
    pending: Vec<(File, Vec<u8>, u64)>,
}

/// Which steps of a disk fail.
#[derive(Debug, Default, Clone)]
pub(super) struct Plan(Arc<Mutex<Faults>>);

impl Plan {
    fn failing(steps: std::ops::Range<u64>, unsynced: Unsynced) -> Self {
        Self(Arc::new(Mutex::new(Faults { failing: steps, unsynced, ..Faults::default() })))
    }

    pub(super) fn disk(&self) -> Faulty {
        Faulty { inner: Os, plan: self.clone() }
    }

    /// Lets the step after the next `skipped` ones fail.
    pub(super) fn fail_next(&self, skipped: u64) {
        let mut faults = self.0.lock().unwrap();
        let at = faults.step + skipped;
        faults.failing = at..at + 1;
    }

    pub(super) fn heal(&self) {
        self.0.lock().unwrap().failing = 0..0;
    }

    pub(super) fn steps(&self) -> u64 {
        self.0.lock().unwrap().step
    }

    fn step(&self) -> io::Result<()> {
        let mut faults = self.0.lock().unwrap();
        let at = faults.step;
        faults.step += 1;
        if faults.failing.contains(&at) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// A disk that fails as planned, and does not really sync: the tests open a log often.
#[derive(Debug)]
pub(super) struct Faulty {
    inner: Os,
    plan: Plan,
}

impl Disk for Faulty {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.plan.step()?;
        self.inner.create(path)
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.plan.step() {
            self.inner.write(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        let mut faults = self.plan.0.lock().unwrap();
        match faults.unsynced {
            Unsynced::Kept => self.inner.write(file, bytes, offset),
            Unsynced::Lost => {
                faults.pending.push((file.try_clone()?, bytes.to_vec(), offset));
                Ok(())
            }
        }
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        let stepped = self.plan.step();
        let pending = std::mem::take(&mut self.plan.0.lock().unwrap().pending);
        stepped?;
        for (file, bytes, offset) in pending {
            self.inner.write(&file, &bytes, offset)?;
        }
        Ok(())
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        self.plan.step()?;
        file.set_len(length)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plan.step()?;
        self.inner.rename(from, to)
    }

    fn sync_names(&self, _: &File) -> io::Result<()> {
        self.plan.step()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.plan.step()?;
        self.inner.remove(path)
    }
}

/// Commits batches and writes snapshots, going on after failures; gives what was acknowledged and
/// the batches that failed since.
fn life(log: &mut Log) -> (State, Vec<Vec<Vec<u8>>>) {
    let (mut state, mut doubtful) = (State::new(), Vec::new());
    for n in 0..12 {
        match commit(log, &batch(n, 20)) {
            Ok(()) => {
                state.extend(batch(n, 20));
                doubtful.clear();
            }
            Err(_) => doubtful.push(batch(n, 20)),
        }
        if n % 3 == 2 {
            drop(save(log, &state));
        }
    }
    (state, doubtful)
}

#[test]
fn a_crash_at_any_step_loses_nothing_acknowledged() {
    let healthy = Plan::default();
    let directory = TempDir::new().unwrap();
    life(&mut reopen_on(Box::new(healthy.disk()), directory.path(), small()).unwrap().0);
    assert!(healthy.steps() > 60, "{}", healthy.steps());
    for unsynced in [Unsynced::Kept, Unsynced::Lost] {
        for step in 0..healthy.steps() {
            let directory = TempDir::new().unwrap();
            let plan = Plan::failing(step..u64::MAX, unsynced);
            let opened = reopen_on(Box::new(plan.disk()), directory.path(), small());
            // After a crash nothing more is in doubt than the first batch that failed.
            let mut state = State::new();
            let mut doubtful = Vec::new();
            if let Ok((mut log, _)) = opened {
                for n in 0..12 {
                    if commit(&mut log, &batch(n, 20)).is_err() {
                        doubtful = batch(n, 20);
                        break;
                    }
                    state.extend(batch(n, 20));
                    if n % 3 == 2 && save(&mut log, &state).is_err() {
                        break;
                    }
                }
            }
            for (_, found) in segment::find(directory.path(), Kind::Snapshot).unwrap() {
                snapshot::read(&found.unwrap(), &mut |_| Ok(())).unwrap();
            }
            let (mut log, found) = reopen(directory.path()).unwrap();
            let both = [state.clone(), doubtful].concat();
            assert!(found == state || found == both, "step {step} {unsynced:?}");
            let left = names(directory.path());
            assert!(!left.iter().any(|name| name.ends_with(UNFINISHED)), "step {step}: {left:?}");
            commit(&mut log, &batch(50, 3)).unwrap();
            drop(log);
            assert_eq!(state_of(directory.path()), [found, batch(50, 3)].concat(), "step {step}");
        }
    }
}

#[test]
fn after_any_one_failure_exactly_what_was_acknowledged_is_there() {
    for unsynced in [Unsynced::Kept, Unsynced::Lost] {
        for step in 6..120 {
            for failures in 1..4 {
                let directory = TempDir::new().unwrap();
                let plan = Plan::failing(step..step + failures, unsynced);
                let opened = reopen_on(Box::new(plan.disk()), directory.path(), small());
                let (mut log, _) = opened.unwrap();
                let (state, doubtful) = life(&mut log);
                drop(log);
                let found = state_of(directory.path());
                let mut allowed = doubtful.iter().map(|batch| [&state[..], batch].concat());
                assert!(
                    found == state || allowed.any(|state| state == found),
                    "step {step}, {failures} failures, {unsynced:?}"
                );
            }
        }
    }
}

#[test]
fn a_batch_reported_as_failed_never_comes_back_after_a_later_one() {
    let directory = TempDir::new().unwrap();
    let plan = Plan::default();
    let mut log = reopen_on(Box::new(plan.disk()), directory.path(), small()).unwrap().0;
    commit(&mut log, &batch(0, 9)).unwrap();
    // After the batch, and zeros.
    plan.fail_next(2);
    assert!(commit(&mut log, &batch(1, 9)).unwrap_err().is_full());
    commit(&mut log, &batch(2, 9)).unwrap();
    drop(log);
    assert_eq!(state_of(directory.path()), [batch(0, 9), batch(2, 9)].concat());
}

#[test]
fn zeros_that_do_not_fit_are_no_failure() {
    let directory = TempDir::new().unwrap();
    let plan = Plan::default();
    let mut log = reopen_on(Box::new(plan.disk()), directory.path(), small()).unwrap().0;
    plan.fail_next(1);
    commit(&mut log, &batch(0, 9)).unwrap();
    assert_eq!(log.room, log.length);
    commit(&mut log, &batch(1, 9)).unwrap();
    assert!(log.room > log.length);
    drop(log);
    assert_eq!(state_of(directory.path()), [batch(0, 9), batch(1, 9)].concat());
}

#[test]
fn a_full_disk_gets_one_more_file_and_the_log_recovers_by_itself() {
    let directory = TempDir::new().unwrap();
    let plan = Plan::default();
    let mut log = reopen_on(Box::new(plan.disk()), directory.path(), small()).unwrap().0;
    commit(&mut log, &batch(0, 9)).unwrap();
    for failure in 0..20 {
        // An empty segment can be created (five steps, but for the first time); the batch is what
        // does not fit.
        plan.fail_next(if failure == 0 { 0 } else { 5 });
        assert!(commit(&mut log, &batch(1, 9)).unwrap_err().is_full(), "{failure}");
    }
    assert_eq!(names(directory.path()), ["segment-000001", "segment-000002"]);
    plan.heal();
    commit(&mut log, &batch(2, 9)).unwrap();
    drop(log);
    assert_eq!(state_of(directory.path()), [batch(0, 9), batch(2, 9)].concat());
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Commit,
    Snapshot,
    Reopen,
    Fail(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..200usize).prop_map(Step::Append),
        4 => Just(Step::Commit),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Reopen),
        1 => (0..8u64).prop_map(Step::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_list_that_survives(steps in prop::collection::vec(step(), 1..60)) {
        let directory = TempDir::new().unwrap();
        let plan = Plan::default();
        let start = || reopen_on(Box::new(plan.disk()), directory.path(), small());
        let (mut log, _) = start().unwrap();
        let (mut state, mut appended) = (State::new(), State::new());
        let mut doubtful: Vec<State> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append(size) => {
                    log.append(1, &batch(n, size)[0]);
                    appended.push(batch(n, size)[0].clone());
                }
                Step::Commit if appended.is_empty() => log.commit().unwrap(),
                Step::Commit => {
                    let batch = std::mem::take(&mut appended);
                    if log.commit().is_ok() {
                        state.extend(batch);
                        doubtful.clear();
                    } else {
                        doubtful.push(batch);
                    }
                }
                Step::Snapshot => {
                    plan.heal();
                    state.append(&mut appended);
                    doubtful.clear();
                    save(&mut log, &state).unwrap();
                }
                Step::Reopen => {
                    plan.heal();
                    drop(log);
                    appended.clear();
                    let (opened, found) = start().unwrap();
                    let mut allowed = doubtful.drain(..).map(|batch| [&state[..], &batch].concat());
                    prop_assert!(found == state || allowed.any(|state| state == found));
                    drop(allowed);
                    (log, state) = (opened, found);
                }
                Step::Fail(after) => plan.fail_next(after),
            }
        }
    }
}
