//! The journal: what it costs, what is read of it, what is refused, and everything against a model.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::database::Database;
use super::disk::{Event, Failures, Which};
use super::groups::JOURNAL_AFTER_GROUPS;
use super::journal::{self, path_of};
use super::tests::{DEADLINE, Model, Step, block_on, count_one, step, unlocked};
use super::{
    Commit, Done, Export, FaultKind, GROUP_WINDOW, Loaded, StateFile, Store, StoreError, Write,
};

const BLOCK_BYTES: u64 = 4_096;

/// A database that has a journal from its second group on, of daemons `d` and `other`.
pub(super) fn journaling(path: &Path) -> Database {
    let mut database = unlocked(|| Database::open(path, None)).unwrap();
    database.until_journal = 0;
    apply(&mut database, &[count_one("d", 0), count_one("other", 0)]);
    database
}

pub(super) fn apply(database: &mut Database, group: &[Commit]) {
    let number = database.next_group();
    database.apply(number, group).unwrap();
}

/// What a kill at this moment leaves, in another directory.
fn killed(path: &Path) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let left = directory.path().join("state.redb");
    fs::copy(path, &left).unwrap();
    let journal = path_of(path);
    if journal.exists() {
        fs::copy(journal, path_of(&left)).unwrap();
    }
    (directory, left)
}

fn counted(database: &mut Database, daemon: &str) -> u64 {
    let loaded = database.load(daemon).unwrap();
    loaded.counters.first().map_or(0, |(_, count)| *count)
}

fn names_in(directory: &TempDir) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| name(entry).unwrap()).collect();
    names.sort();
    names
}

/// The pages that were written, in bytes, and the syncs.
fn cost(events: &[(Which, Event)]) -> (u64, u64) {
    events.iter().fold((0, 0), |(bytes, syncs), (_, event)| match event {
        Event::Made(data) => (bytes + data.len() as u64, syncs + 3),
        Event::Write { offset, data } => {
            let pages = (offset + data.len() as u64).div_ceil(BLOCK_BYTES) - offset / BLOCK_BYTES;
            (bytes + pages * BLOCK_BYTES, syncs)
        }
        Event::Sync => (bytes, syncs + 1),
        Event::SetLen(_) | Event::Removed | Event::Durable(_) => (bytes, syncs),
    })
}

/// Lone commits, of a store that was opened for them and is closed after them: what all of them cost, checkpoints
/// and the journal itself included; and what one costs by itself.
#[test]
fn a_lone_commit_costs_a_block_and_a_sync() {
    const COMMITS: u64 = 600;
    let directory = TempDir::new().unwrap();
    let database = Database::open(&directory.path().join("state.redb"), None).unwrap();
    let events = database.failures.events.clone();
    let store = Store::start(database, GROUP_WINDOW).unwrap();
    *events.lock().unwrap() = Some(Vec::new());
    let mut whole = Vec::new();
    let mut alone = 0;
    block_on(async {
        for value in 0..COMMITS {
            store.commit(count_one("d", u8::try_from(value % 256).unwrap()), None).await.unwrap();
            store.flush().await.unwrap();
            let of_one = events.lock().unwrap().replace(Vec::new()).unwrap();
            if cost(&of_one) == (BLOCK_BYTES, 1) {
                assert!(of_one.iter().all(|(which, _)| *which == Which::Journal), "{of_one:?}");
                alone += 1;
            }
            whole.extend(of_one);
        }
        store.close(DEADLINE).await.unwrap();
    });
    whole.extend(events.lock().unwrap().take().unwrap());
    let (bytes, syncs) = cost(&whole);
    println!("{bytes} bytes and {syncs} syncs for {COMMITS} commits, {alone} in one block");
    assert!(bytes / COMMITS <= 8 << 10, "{bytes} bytes for {COMMITS} commits");
    assert!(alone >= COMMITS * 19 / 20, "{alone} of {COMMITS} cost one block and one sync");
    assert!(syncs < COMMITS * 11 / 10, "{syncs} syncs");
}

