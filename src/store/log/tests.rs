//! Tests of the log: crashes, cuts, damage, and disks that fail.

use std::{
    collections::BTreeMap,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    sync::Mutex,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{segment::UNFINISHED, *};

mod faults;

use faults::Plan;

type State = Vec<Vec<u8>>;

fn small() -> Options {
    Options { segment_bytes: 400, ahead_bytes: 90 }
}

/// Opens a log and gives what was replayed; snapshots in these tests hold all records before them.
fn reopen_on(
    disk: Box<dyn Disk>,
    directory: &Path,
    options: Options,
) -> Result<(Log, State), Error> {
    let mut state = State::new();
    let log = open_on(disk, directory, options, &mut |entry| {
        match entry {
            Entry::Snapshot(payload) | Entry::Record { payload, .. } => state.push(payload.into()),
        }
        Ok(())
    })?;
    Ok((log, state))
}

fn reopen(directory: &Path) -> Result<(Log, State), Error> {
    reopen_on(Box::new(Plan::default().disk()), directory, small())
}

#[track_caller]
fn state_of(directory: &Path) -> State {
    reopen(directory).unwrap().1
}

fn save(log: &mut Log, state: &State) -> Result<(), Error> {
    let mut writer = log.begin_snapshot()?;
    for payload in state {
        writer.put(payload)?;
    }
    writer.finish()
}

fn commit(log: &mut Log, batch: &[Vec<u8>]) -> Result<(), Error> {
    for payload in batch {
        log.append(7, payload);
    }
    log.commit()
}

/// A batch like no other: `size` bytes in each of two records.
fn batch(n: usize, size: usize) -> Vec<Vec<u8>> {
    let payload = |half: usize| {
        let mut payload = format!("{n}.{half} ").into_bytes();
        payload.resize(payload.len() + size, b'a' + u8::try_from(n % 26).unwrap());
        payload
    };
    vec![payload(0), payload(1)]
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = directory.read_dir().unwrap().map(Result::unwrap);
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

fn restore(directory: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for entry in directory.read_dir().unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (name, bytes) in files {
        fs::write(directory.join(name), bytes).unwrap();
    }
}

fn names(directory: &Path) -> Vec<String> {
    let short = |name: String| name.replace("00000000000000", "");
    files(directory).into_keys().map(short).collect()
}

/// A log with these batches in one segment, and where each of them starts and the last one ends.
fn written(directory: &Path, batches: &[Vec<Vec<u8>>]) -> Vec<u64> {
    let disk = Box::new(Plan::default().disk());
    let mut log = reopen_on(disk, directory, Options::default()).unwrap().0;
    let mut bounds = vec![log.length];
    for batch in batches {
        commit(&mut log, batch).unwrap();
        bounds.push(log.length);
    }
    bounds
}

#[test]
fn what_is_committed_comes_back_in_order() {
    let directory = TempDir::new().unwrap();
    let mut log = open(directory.path(), small(), &mut |_| Ok(())).unwrap();
    for n in 0..20 {
        log.append(n, &[u8::try_from(n).unwrap(); 50]);
        log.append(n, b"");
        log.commit().unwrap();
    }
    log.append(99, b"never committed");
    drop(log);
    let mut found = Vec::new();
    let log = open(directory.path(), small(), &mut |entry| {
        match entry {
            Entry::Record { index, payload } => found.push((index, payload.to_vec())),
            Entry::Snapshot(_) => panic!("no snapshot was written"),
        }
        Ok(())
    })
    .unwrap();
    let expected: Vec<_> =
        (0..20).flat_map(|n| [(n, vec![u8::try_from(n).unwrap(); 50]), (n, vec![])]).collect();
    assert_eq!(found, expected);
    assert!(log.bytes_since_snapshot() > 1000);
    assert!(names(directory.path()).len() > 3, "{:?}", names(directory.path()));
    for name in files(directory.path()).keys() {
        let mode = fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_second_opening_is_refused() {
    let directory = TempDir::new().unwrap();
    let _log = reopen(directory.path()).unwrap().0;
    assert!(matches!(reopen(directory.path()), Err(Error::InUse { .. })));
}

#[test]
fn a_log_cut_at_any_byte_holds_a_prefix_of_whole_batches_and_goes_on() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let batches: Vec<_> = (0..4).map(|n| batch(n, 5)).collect();
    let bounds = written(path, &batches);
    let whole = files(path);
    let cuts = HEADER..*bounds.last().unwrap();
    for (cut, zeros) in cuts.flat_map(|cut| [(cut, 0), (cut, 1000)]) {
        restore(path, &whole);
        let file = fs::OpenOptions::new().write(true).open(path.join(Kind::Segment.name(1)));
        let file = file.unwrap();
        file.set_len(cut).unwrap();
        file.set_len(cut + zeros).unwrap();
        let (mut log, mut state) = reopen(path).unwrap();
        let kept = bounds.iter().filter(|bound| **bound <= cut).count() - 1;
        assert_eq!(state, batches[..kept].concat(), "cut at {cut}");
        // Shorter than what the cut can leave of a batch.
        commit(&mut log, &[vec![]]).unwrap();
        drop(log);
        state.push(vec![]);
        assert_eq!(state_of(path), state, "cut at {cut}");
    }
}

#[test]
fn batches_are_written_over_zeros_also_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let batches: Vec<_> = (0..4).map(|n| batch(n, 30)).collect();
    let bounds = written(path, &batches[..2]);
    let size = || fs::metadata(path.join(Kind::Segment.name(1))).unwrap().len();
    let ahead = Options::default().ahead_bytes;
    assert_eq!(size(), ahead);
    let (mut log, state) = reopen_on(Box::new(Os), path, Options::default()).unwrap();
    assert_eq!((log.length, log.room, state), (bounds[2], ahead, batches[..2].concat()));
    commit(&mut log, &batches[2]).unwrap();
    assert_eq!(size(), ahead);
    let large = usize::try_from(ahead).unwrap();
    commit(&mut log, &[vec![b'x'; large]]).unwrap();
    assert_eq!(size(), 2 * ahead);
    drop(log);
    let state = state_of(path);
    assert_eq!((state.len(), state[6].len()), (7, large));
}

#[test]
fn sectors_lost_of_the_last_batch_lose_that_batch_and_of_another_one_are_damage() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let batches: Vec<_> = (0..3).map(|n| batch(n, 1200)).collect();
    let bounds = written(path, &batches);
    let whole = files(path);
    let lose = |batch: usize, lost: u32| {
        restore(path, &whole);
        let file = fs::OpenOptions::new().write(true).open(path.join(Kind::Segment.name(1)));
        let file = file.unwrap();
        let (start, end) = (bounds[batch], bounds[batch + 1]);
        for (n, sector) in (start / 512..=(end - 1) / 512).enumerate() {
            if lost & (1 << n) != 0 {
                let (from, to) = (start.max(sector * 512), end.min((sector + 1) * 512));
                let zeros = vec![0; usize::try_from(to - from).unwrap()];
                file.write_all_at(&zeros, from).unwrap();
            }
        }
    };
    let sectors = (bounds[3] - 1) / 512 - bounds[2] / 512 + 1;
    for lost in 1..1u32 << sectors {
        lose(2, lost);
        assert_eq!(state_of(path), batches[..2].concat(), "lost {lost:b}");
        lose(1, lost & 0b11111);
        if lost & 0b11111 != 0 {
            let error = reopen(path).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
        }
    }
}

/// A log with two snapshots, segments between and after them, and one that was given up.
fn rich(path: &Path) -> State {
    let plan = Plan::default();
    let mut log = reopen_on(Box::new(plan.disk()), path, small()).unwrap().0;
    let mut state = State::new();
    for n in 0..9 {
        if n == 7 {
            plan.fail_next(0);
            commit(&mut log, &batch(70, 20)).unwrap_err();
        }
        commit(&mut log, &batch(n, 20)).unwrap();
        state.extend(batch(n, 20));
        if n == 2 || n == 4 {
            save(&mut log, &state).unwrap();
        }
    }
    state
}

#[test]
fn a_flipped_bit_is_refused_or_does_not_matter() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let state = rich(path);
    let whole = files(path);
    let (mut same, mut refused) = (0, 0);
    for (name, bytes) in &whole {
        let file = fs::OpenOptions::new().write(true).open(path.join(name)).unwrap();
        for bit in 0..bytes.len() * 8 {
            let (at, byte) = (bit as u64 / 8, bytes[bit / 8]);
            file.write_all_at(&[byte ^ (1 << (bit % 8))], at).unwrap();
            match reopen(path) {
                Ok((_, found)) => {
                    assert_eq!(found, state, "{name} bit {bit}");
                    same += 1;
                    // In the zeros it looks like an unfinished write, and is cut off.
                    if file.metadata().unwrap().len() != bytes.len() as u64 {
                        file.write_all_at(bytes, 0).unwrap();
                    }
                }
                Err(Error::Damaged { .. } | Error::Newer { .. }) => refused += 1,
                Err(other) => panic!("{name} bit {bit}: {other}"),
            }
            file.write_all_at(&[byte], at).unwrap();
        }
    }
    // Neither the refused openings nor the others changed anything.
    assert_eq!(files(path), whole);
    assert!(same > 1000 && refused > 1000, "{same} {refused}");
}

