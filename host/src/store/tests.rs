//! The store against a model, against files that are not its own, and against a disk that fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::database::Database;
use super::tables::{META, META_ABOUT, ORIGIN, ROWS, sum_of_about};
use super::{
    Commit, FaultKind, GROUP_WINDOW, Loaded, Refused, StateFile, Store, StoreError, StoreFault,
    Write,
};

pub(super) const DEADLINE: Duration = Duration::from_secs(20);

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(DEADLINE, future).await.expect("within the deadline")
    })
}

/// Opens a file that was closed a moment ago. What another test starts has our descriptors, and with them the
/// lock, until it becomes its program.
pub(super) fn unlocked<T>(open: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let began = std::time::Instant::now();
    loop {
        match open() {
            Err(StoreError::Locked { .. }) if began.elapsed() < DEADLINE => {
                std::thread::yield_now();
            }
            other => return other,
        }
    }
}

/// As [`unlocked`], for redb alone.
pub(super) fn raw(path: &Path) -> redb::Database {
    let began = std::time::Instant::now();
    loop {
        match redb::Database::open(path) {
            Err(redb::DatabaseError::DatabaseAlreadyOpen) if began.elapsed() < DEADLINE => {
                std::thread::yield_now();
            }
            other => return other.unwrap(),
        }
    }
}

pub(super) fn count_one(daemon: &str, value: u8) -> Commit {
    Commit {
        daemon: daemon.to_owned(),
        writes: vec![Write::Set { key: "value".to_owned(), value: vec![value] }],
        counters: vec![("commits".to_owned(), 1)],
        ..Commit::default()
    }
}

pub(super) async fn wait_for_fault(
    store: &Store,
    wanted: impl Fn(&Option<StoreFault>) -> bool,
) -> Option<StoreFault> {
    store.fault().wait_for(wanted).await.unwrap().clone()
}

/// The model: per daemon what [`Loaded`] shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    state: BTreeMap<String, Vec<u8>>,
    positions: BTreeMap<String, Vec<u8>>,
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<String, f64>,
}

impl Model {
    pub(super) fn apply(&mut self, commit: &Commit) {
        for write in &commit.writes {
            match write {
                Write::Set { key, value } => drop(self.state.insert(key.clone(), value.clone())),
                Write::Delete { key } => drop(self.state.remove(key)),
            }
        }
        self.positions.extend(commit.positions.iter().cloned());
        for (name, delta) in &commit.counters {
            let total = self.counters.entry(name.clone()).or_default();
            *total = total.saturating_add(*delta);
        }
        self.gauges.extend(commit.gauges.iter().cloned());
    }

    pub(super) fn loaded(&self) -> Loaded {
        Loaded {
            state: self.state.clone().into_iter().collect(),
            positions: self.positions.clone().into_iter().collect(),
            counters: self.counters.clone().into_iter().collect(),
            gauges: self.gauges.clone().into_iter().collect(),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Commit(Commit),
    Load(String),
    Forget(String),
    Reopen,
}

/// Names of daemons that a range of keys could confuse, among them.
fn daemon() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "a\u{1}", "a0", "aa", "b"]).prop_map(str::to_owned)
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "k", "k2", "\u{10ffff}"]).prop_map(str::to_owned)
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20);
    let write = prop_oneof![
        3 => (name(), bytes()).prop_map(|(key, value)| Write::Set { key, value }),
        1 => name().prop_map(|key| Write::Delete { key }),
    ];
    let commit = (
        daemon(),
        prop::collection::vec(write, 0..4),
        prop::collection::vec((name(), bytes()), 0..2),
        prop::collection::vec((name(), any::<u64>()), 0..2),
        prop::collection::vec((name(), -1.0..1.0), 0..2),
    )
        .prop_map(|(daemon, writes, positions, counters, gauges)| {
            Step::Commit(Commit { daemon, writes, positions, counters, gauges })
        });
    prop_oneof![
        12 => commit,
        4 => daemon().prop_map(Step::Load),
        1 => daemon().prop_map(Step::Forget),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// A load sees every earlier commit of its own daemon, none of another, and so does a load after
    /// the store was closed and opened again.
    #[test]
    fn behaves_as_the_model(steps in prop::collection::vec(step(), 1..40)) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("state.redb");
        block_on(async {
            let mut store = Store::open(&path).unwrap();
            let mut model: BTreeMap<String, Model> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Commit(commit) => {
                        model.entry(commit.daemon.clone()).or_default().apply(&commit);
                        store.commit(commit, None).await.unwrap();
                    }
                    Step::Load(daemon) => {
                        let expected = model.get(&daemon).map(Model::loaded).unwrap_or_default();
                        assert_eq!(store.load(&daemon).await.unwrap(), expected);
                    }
                    Step::Forget(daemon) => {
                        model.remove(&daemon);
                        store.forget(&daemon).await.unwrap();
                    }
                    Step::Reopen => {
                        store.close(DEADLINE).await.unwrap();
                        store = Store::open(&path).unwrap();
                    }
                }
            }
            for (daemon, model) in &model {
                assert_eq!(store.load(daemon).await.unwrap(), model.loaded());
            }
        });
    }
}