/// As the kernel counts what this thread writes: on no memory alone, which it does not count.
#[test]
fn the_kernel_counts_one_block() {
    const COMMITS: u64 = 700;
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp");
    fs::create_dir_all(&target).unwrap();
    let directory = TempDir::new_in(&target).unwrap();
    let written = || -> u64 {
        let counts = fs::read_to_string("/proc/thread-self/io").unwrap();
        let count = counts.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        count.unwrap().parse().unwrap()
    };
    let mut database = journaling(&directory.path().join("state.redb"));
    // Blocks that were written together are counted one by one later, too.
    let mut large = count_one("d", 1);
    large.writes.push(Write::Set { key: "large".to_owned(), value: vec![7; 60_000] });
    for _ in 0..20 {
        apply(&mut database, &[large.clone()]);
    }
    let before = written();
    let mut alone = 0;
    for value in 0..COMMITS {
        let before = written();
        apply(&mut database, &[count_one("d", u8::try_from(value % 256).unwrap())]);
        alone += u64::from(written() - before == BLOCK_BYTES);
    }
    let bytes = written() - before;
    println!("{bytes} bytes for {COMMITS} commits, {alone} of them in one block");
    assert!(bytes > 0, "{} is not on a disk", target.display());
    assert!(bytes / COMMITS <= 8 << 10, "{bytes} bytes for {COMMITS} commits");
    assert!(alone >= COMMITS * 19 / 20, "{alone} of {COMMITS} cost one block");
}

/// Through many rounds: each kill leaves all groups, and the file does not grow.
#[test]
fn a_journal_begins_anew_over_what_is_applied() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let mut database = journaling(&path);
    let mut count = 1;
    for round in 0..700_u64 {
        // Records of one block, and of several.
        let size = if round % 50 == 0 { 30_000 } else { 8 };
        let mut commit = count_one("d", 1);
        commit.writes.push(Write::Set { key: "large".to_owned(), value: vec![7; size] });
        apply(&mut database, &[commit]);
        count += 1;
        if round % 23 == 0 {
            let (_left, left) = killed(&path);
            assert_eq!(counted(&mut unlocked(|| Database::look(&left)).unwrap(), "d"), count);
            assert_eq!(counted(&mut unlocked(|| Database::open(&left, None)).unwrap(), "d"), count);
        }
    }
    assert_eq!(fs::metadata(path_of(&path)).unwrap().len(), 1 << 20);
    assert_eq!(counted(&mut database, "d"), count);
}

/// However a store ends, unless it is killed, its file is all there is, and one that older versions read.
#[test]
fn a_closed_store_leaves_no_journal() {
    for is_closed in [true, false] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("state.redb");
        let groups = u64::from(JOURNAL_AFTER_GROUPS) + 20;
        block_on(async {
            let store = Store::open(&path).unwrap();
            for _ in 0..groups {
                store.commit(count_one("d", 1), None).await.unwrap();
                store.flush().await.unwrap();
            }
            assert_eq!(names_in(&directory), ["state.redb", "state.redb.journal"]);
            if is_closed {
                store.close(DEADLINE).await.unwrap();
            }
        });
        let mut database = unlocked(|| Database::look(&path)).unwrap();
        assert_eq!(names_in(&directory), ["state.redb"]);
        assert_eq!((database.about.schema, database.about.reader_min), (3, 3));
        assert_eq!(counted(&mut database, "d"), groups);
    }
}

/// A kill leaves a file that older versions refuse by its schema, as they would not read its journal.
#[test]
fn a_file_with_a_journal_is_another_schema() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let mut database = journaling(&path);
    apply(&mut database, &[count_one("d", 1)]);
    let (_left, left) = killed(&path);
    let redb = super::tests::raw(&left);
    let transaction = redb::ReadableDatabase::begin_read(&redb).unwrap();
    let meta = transaction.open_table(super::tables::META).unwrap();
    for key in ["schema", "reader_min"] {
        assert_eq!(meta.get(key).unwrap().unwrap().value(), 4);
    }
}

/// A file that has lost the name of its journal is damaged, not one without.
#[test]
fn a_schema_and_its_journal_belong_together() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let mut database = journaling(&path);
    apply(&mut database, &[count_one("d", 1)]);
    let (_journaled, journaled) = killed(&path);
    database.finish().unwrap();
    drop(database);
    for (path, journal) in [(journaled, None), (path, Some(7))] {
        let redb = super::tests::raw(&path);
        let transaction = redb.begin_write().unwrap();
        {
            let mut meta = transaction.open_table(super::tables::META).unwrap();
            match journal {
                Some(journal) => drop(meta.insert("journal", journal).unwrap()),
                None => drop(meta.remove("journal").unwrap()),
            }
        }
        transaction.commit().unwrap();
        drop(redb);
        let refused = unlocked(|| Database::look(&path)).map(drop).unwrap_err();
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
        unlocked(|| Database::open(&path, None)).map(drop).unwrap_err();
    }
}