#[test]
fn a_damaged_snapshot_is_replaced_by_the_one_before_it() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let state = rich(path);
    let snapshots: Vec<_> =
        files(path).into_keys().filter(|name| name.starts_with("snapshot")).collect();
    assert_eq!(snapshots.len(), 2);
    let damage = |name: &str| {
        let mut bytes = fs::read(path.join(name)).unwrap();
        bytes[60] ^= 1;
        fs::write(path.join(name), bytes).unwrap();
    };
    damage(&snapshots[1]);
    assert_eq!(state_of(path), state);
    damage(&snapshots[0]);
    let error = reopen(path).unwrap_err().to_string();
    assert!(error.contains(&snapshots[1]) && error.contains("damaged at byte"), "{error}");
}

#[test]
fn old_files_go_when_two_newer_snapshots_are_there() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut log = reopen(path).unwrap().0;
    let mut state = State::new();
    for n in 0..3 {
        commit(&mut log, &batch(n, 20)).unwrap();
        state.extend(batch(n, 20));
        assert!(log.bytes_since_snapshot() > 0);
        save(&mut log, &state).unwrap();
        assert_eq!(log.bytes_since_snapshot(), 0);
    }
    drop(log.begin_snapshot().unwrap());
    let expected = ["segment-000003", "segment-000004", "snapshot-000003", "snapshot-000004"];
    assert_eq!(names(path), expected);
    drop(log);
    assert_eq!(state_of(path), state);
}