#[test]
fn a_second_opener_is_refused_until_the_first_has_closed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let store = Store::open(&path).unwrap();
    let refused = Store::open(&path).unwrap_err();
    assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains("in use by another manager"), "{refused}");
    block_on(store.close(DEADLINE)).unwrap();
    Store::open(&path).unwrap();
}

/// A redb database with these numbers in its table `meta`, and these texts in `origin`.
fn with_meta(path: &Path, numbers: &[(&str, u64)], texts: &[(&str, &str)]) {
    let database = redb::Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    for (key, number) in numbers {
        transaction.open_table(META).unwrap().insert(key, number).unwrap();
    }
    for (key, text) in texts {
        transaction.open_table(ORIGIN).unwrap().insert(key, text).unwrap();
    }
    transaction.commit().unwrap();
}

/// Changes bytes of a file.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Neither opening nor looking gets further than an error that says this, and no byte changes.
#[track_caller]
fn check_refused(make: impl FnOnce(&Path), expected: &[&str]) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    make(&path);
    let before = fs::read(&path).ok();
    let names = || fs::read_dir(&directory).unwrap().count();
    let count = names();
    let opened = unlocked(|| Store::open_for(&path, "edge")).unwrap_err().to_string();
    let looked = unlocked(|| StateFile::look(&path)).err().map(|error| error.to_string());
    for refused in looked.iter().chain([&opened]) {
        for expected in expected {
            assert!(refused.contains(expected), "{expected:?} is not said: {refused}");
        }
    }
    assert!(fs::read(&path).ok() == before, "the file was changed");
    assert_eq!(names(), count, "something was made beside it");
}

/// What lies at the path is refused with the way out, and is not changed.
#[test]
fn files_that_are_not_ours_are_refused_and_left_alone() {
    let ours = |path: &Path| drop(Database::open(path, Some("edge")).unwrap());
    let foreign = "is not a state database";
    check_refused(|path| fs::write(path, "").unwrap(), &[foreign]);
    let text = "not a database, but longer than its header";
    check_refused(|path| fs::write(path, text).unwrap(), &[foreign, "move it away"]);
    check_refused(|path| with_meta(path, &[], &[]), &["without a schema number"]);
    check_refused(|path| with_meta(path, &[("group", 1)], &[]), &["without a schema number"]);
    check_refused(|path| fs::create_dir(path).unwrap(), &["cannot use"]);
    for length in [10, 100, 320, 5_000] {
        let cut = |path: &Path| {
            ours(path);
            change(path, |bytes| bytes.truncate(length));
        };
        check_refused(cut, &["is damaged", "put a copy in its place"]);
    }
    check_refused(|path| drop(Database::open(path, Some("other")).unwrap()), &["of fleet `other`"]);
}