/// What is pending is read as if it were in the tables: by a load, and by an export of a store that runs.
#[test]
fn what_only_the_journal_has_is_read_and_exported() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let mut database = journaling(&path);
    let set = |key: &str, value: &str| Write::Set { key: key.to_owned(), value: value.into() };
    let delete = |key: &str| Write::Delete { key: key.to_owned() };
    let first = Commit {
        daemon: "d".to_owned(),
        writes: vec![set("a", "1"), set("m", "1"), set("z", "1")],
        positions: vec![("lines".to_owned(), vec![1])],
        counters: vec![("commits".to_owned(), u64::MAX - 3), ("n".to_owned(), 1)],
        gauges: vec![("level".to_owned(), 1.0)],
    };
    apply(&mut database, &[first]);
    database.settle().unwrap();
    let second = Commit {
        writes: vec![set("m", "2"), delete("a"), set("b", "2"), set("zz", "2"), delete("none")],
        positions: vec![("lines".to_owned(), vec![2]), ("more".to_owned(), vec![3])],
        counters: vec![("commits".to_owned(), 9), ("a".to_owned(), 4), ("z".to_owned(), 5)],
        gauges: vec![("level".to_owned(), 2.0), ("a".to_owned(), 3.0)],
        daemon: "d".to_owned(),
    };
    let third = Commit { writes: vec![delete("zz"), set("a", "3")], ..second.clone() };
    apply(&mut database, &[second, count_one("other", 7)]);
    apply(&mut database, &[third]);
    assert_eq!(database.pending.groups.len(), 2);
    let loaded = database.load("d").unwrap();
    let mut exported = Vec::new();
    database.snapshot("d").unwrap().unwrap().write(&mut exported).unwrap();
    let mut empty = Vec::new();
    assert!(database.snapshot("nobody").unwrap().is_none());
    assert_eq!(counted(&mut database, "other"), 2);
    assert_eq!(database.pending.groups.len(), 2, "whoever reads makes nobody write");
    database.settle().unwrap();
    assert_eq!(database.load("d").unwrap(), loaded);
    database.snapshot("d").unwrap().unwrap().write(&mut empty).unwrap();
    assert!(empty == exported, "the export of what is pending is that of what is applied");
    assert_eq!(*Export::read(&mut exported.as_slice()).unwrap().loaded(), loaded);
    assert_eq!(loaded.counters[1], ("commits".to_owned(), u64::MAX));
}

fn with_failures(path: &Path) -> (Store, Failures) {
    let database = journaling(path);
    let failures = database.failures.clone();
    (Store::start(database, GROUP_WINDOW).unwrap(), failures)
}

async fn durable(store: &Store, commit: Commit) {
    let (sender, durable) = oneshot::channel();
    let done: Done = Box::new(move || {
        let _ = sender.send(());
    });
    store.commit(commit, Some(done)).await.unwrap();
    durable.await.unwrap();
}

/// Neither a fault is told, nor anything lost or counted twice.
#[test]
fn a_journal_that_fails_is_passed_by() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let (store, failures) = with_failures(&path);
    let mut fault = store.fault();
    fault.mark_unchanged();
    block_on(async {
        for value in 1..=9 {
            failures.failing_appends.store(u32::from(value % 3 == 0), Ordering::SeqCst);
            // Of which nobody knows whether it reached the disk.
            failures.lying_syncs.store(u32::from(value % 4 == 0), Ordering::SeqCst);
            durable(&store, count_one("d", value)).await;
        }
        let (_left, left) = killed(&path);
        assert_eq!(counted(&mut unlocked(|| Database::open(&left, None)).unwrap(), "d"), 10);
        store.close(DEADLINE).await.unwrap();
    });
    assert!(!fault.has_changed().unwrap_or(false), "{:?}", fault.borrow());
    assert_eq!(counted(&mut unlocked(|| Database::open(&path, None)).unwrap(), "d"), 10);
    // What stands in its place keeps it from being made, and nobody from committing.
    let mut database = unlocked(|| Database::open(&path, None)).unwrap();
    database.until_journal = 0;
    fs::create_dir(path_of(&path)).unwrap();
    apply(&mut database, &[count_one("d", 1)]);
    assert!(database.journal.is_none() && database.until_journal > 0);
    assert_eq!(counted(&mut database, "d"), 11);
}