#[test]
fn a_missing_file_is_named() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    rich(path);
    let whole = files(path);
    let newest = whole.keys().rfind(|name| name.starts_with("snapshot")).unwrap();
    let after = newest.replace("snapshot", "segment");
    fs::remove_file(path.join(&after)).unwrap();
    let error = reopen(path).unwrap_err().to_string();
    assert!(error.contains(&after) && error.contains("the file is missing"), "{error}");
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    for kind in ["segment", "snapshot"] {
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        rich(path);
        fs::write(path.join(format!("{}.tmp", Kind::Segment.name(77))), "unfinished").unwrap();
        let mut newer = files(path);
        let (name, bytes) = newer
            .iter_mut()
            .rfind(|(name, _)| name.starts_with(kind) && !name.ends_with(UNFINISHED))
            .unwrap();
        bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
        let name = name.clone();
        restore(path, &newer);
        assert_eq!(
            reopen(path).unwrap_err().to_string(),
            format!(
                "{} has format 2, and this release understands formats up to 1: start the release \
                 that wrote it, or a later one",
                path.join(name).display()
            )
        );
        assert_eq!(files(path), newer);
    }
}

#[test]
fn a_replay_that_fails_changes_nothing() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let bounds = written(path, &[batch(0, 9), batch(1, 9)]);
    let segment = path.join(Kind::Segment.name(1));
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.set_len(bounds[2] - 1).unwrap();
    let before = files(path);
    let error = open(path, small(), &mut |_| Err("what is this?".into())).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot replay {}: what is this?", segment.display()));
    assert_eq!(files(path), before);
}

#[test]
fn a_batch_over_the_limit_is_refused_and_the_log_goes_on() {
    let directory = TempDir::new().unwrap();
    let mut log = reopen(directory.path()).unwrap().0;
    log.append(1, &vec![0; frame::MAX_BODY]);
    assert!(matches!(log.commit(), Err(Error::TooLarge { .. })));
    commit(&mut log, &batch(1, 1)).unwrap();
    drop(log);
    assert_eq!(state_of(directory.path()), batch(1, 1));
}