/// What is whole, and another version's, is refused in words that cost nobody the state.
#[test]
fn another_format_is_not_called_damaged() {
    #[track_caller]
    fn check(make: impl FnOnce(&Path), expected: &[&str]) {
        check_refused(
            make,
            &[&["is not damaged", "leave the file where it is"], expected].concat(),
        );
    }
    let ours = |path: &Path| drop(Database::open(path, Some("edge")).unwrap());
    let redb = |versions: [u8; 2]| {
        move |path: &Path| {
            ours(path);
            change(path, |bytes| (bytes[64], bytes[192]) = (versions[0], versions[1]));
        }
    };
    // As older ones wrote it, one of the two alone, and as a newer one may.
    check(redb([2, 2]), &["redb's file format 2, where this version has 3"]);
    check(redb([2, 3]), &["file is version 2"]);
    check(redb([3, 2]), &["file is version 2"]);
    check(redb([4, 4]), &["redb's file format 4"]);

    let schema = |number: u64, reader_min: u64| {
        move |path: &Path| {
            let numbers = [("schema", number), ("reader_min", reader_min)];
            with_meta(path, &numbers, &[("writer", "duende 7.0.0")]);
        }
    };
    check(schema(5, 5), &["has schema 5", "duende 7.0.0", "schemas up to 4"]);
    check(schema(9, 5), &["has schema 9"]);
    check(schema(0, 0), &["has schema 0"]);
    check(|path| with_meta(path, &[("schema", 5)], &[]), &["has schema 5", "another version"]);

    // The types of a table are others: redb says that, not damage.
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    ours(&path);
    let database = raw(&path);
    let transaction = database.begin_write().unwrap();
    transaction.delete_table(ROWS).unwrap();
    let other = redb::TableDefinition::<u64, u64>::new("rows");
    transaction.open_table(other).unwrap();
    transaction.open_table(ORIGIN).unwrap().insert("writer", "duende 7.0.0").unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refused = unlocked(|| StateFile::look(&path)).unwrap().check(None).unwrap();
    let refused = refused.damages[0].to_string();
    for expected in ["is not damaged", "rows", "written by duende 7.0.0"] {
        assert!(refused.contains(expected), "{refused}");
    }
}

/// A newer file that says that this version may use it is used, and stays what it is.
#[test]
fn a_newer_file_may_say_that_it_can_be_used() {
    let later = redb::TableDefinition::<u64, u64>::new("later");
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    drop(Database::open(&path, Some("edge")).unwrap());
    let database = raw(&path);
    let transaction = database.begin_write().unwrap();
    {
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("schema", 5).unwrap();
        let sum = sum_of_about(&meta, &transaction.open_table(ORIGIN).unwrap()).unwrap();
        meta.insert(META_ABOUT, sum).unwrap();
    }
    transaction.open_table(later).unwrap().insert(1, 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    block_on(async {
        let store = unlocked(|| Store::open_for(&path, "edge")).unwrap();
        store.commit(count_one("d", 1), None).await.unwrap();
        store.close(DEADLINE).await.unwrap();
        let store = unlocked(|| Store::open(&path)).unwrap();
        assert_eq!(store.load("d").await.unwrap().counters, [("commits".to_owned(), 1)]);
        store.close(DEADLINE).await.unwrap();
    });
    let database = raw(&path);
    let transaction = redb::ReadableDatabase::begin_read(&database).unwrap();
    let schema = transaction.open_table(META).unwrap().get("schema").unwrap().unwrap().value();
    assert_eq!(schema, 5);
    assert_eq!(transaction.open_table(later).unwrap().get(1).unwrap().unwrap().value(), 2);
}

/// What comes after under the same name gets nothing of what was forgotten, its identity least of all.
#[test]
fn a_forgotten_daemon_gets_another_id() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let id = || {
        let daemons = unlocked(|| StateFile::look(&path)).unwrap().daemons().unwrap();
        let [(_, Ok(daemon))] = daemons.as_slice() else { panic!("{daemons:?}") };
        assert_eq!(daemon.record().name(), "d");
        assert!(daemon.record().created_s().is_some_and(|created| created > 1_700_000_000));
        daemon.id()
    };
    let commit = |forget: bool| {
        block_on(async {
            let store = unlocked(|| Store::open(&path)).unwrap();
            store.commit(count_one("d", 1), None).await.unwrap();
            if forget {
                store.forget("d").await.unwrap();
                store.commit(count_one("d", 1), None).await.unwrap();
            }
            store.close(DEADLINE).await.unwrap();
        });
        id()
    };
    let first = commit(false);
    assert_eq!(commit(false), first);
    assert_ne!(commit(true), first);
}

/// A creation that was killed half-way leaves its file beside the path; the next one starts over.
#[test]
fn an_unfinished_creation_is_started_over() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    fs::write(directory.path().join("state.redb.new"), vec![0; 10_000]).unwrap();
    Store::open(&path).unwrap();
    let names: Vec<_> =
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["state.redb"]);
}