/// The group is in the tables, which said that it is not, and then in the journal: it counts once for whoever reads.
#[test]
fn a_checkpoint_of_unknown_fate_counts_once() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let mut database = journaling(&path);
    apply(&mut database, &[count_one("d", 1)]);
    let number = database.next_group();
    let group = [count_one("d", 2)];
    let failures = database.failures.clone();
    failures.failing_appends.store(1, Ordering::SeqCst);
    failures.lying_syncs.store(1, Ordering::SeqCst);
    database.apply(number, &group).unwrap_err();
    database.apply(number, &group).unwrap();
    assert_eq!(database.pending.groups.len(), 2);
    assert_eq!(counted(&mut database, "d"), 3);
    apply(&mut database, &[count_one("d", 3)]);
    assert_eq!(counted(&mut database, "d"), 4);
    let (_left, left) = killed(&path);
    assert_eq!(counted(&mut unlocked(|| Database::open(&left, None)).unwrap(), "d"), 4);
    database.settle().unwrap();
    assert_eq!(counted(&mut database, "d"), 4);
}

#[test]
fn a_failing_checkpoint_stops_no_commit_while_there_is_room() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let (store, failures) = with_failures(&path);
    block_on(async {
        durable(&store, count_one("d", 1)).await;
        failures.failing_checkpoints.store(u32::MAX, Ordering::SeqCst);
        let mut count = 2;
        while store.fault().borrow().is_none() {
            assert!(count < 300, "the journal has an end");
            // Waited for, unless it is that which has no room.
            let (sender, durable) = oneshot::channel();
            let done: Done = Box::new(move || {
                let _ = sender.send(());
            });
            store.commit(count_one("d", 1), Some(done)).await.unwrap();
            let mut fault = store.fault();
            tokio::select! {
                done = durable => done.unwrap(),
                fault = fault.wait_for(Option::is_some) => drop(fault.unwrap()),
            }
            count += 1;
        }
        assert!(count > 250, "{count} commits until the journal was full");
        assert_eq!(store.fault().borrow().as_ref().unwrap().kind, FaultKind::Io);
        // Whatever was called durable is there after a kill.
        let (_left, left) = killed(&path);
        let kept = counted(&mut unlocked(|| Database::look(&left)).unwrap(), "d");
        assert!((count - 1..=count).contains(&kept), "{kept} of {count}");
        failures.failing_checkpoints.store(0, Ordering::SeqCst);
        store.fault().wait_for(Option::is_none).await.unwrap();
        assert_eq!(store.load("d").await.unwrap().counters[0].1, count);
        // At the end a disk that refuses takes nothing of what the journal has.
        durable(&store, count_one("d", 1)).await;
        failures.failing_checkpoints.store(u32::MAX, Ordering::SeqCst);
        store.close(DEADLINE).await.unwrap();
        assert!(path_of(&path).exists());
        let mut database = unlocked(|| Database::open(&path, None)).unwrap();
        assert_eq!(counted(&mut database, "d"), count + 1);
    });
}

/// What redb has panicked over while it wrote is told at the next commit, not when the journal is full.
#[test]
fn a_journal_hides_no_damage_of_the_tables() {
    let directory = TempDir::new().unwrap();
    let mut database = journaling(&directory.path().join("state.redb"));
    apply(&mut database, &[count_one("d", 1)]);
    database.broken = Some("a page".to_owned());
    let fault = database.apply(database.next_group(), &[count_one("d", 2)]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Damaged);
}

/// Who gives up over a group gives up that group alone.
#[test]
fn closing_during_a_fault_keeps_what_the_journal_has() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let (store, failures) = with_failures(&path);
    block_on(async {
        for value in 1..=3 {
            durable(&store, count_one("d", value)).await;
        }
        failures.failing_syncs.store(u32::MAX, Ordering::SeqCst);
        store.commit(count_one("other", 9), None).await.unwrap();
        store.fault().wait_for(Option::is_some).await.unwrap();
        let lost = store.close(DEADLINE).await.unwrap_err();
        assert!(matches!(lost, StoreError::Unwritten { commits: 1, .. }), "{lost}");
    });
    let mut database = unlocked(|| Database::open(&path, None)).unwrap();
    assert_eq!(counted(&mut database, "d"), 4);
}

