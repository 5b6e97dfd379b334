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
use super::{Commit, FaultKind, Loaded, Refused, Store, StoreError, StoreFault, Write};

const DEADLINE: Duration = Duration::from_secs(20);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(DEADLINE, future).await.expect("within the deadline")
    })
}

fn count_one(daemon: &str, value: u8) -> Commit {
    Commit {
        daemon: daemon.to_owned(),
        writes: vec![Write::Set { key: "value".to_owned(), value: vec![value] }],
        counters: vec![("commits".to_owned(), 1)],
        ..Commit::default()
    }
}

async fn wait_for_fault(
    store: &Store,
    wanted: impl Fn(&Option<StoreFault>) -> bool,
) -> Option<StoreFault> {
    store.fault().wait_for(wanted).await.unwrap().clone()
}

/// The model: per daemon what [`Loaded`] shows.
#[derive(Clone, Debug, Default)]
struct Model {
    state: BTreeMap<String, Vec<u8>>,
    positions: BTreeMap<String, Vec<u8>>,
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<String, f64>,
}

impl Model {
    fn apply(&mut self, commit: &Commit) {
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

    fn loaded(&self) -> Loaded {
        Loaded {
            state: self.state.clone().into_iter().collect(),
            positions: self.positions.clone().into_iter().collect(),
            counters: self.counters.clone().into_iter().collect(),
            gauges: self.gauges.clone().into_iter().collect(),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
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

fn step() -> impl Strategy<Value = Step> {
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

/// What lies at the path is refused with the way out, and is not changed.
#[test]
fn files_that_are_not_ours_are_refused_and_left_alone() {
    fn check(make: impl FnOnce(&Path), expected: &str) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("state.redb");
        make(&path);
        let before = fs::read(&path).ok();
        let refused = Store::open(&path).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
        // redb notes in its own header that it opened the file.
        if !before.as_ref().is_some_and(|bytes| bytes.starts_with(b"redb")) {
            assert!(fs::read(&path).ok() == before, "the file was changed");
        }
    }
    check(|path| fs::write(path, "").unwrap(), "is not a state database");
    check(
        |path| fs::write(path, "not a database, but longer than its header").unwrap(),
        "move it away",
    );
    check(
        |path| {
            let database = redb::Database::create(path).unwrap();
            database.begin_write().unwrap().commit().unwrap();
        },
        "without a schema number",
    );
    check(
        |path| {
            let database = redb::Database::create(path).unwrap();
            let transaction = database.begin_write().unwrap();
            let meta = redb::TableDefinition::<&str, u64>::new("meta");
            transaction.open_table(meta).unwrap().insert("schema", 2).unwrap();
            transaction.commit().unwrap();
        },
        "has schema 2, and this version of duende reads schema 1",
    );
    check(
        |path| {
            drop(Database::open(path).unwrap());
            let whole = fs::read(path).unwrap();
            fs::write(path, &whole[..100]).unwrap();
        },
        "is damaged",
    );
    check(|path| fs::create_dir(path).unwrap(), "cannot use");
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
    let database = Database::open(&directory.path().join("state.redb")).unwrap();
    let lying_syncs = database.failures.lying_syncs.clone();
    let store = Store::start(database).unwrap();
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
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
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
    let database = Database::open(&path).unwrap();
    let lying_syncs = database.failures.lying_syncs.clone();
    let store = Store::start(database).unwrap();
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
    let database = Database::open(&directory.path().join("state.redb")).unwrap();
    let lying_syncs = database.failures.lying_syncs.clone();
    let store = Store::start(database).unwrap();
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

fn with_failures() -> (TempDir, Store, super::database::Failures) {
    let directory = TempDir::new().unwrap();
    let database = Database::open(&directory.path().join("state.redb")).unwrap();
    let failures = database.failures.clone();
    let store = Store::start(database).unwrap();
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
    fn check(set: impl Fn(&super::database::Failures, u32)) {
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
    let began = std::time::Instant::now();
    let store = loop {
        match Store::open(directory.path().join("state.redb")) {
            Ok(store) => break store,
            Err(StoreError::Locked { .. }) if began.elapsed() < DEADLINE => {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    };
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
    ] {
        let fault = StoreFault { kind, path: "/s".into(), detail: "disk".to_owned(), attempts: 3 };
        let text = fault.to_string();
        assert!(text.contains(expected) && !text.contains("nothing is lost"), "{text}");
        let lost = StoreError::Unwritten { commits: 2, fault }.to_string();
        assert!(!lost.contains("try") && lost.contains("2 commits are lost"), "{lost}");
    }
}