/// The fsync fails after the data reached the disk: the retry must not add to the counter again.
#[test]
fn a_group_of_unknown_fate_is_applied_once() {
    let directory = TempDir::new().unwrap();
    let database = Database::open(&directory.path().join("state.redb"), None).unwrap();
    let lying_syncs = database.failures.lying_syncs.clone();
    let store = Store::start(database, GROUP_WINDOW).unwrap();
    block_on(async {
        for value in 1..=5 {
            lying_syncs.store(u32::from(value), Ordering::SeqCst);
            store.commit(count_one("d", value), None).await.unwrap();
            wait_for_fault(&store, |fault| {
                fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::Io)
            })
            .await;
            let loaded = store.load("d").await.unwrap();
            assert_eq!(loaded.counters, [("commits".to_owned(), u64::from(value))]);
            wait_for_fault(&store, Option::is_none).await;
        }
        store.close(DEADLINE).await.unwrap();
    });
}

/// A tmpfs of four mebibytes, for as long as the value lives.
pub(super) struct SmallDisk(pub(super) TempDir);

impl SmallDisk {
    pub(super) fn mount() -> Self {
        let directory = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(directory.path());
        let output = mount.output().unwrap();
        assert!(
            output.status.success(),
            "this test mounts a small tmpfs: run the tests as root, where mounting is allowed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// A full disk delays commits; when there is room again they are all there, in order, once.
#[test]
fn a_full_disk_loses_nothing() {
    let disk = SmallDisk::mount();
    let ballast = disk.0.path().join("ballast");
    let path = disk.0.path().join("state.redb");
    let store = Store::open(&path).unwrap();
    block_on(async {
        store.commit(count_one("other", 5), None).await.unwrap();
        store.flush().await.unwrap();
        // Fill what is left, page by page.
        let mut file = fs::File::create(&ballast).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        drop(file);

        // More than redb has room for in the file as it is.
        let mut first = count_one("d", 0);
        let big = |number| Write::Set { key: format!("big {number}"), value: vec![7; 60_000] };
        first.writes.extend((0..20).map(big));
        store.commit(first, None).await.unwrap();
        let fault = wait_for_fault(&store, Option::is_some).await.unwrap();
        assert_eq!(fault.kind, FaultKind::Full, "{fault}");
        let (sender, mut durable) = oneshot::channel();
        for value in 1..=99 {
            store.commit(count_one("d", value), None).await.unwrap();
        }
        // Nobody waits for it if the test has failed.
        let done = Box::new(move || {
            let _ = sender.send(());
        });
        store.commit(count_one("d", 100), Some(done)).await.unwrap();
        // It stays a fault, and no commit is called durable, while the disk is full.
        wait_for_fault(&store, |fault| fault.as_ref().is_some_and(|fault| fault.attempts > 2))
            .await;
        assert!(durable.try_recv().is_err());
        // Whom it does not concern reads on.
        let other = store.load("other").await.unwrap();
        assert_eq!(other.state, [("value".to_owned(), vec![5])]);

        fs::remove_file(&ballast).unwrap();
        durable.await.unwrap();
        wait_for_fault(&store, Option::is_none).await;
        let loaded = store.load("d").await.unwrap();
        assert_eq!(loaded.counters, [("commits".to_owned(), 101)]);
        assert_eq!(loaded.state.last(), Some(&("value".to_owned(), vec![100])));
        store.close(DEADLINE).await.unwrap();
    });
}

/// Closing while the fault lasts ends, and says how much is lost.
#[test]
fn closing_during_a_fault_tells_the_loss() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let database = Database::open(&path, None).unwrap();
    let lying_syncs = database.failures.lying_syncs.clone();
    let store = Store::start(database, GROUP_WINDOW).unwrap();
    block_on(async {
        lying_syncs.store(u32::MAX, Ordering::SeqCst);
        store.commit(count_one("d", 1), None).await.unwrap();
        wait_for_fault(&store, Option::is_some).await;
        store.commit(count_one("d", 2), None).await.unwrap();
        let lost = store.close(DEADLINE).await.unwrap_err();
        assert!(matches!(lost, StoreError::Unwritten { commits: 2, .. }), "{lost}");
        assert!(lost.to_string().starts_with("2 commits are lost"), "{lost}");
        let closed = store.commit(count_one("d", 3), None).await.unwrap_err();
        assert!(matches!(closed, StoreError::Closed), "{closed}");
        // The file is free again.
        Store::open(&path).unwrap();
    });
}

/// Beyond its bound the queue waits, and goes on when there is room.
#[test]
fn a_full_queue_waits() {
    let directory = TempDir::new().unwrap();
    let database = Database::open(&directory.path().join("state.redb"), None).unwrap();
    let lying_syncs = database.failures.lying_syncs.clone();
    let store = Store::start(database, GROUP_WINDOW).unwrap();
    block_on(async {
        lying_syncs.store(u32::MAX, Ordering::SeqCst);
        let half = || Commit {
            daemon: "d".to_owned(),
            writes: vec![Write::Set {
                key: "value".to_owned(),
                value: vec![1; super::QUEUE_BYTES_MAX / 2],
            }],
            ..Commit::default()
        };
        store.commit(half(), None).await.unwrap();
        wait_for_fault(&store, Option::is_some).await;
        let second = store.commit(half(), None);
        tokio::pin!(second);
        let waits = std::future::poll_fn(|context| {
            std::task::Poll::Ready(second.as_mut().poll(context).is_pending())
        });
        assert!(waits.await, "the queue holds more than its bound");
        lying_syncs.store(0, Ordering::SeqCst);
        second.await.unwrap();
        store.close(DEADLINE).await.unwrap();
    });
}

fn with_failures() -> (TempDir, Store, super::disk::Failures) {
    let directory = TempDir::new().unwrap();
    let database = Database::open(&directory.path().join("state.redb"), None).unwrap();
    let failures = database.failures.clone();
    let store = Store::start(database, GROUP_WINDOW).unwrap();
    (directory, store, failures)
}

/// Whether a future is not done yet when it is first asked.
async fn is_pending<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
    let mut future = future;
    let poll = |context: &mut std::task::Context<'_>| future.as_mut().poll(context).is_pending();
    let mut poll = poll;
    std::future::poll_fn(|context| std::task::Poll::Ready(poll(context))).await
}

/// A fault of writing, of either kind and however long, stops nobody from reading what it does not
/// concern; whoever it concerns reads all that was committed once it is over.
#[test]
fn a_load_waits_for_its_own_daemon_only() {
    fn check(set: impl Fn(&super::disk::Failures, u32)) {
        let (_directory, store, failures) = with_failures();
        block_on(async {
            for value in 1..=3 {
                store.commit(count_one("other", value), None).await.unwrap();
            }
            store.flush().await.unwrap();
            set(&failures, u32::MAX);
            store.commit(count_one("d", 1), None).await.unwrap();
            // It closes the group that fails, and does not wait for it.
            let refused = store.load("other").await;
            assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
            wait_for_fault(&store, Option::is_some).await;
            store.commit(count_one("queued", 1), None).await.unwrap();

            // With every sync failing the file can't be opened anew: that is an error, at once.
            let refused = store.load("other").await;
            assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
            for own in ["d", "queued"] {
                let load = store.load(own);
                tokio::pin!(load);
                assert!(is_pending(load.as_mut()).await);
                // Served before `own`, although asked for after it.
                let _ = store.load("other").await;
                assert!(is_pending(load.as_mut()).await, "{own} is not on the disk");
            }
            let loads = ["d", "queued"].map(|own| store.load(own));
            set(&failures, 0);
            for load in loads {
                assert_eq!(load.await.unwrap().counters, [("commits".to_owned(), 1)]);
            }
            store.close(DEADLINE).await.unwrap();
        });
    }
    check(|failures, count| failures.lying_syncs.store(count, Ordering::SeqCst));
    check(|failures, count| failures.failing_syncs.store(count, Ordering::SeqCst));
}

/// A commit that was given back is accepted after `room`, whatever its size.
#[test]
fn what_was_refused_has_room_after_the_wait() {
    for parts in [4, 1] {
        let (_directory, store, failures) = with_failures();
        block_on(async {
            failures.failing_syncs.store(u32::MAX, Ordering::SeqCst);
            let part = || Commit {
                daemon: "d".to_owned(),
                writes: vec![Write::Set {
                    key: "value".to_owned(),
                    value: vec![1; super::QUEUE_BYTES_MAX / parts],
                }],
                ..Commit::default()
            };
            let mut accepted = 0;
            let refused = loop {
                match store.try_commit(part()) {
                    Ok(()) => accepted += 1,
                    Err(Refused::Full(refused)) => break refused,
                    Err(Refused::Closed) => panic!("closed"),
                }
            };
            assert!((1..=parts).contains(&accepted), "{accepted} of {parts}");
            assert_eq!(*refused, part());
            let room = store.room();
            tokio::pin!(room);
            assert!(is_pending(room.as_mut()).await);
            failures.failing_syncs.store(0, Ordering::SeqCst);
            room.await.unwrap();
            assert!(store.try_commit(*refused).is_ok(), "one of {parts} has no room");
            store.close(DEADLINE).await.unwrap();
            assert!(matches!(store.try_commit(part()), Err(Refused::Closed)));
            assert!(matches!(store.room().await, Err(StoreError::Closed)));
        });
    }
}

/// A disk that does not answer holds up the end as long as it was told, and no longer; what may be lost
/// is counted, and is there when the disk answers after all.
#[test]
fn a_disk_that_does_not_answer_holds_nobody_up() {
    let (directory, store, failures) = with_failures();
    let hangs = failures.slow.lock().unwrap();
    block_on(async {
        store.commit(count_one("d", 1), None).await.unwrap();
        store.commit(count_one("d", 2), None).await.unwrap();
        let unknown = store.close(Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(unknown, StoreError::NoAnswer { commits: 2, .. }), "{unknown}");
        assert!(unknown.to_string().contains("2 commits"), "{unknown}");
        assert!(matches!(store.close(DEADLINE).await, Err(StoreError::Closed)));
    });
    drop(hangs);
    // The writer that was left behind unlocks the file once it is done.
    let store = unlocked(|| Store::open(directory.path().join("state.redb"))).unwrap();
    let loaded = block_on(store.load("d")).unwrap();
    assert_eq!(loaded.counters, [("commits".to_owned(), 2)]);
}

/// What a fault says of what is lost is true of its kind.
#[test]
fn a_fault_promises_nothing_that_it_does_not_keep() {
    for (kind, expected) in [
        (FaultKind::Full, "if the manager ends before, it is lost"),
        (FaultKind::Io, "if the manager ends before it is written, it is lost"),
        (FaultKind::Damaged, "is lost then"),
        (FaultKind::OtherFormat, "is not damaged"),
    ] {
        let fault = StoreFault { kind, path: "/s".into(), detail: "disk".to_owned(), attempts: 3 };
        let text = fault.to_string();
        assert!(text.contains(expected) && !text.contains("nothing is lost"), "{text}");
        let lost = StoreError::Unwritten { commits: 2, fault }.to_string();
        assert!(!lost.contains("try") && lost.contains("2 commits are lost"), "{lost}");
    }
}

/// Whoever waits for a commit alone waits as long as groups are open; whoever asks for something does not.
#[test]
fn a_window_is_how_long_a_lone_commit_waits() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let (short, long) = (Duration::from_millis(60), Duration::from_secs(600));
    for (window, is_waited_out) in [(short, true), (long, false)] {
        block_on(async {
            let store = unlocked(|| Store::open_gathering(&path, None, window)).unwrap();
            let began = std::time::Instant::now();
            let (sender, mut durable) = oneshot::channel();
            let done = Box::new(move || {
                let _ = sender.send(());
            });
            store.commit(count_one("d", 1), Some(done)).await.unwrap();
            if is_waited_out {
                durable.await.unwrap();
                assert!(began.elapsed() >= window);
            } else {
                assert!(durable.try_recv().is_err());
                store.flush().await.unwrap();
                durable.await.unwrap();
                store.commit(count_one("d", 1), None).await.unwrap();
                store.close(DEADLINE).await.unwrap();
                assert!(began.elapsed() < window);
            }
        });
    }
    let mut database = unlocked(|| Database::open(&path, None)).unwrap();
    assert_eq!(database.load("d").unwrap().counters, [("commits".to_owned(), 3)]);
}