/// What an earlier version has written is read: whoever changes what a commit is gives the journal another format.
#[test]
fn a_payload_is_what_it_was() {
    let commit = Commit {
        daemon: "d".to_owned(),
        writes: vec![
            Write::Set { key: "k".to_owned(), value: vec![1, 2] },
            Write::Delete { key: "l".to_owned() },
        ],
        positions: vec![("p".to_owned(), vec![3])],
        counters: vec![("c".to_owned(), 300)],
        gauges: vec![("g".to_owned(), 0.5)],
    };
    let payload = journal::payload_of(std::slice::from_ref(&commit)).unwrap();
    let expected =
        b"\x01\x01d\x02\x00\x01k\x02\x01\x02\x01\x01l\x01\x01p\x01\x03\x01\x01c\xac\x02\x01\x01g\
                     \0\0\0\0\0\0\xe0?";
    assert_eq!(payload, expected);
    // Which is past the journal, and not cut off in it.
    let large = Write::Set { key: "k".to_owned(), value: vec![0; journal::PAYLOAD_BYTES_MAX] };
    assert!(journal::payload_of(&[Commit { writes: vec![large], ..commit }]).is_none());
}

/// On a full disk the journal takes what it has room for, and who reads waits for nothing.
#[test]
fn what_only_the_journal_has_is_read_while_tables_fail() {
    let disk = super::tests::SmallDisk::mount();
    let path = disk.0.path().join("state.redb");
    let (store, _) = with_failures(&path);
    block_on(async {
        durable(&store, count_one("d", 1)).await;
        let ballast = disk.0.path().join("ballast");
        let mut file = File::create(&ballast).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        drop(file);
        for value in 2..=9 {
            durable(&store, count_one("d", value)).await;
        }
        assert!(store.fault().borrow().is_none());
        // Past the journal, and past what the disk has.
        let mut large = count_one("other", 1);
        let value = |key: u32| Write::Set { key: format!("{key}"), value: vec![7; 60_000] };
        large.writes.extend((0..20).map(value));
        store.commit(large, None).await.unwrap();
        store.fault().wait_for(Option::is_some).await.unwrap();
        let loaded = store.load("d").await.unwrap();
        assert_eq!(loaded.counters, [("commits".to_owned(), 10)]);
        let mut exported = Vec::new();
        store.snapshot("d").await.unwrap().unwrap().write(&mut exported).unwrap();
        assert_eq!(*Export::read(&mut exported.as_slice()).unwrap().loaded(), loaded);
        fs::remove_file(&ballast).unwrap();
        store.fault().wait_for(Option::is_none).await.unwrap();
        assert_eq!(store.load("other").await.unwrap().counters[0].1, 2);
        store.close(DEADLINE).await.unwrap();
    });
}

/// What has been in the journal alone for long comes into the tables though nothing else happens.
#[test]
fn what_is_pending_for_long_is_applied() {
    let directory = TempDir::new().unwrap();
    let mut database = journaling(&directory.path().join("state.redb"));
    apply(&mut database, &[count_one("d", 1)]);
    database.settle_after(Duration::from_secs(3_600));
    assert_eq!(database.pending.groups.len(), 1);
    let failures = database.failures.clone();
    failures.failing_checkpoints.store(1, Ordering::SeqCst);
    let since = database.pending.since;
    database.settle_after(Duration::ZERO);
    assert!(database.pending.since > since, "it waits as long again");
    database.settle_after(Duration::ZERO);
    assert!(database.pending.groups.is_empty());
    assert_eq!(counted(&mut database, "d"), 2);

    // The writer does that, at its next look.
    let events = failures.events.clone();
    let store = Store::start_settling(database, GROUP_WINDOW, Duration::ZERO).unwrap();
    block_on(async {
        durable(&store, count_one("d", 2)).await;
        *events.lock().unwrap() = Some(Vec::new());
        let is_applied = || {
            let events = events.lock().unwrap();
            let is_sync = |(which, event): &(Which, Event)| {
                *which == Which::Database && matches!(event, Event::Sync)
            };
            events.as_ref().unwrap().iter().any(is_sync)
        };
        while !is_applied() {
            tokio::task::yield_now().await;
        }
        store.close(DEADLINE).await.unwrap();
    });
}

#[test]
fn a_journal_that_was_moved_is_noticed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let mut database = journaling(&path);
    apply(&mut database, &[count_one("d", 1)]);
    assert_eq!(database.astray(), None);
    let away = directory.path().join("away");
    fs::rename(path_of(&path), &away).unwrap();
    let astray = database.astray().unwrap();
    assert!(astray.contains("state.redb.journal was moved or removed"), "{astray}");
    fs::rename(&away, path_of(&path)).unwrap();
    assert_eq!(database.astray(), None);
    fs::remove_file(path_of(&path)).unwrap();
    fs::write(path_of(&path), "another").unwrap();
    assert!(database.astray().unwrap().contains("another file stands"));
    // The end saves what it had, and leaves what is not its own.
    database.finish().unwrap();
    assert_eq!(database.astray(), None);
    assert_eq!(fs::read(path_of(&path)).unwrap(), b"another");
    drop(database);
    fs::remove_file(path_of(&path)).unwrap();
    assert_eq!(counted(&mut unlocked(|| Database::open(&path, None)).unwrap(), "d"), 2);
}

#[test]
fn a_file_that_was_cut_is_noticed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let mut database = journaling(&path);
    apply(&mut database, &[count_one("d", 1)]);
    let length = fs::metadata(&path).unwrap().len();
    let file = File::options().write(true).open(&path).unwrap();
    assert_eq!(database.astray(), None);
    file.set_len(8_192).unwrap();
    let astray = database.astray().unwrap();
    assert!(astray.ends_with(&format!("was cut from {length} to 8192 bytes")), "{astray}");
    file.set_len(length).unwrap();
    assert_eq!(database.astray(), None);
}

/// Neither opening nor looking goes on with it; both files stay as they are; the way out keeps what was read.
#[track_caller]
fn check_refused(path: &Path, expected: &str, kept: u64) {
    let journal = path_of(path);
    let before = (fs::read(path).unwrap(), fs::read(&journal).ok());
    let opened = unlocked(|| Database::open(path, None)).map(drop).unwrap_err();
    let looked = unlocked(|| StateFile::look(path)).map(drop).unwrap_err();
    for refused in [opened, looked] {
        assert!(matches!(refused, StoreError::Journal { .. }), "{refused}");
        let refused = refused.to_string();
        for expected in [expected, &journal.display().to_string(), "state reset --journal"] {
            assert!(refused.contains(expected), "{expected:?} is not said: {refused}");
        }
    }
    assert!(before == (fs::read(path).unwrap(), fs::read(&journal).ok()), "a file was changed");
    let (_, aside) = unlocked(|| Database::open_without_journal(path, None)).unwrap();
    assert_eq!(aside.is_some(), before.1.is_some());
    let aside = fs::read(path.with_file_name("state.redb.journal.reset")).ok();
    assert!(aside == before.1 && !journal.exists());
    let mut database = unlocked(|| Database::open(path, None)).unwrap();
    assert_eq!(counted(&mut database, "d"), kept);
}

#[test]
fn a_journal_that_does_not_belong_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let mut database = journaling(&path);
    let (_without, without_journal) = {
        let other = TempDir::new().unwrap();
        let copy = other.path().join("state.redb");
        let mut database = unlocked(|| Database::open(&path.with_file_name("x"), None)).unwrap();
        apply(&mut database, &[count_one("d", 1)]);
        drop(database);
        fs::rename(path.with_file_name("x"), &copy).unwrap();
        (other, copy)
    };
    apply(&mut database, &[count_one("d", 1)]);
    let (_early, early) = killed(&path);
    database.settle().unwrap();
    for _ in 0..3 {
        apply(&mut database, &[count_one("d", 1)]);
    }
    let (_late, late) = killed(&path);
    database.finish().unwrap();
    database.until_journal = 0;
    let (_closed, closed) = killed(&path);
    apply(&mut database, &[count_one("d", 1)]);
    apply(&mut database, &[count_one("d", 1)]);
    let (_next, next) = killed(&path);
    let pair = |database: &Path, journal: Option<&Path>| {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("state.redb");
        fs::copy(database, &path).unwrap();
        if let Some(journal) = journal {
            fs::copy(path_of(journal), path_of(&path)).unwrap();
        }
        (directory, path)
    };
    // A file of this moment with a journal of that one.
    let (_kept, at) = pair(&late, None);
    check_refused(&at, "it is not there", 2);
    let (_kept, at) = pair(&early, Some(&late));
    check_refused(&at, "it begins with group 3, and the tables end with 1", 1);
    let (_kept, at) = pair(&late, Some(&next));
    check_refused(&at, "an earlier or a later time", 2);
    let (_kept, at) = pair(&next, Some(&late));
    check_refused(&at, "an earlier or a later time", 6);
    let (_kept, at) = pair(&closed, Some(&next));
    check_refused(&at, "it goes to group 7, and the state file ends with 5", 5);
    let (_kept, at) = pair(&without_journal, Some(&late));
    check_refused(&at, "that of another state file", 1);
    // What is no journal.
    for (bytes, expected) in [(&b""[..], "0 bytes"), (&[0; 9_000], "does not begin as one")] {
        let (_kept, at) = pair(&late, None);
        fs::write(path_of(&at), bytes).unwrap();
        check_refused(&at, expected, 2);
    }
    // What is done with does no harm.
    let (_kept, at) = pair(&closed, Some(&late));
    assert_eq!(counted(&mut unlocked(|| Database::open(&at, None)).unwrap(), "d"), 5);
    assert!(!path_of(&at).exists());
    // Nothing is written, or read, through a link.
    let (_kept, at) = pair(&closed, None);
    std::os::unix::fs::symlink(path_of(&late), path_of(&at)).unwrap();
    let refused = unlocked(|| Database::open(&at, None)).map(drop).unwrap_err().to_string();
    assert!(refused.contains("symbolic link"), "{refused}");
    // A journal without its file.
    let alone = TempDir::new().unwrap();
    let at = alone.path().join("state.redb");
    fs::copy(path_of(&late), path_of(&at)).unwrap();
    let refused = unlocked(|| Database::open(&at, None)).map(drop).unwrap_err().to_string();
    assert!(refused.contains("state.redb is not there") && !at.exists(), "{refused}");
    // A later version's.
    let (_kept, at) = pair(&late, Some(&late));
    let mut bytes = fs::read(path_of(&at)).unwrap();
    bytes[16] = 2;
    let sum = super::seal::sum_of_parts(&[&bytes[..42]]);
    bytes[42..50].copy_from_slice(&sum.to_le_bytes());
    fs::write(path_of(&at), bytes).unwrap();
    let refused = unlocked(|| Database::look(&at)).map(drop).unwrap_err().to_string();
    assert!(refused.contains("is not damaged") && refused.contains("format 2"), "{refused}");
}

/// Whoever has a copy kept of a file with a journal has one of both.
#[test]
fn a_copy_has_the_journal_too() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let mut database = journaling(&path);
    apply(&mut database, &[count_one("d", 1)]);
    let (left, at) = killed(&path);
    let before = (fs::read(&at).unwrap(), fs::read(path_of(&at)).unwrap());
    let kept = unlocked(|| StateFile::look(&at)).unwrap().keep_copy().unwrap();
    assert_eq!(kept, left.path().join("state.redb.damaged"));
    let journal = left.path().join("state.redb.journal.damaged");
    assert!(before == (fs::read(kept).unwrap(), fs::read(journal).unwrap()));
}

/// Whatever byte of a journal is another one: that is found, or the last record is lost, which is what a write that
/// was cut off looks like; or nothing is.
#[test]
fn any_byte_of_a_journal() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let mut database = journaling(&path);
    // Old records behind those that count, and one of several blocks among those.
    for value in 0..12 {
        apply(&mut database, &[count_one("d", value)]);
    }
    database.settle().unwrap();
    for (value, size) in [(1, 8), (2, 9_000), (3, 8), (4, 8)] {
        let mut commit = count_one("d", value);
        commit.writes.push(Write::Set { key: "large".to_owned(), value: vec![value; size] });
        apply(&mut database, &[commit]);
    }
    let (_left, left) = killed(&path);
    let last = 13;
    let journal = path_of(&left);
    let whole = fs::read(&journal).unwrap();
    let expected: Vec<u64> = (last + 1..=last + 4).collect();
    let read = |bytes: &[u8]| {
        let found = journal::parse(bytes.to_vec()).ok()?;
        let contents = found.after(last);
        let numbers: Vec<_> = contents.groups.iter().map(|(number, _)| *number).collect();
        Some((numbers, contents.damage))
    };
    assert_eq!(read(&whole), Some((expected.clone(), None)));
    // Records begin at blocks 1, 2, 5 and 6; behind block 7 lies what is old.
    let last_record = 6 * 4_096..7 * 4_096;
    let (mut found, mut cut, mut unharmed) = (0, 0, 0);
    for at in 0..9 * 4_096 {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        match read(&bytes) {
            None | Some((_, Some(_))) => found += 1,
            Some((numbers, None)) if numbers == expected => {
                // The zeros at the end of a block, and what is old.
                assert!(at >= 7 * 4_096 || whole[at] == 0, "byte {at} makes no difference");
                unharmed += 1;
            }
            Some((numbers, None)) => {
                assert_eq!(numbers, expected[..3], "byte {at}");
                assert!(last_record.contains(&at), "byte {at} of another record than the last");
                cut += 1;
            }
        }
    }
    println!("{found} found, {cut} as if cut off, {unharmed} without effect");
    assert!(found > 9_000 && cut > 20 && unharmed > 1_000, "{found} {cut} {unharmed}");
    // Wherever a journal ends too early.
    for length in (0..whole.len()).step_by(509) {
        match read(&whole[..length]) {
            None => assert!(length < 50, "{length}"),
            Some((numbers, damage)) => {
                assert!(
                    damage.is_none() && expected.starts_with(&numbers),
                    "{length}: {numbers:?}"
                );
            }
        }
    }
    // As the program says it.
    let mut bytes = whole.clone();
    bytes[4_096 + 30] ^= 1;
    fs::write(&journal, bytes).unwrap();
    check_refused(&left, "group 14 is not what was written, and group 17 is", 13);
}

/// A daemon that stores what looks like a record can't have it read as one.
#[test]
fn a_record_is_one_of_this_journal_at_this_place() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let mut database = journaling(&path);
    apply(&mut database, &[count_one("d", 1)]);
    apply(&mut database, &[count_one("d", 2)]);
    let (_left, left) = killed(&path);
    let journal = path_of(&left);
    let whole = fs::read(&journal).unwrap();
    let mut moved = whole.clone();
    moved.copy_within(2 * 4_096..3 * 4_096, 3 * 4_096);
    moved[2 * 4_096..3 * 4_096].fill(0);
    fs::write(&journal, &moved).unwrap();
    let contents = journal::read(&journal).unwrap().unwrap().after(1);
    assert_eq!((contents.groups.len(), contents.damage), (1, None));
}

#[derive(Clone, Debug)]
enum Act {
    Step(Step),
    Settle,
    Kill,
    /// The next syncs report a failure, of both files.
    Lie(u32),
    /// The next syncs fail, of both files.
    Fail(u32),
    FailingAppend,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        16 => step().prop_map(Act::Step),
        1 => Just(Act::Settle),
        2 => Just(Act::Kill),
        2 => (1..4_u32).prop_map(Act::Lie),
        2 => (1..4_u32).prop_map(Act::Fail),
        1 => Just(Act::FailingAppend),
    ]
}

/// As the writer does it: until it succeeds.
fn persist(database: &mut Database, mut write: impl FnMut(&mut Database) -> bool) {
    for _ in 0..20 {
        if write(database) {
            return;
        }
    }
    panic!("it does not succeed");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever fails, and however it ends, what is read is what was committed, once.
    #[test]
    fn a_journaled_store_behaves_as_the_model(acts in prop::collection::vec(act(), 1..50)) {
        let mut directory = TempDir::new().unwrap();
        let mut path = directory.path().join("state.redb");
        let open = |path: &Path| {
            let mut database = unlocked(|| Database::open(path, None)).unwrap();
            database.until_journal = 0;
            database
        };
        let mut database = open(&path);
        let mut model: BTreeMap<String, Model> = BTreeMap::new();
        for act in acts {
            match act {
                Act::Step(Step::Commit(commit)) => {
                    model.entry(commit.daemon.clone()).or_default().apply(&commit);
                    let number = database.next_group();
                    let group = [commit];
                    persist(&mut database, |database| database.apply(number, &group).is_ok());
                }
                Act::Step(Step::Load(daemon)) => {
                    let expected = model.get(&daemon).map(Model::loaded).unwrap_or_default();
                    let mut loaded = Loaded::default();
                    persist(&mut database, |database| {
                        let read = database.load(&daemon);
                        read.is_ok_and(|read| { loaded = read; true })
                    });
                    prop_assert_eq!(loaded, expected);
                }
                Act::Step(Step::Forget(daemon)) => {
                    model.remove(&daemon);
                    persist(&mut database, |database| database.forget(&daemon).is_ok());
                }
                Act::Step(Step::Reopen) => {
                    let _ = database.finish();
                    drop(database);
                    database = open(&path);
                }
                Act::Settle => drop(database.settle()),
                Act::Kill => {
                    let (left, at) = killed(&path);
                    drop(database);
                    (directory, path) = (left, at);
                    database = open(&path);
                }
                Act::Lie(count) => database.failures.lying_syncs.store(count, Ordering::SeqCst),
                Act::Fail(count) => database.failures.failing_syncs.store(count, Ordering::SeqCst),
                Act::FailingAppend => database.failures.failing_appends.store(1, Ordering::SeqCst),
            }
        }
        let (_left, at) = killed(&path);
        for mut database in [Database::look(&at).unwrap(), database] {
            for (daemon, model) in &model {
                let mut loaded = Loaded::default();
                persist(&mut database, |database| {
                    database.load(daemon).is_ok_and(|read| { loaded = read; true })
                });
                prop_assert_eq!(&loaded, &model.loaded());
            }
        }
        drop(directory);
    }
}
