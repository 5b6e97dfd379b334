//! A file that was closed cleanly, and then changed by a disk, a copy or a hand: what is read of it is right, or
//! refused by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::database::Database;
use super::tests::unlocked;
use super::{Commit, Loaded, StateFile, Store, StoreError, Write};

const DEADLINE: Duration = Duration::from_secs(20);
/// redb's.
const PAGE_BYTES: usize = 4_096;
const DAEMONS: u32 = 6;

/// The generator of damages: splitmix64.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((x ^ (x >> 31)) % bound as u64).unwrap()
    }
}

fn name(daemon: u32) -> String {
    format!("daemon-{daemon}")
}

fn commit(daemon: u32, round: u32) -> Commit {
    // Some values fill pages of their own.
    let size = if daemon.is_multiple_of(2) { 40 } else { 1_500 };
    let value = |key: u32| {
        let mut value = format!("{daemon} {key} {round} ").into_bytes();
        value.resize(size, u8::try_from(round % 251).unwrap());
        value
    };
    let keys = if round == 0 { 0..8 } else { round % 8..round % 8 + 1 };
    let set = |key: u32| Write::Set { key: format!("key {key}"), value: value(key) };
    Commit {
        daemon: name(daemon),
        writes: keys.map(set).collect(),
        positions: vec![("lines".to_owned(), round.to_le_bytes().to_vec())],
        counters: vec![("rounds".to_owned(), 1)],
        gauges: vec![("level".to_owned(), f64::from(round))],
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(DEADLINE, future).await.expect("within the deadline")
    })
}

/// A file with several daemons, written in many commits and closed, and what it holds.
fn make(path: &Path) -> BTreeMap<String, Loaded> {
    block_on(async {
        let store = unlocked(|| Store::open_for(path, "edge")).unwrap();
        for round in 0..12 {
            for daemon in 0..DAEMONS {
                store.commit(commit(daemon, round), None).await.unwrap();
            }
            store.flush().await.unwrap();
        }
        let mut all = BTreeMap::new();
        for daemon in 0..DAEMONS {
            all.insert(name(daemon), store.load(&name(daemon)).await.unwrap());
        }
        store.close(DEADLINE).await.unwrap();
        all
    })
}

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Bit,
    Zeros,
    Cut,
    Swap,
    /// A page as it was some commits ago.
    Stale,
}

fn damage(bytes: &mut Vec<u8>, older: &[u8], how: Damage, draws: &mut Draws) {
    let pages = bytes.len() / PAGE_BYTES;
    let page = |at: usize| at * PAGE_BYTES..(at + 1) * PAGE_BYTES;
    match how {
        Damage::Bit => {
            let at = draws.below(bytes.len());
            bytes[at] ^= 1 << draws.below(8);
        }
        Damage::Zeros => bytes[page(draws.below(pages))].fill(0),
        Damage::Cut => bytes.truncate(draws.below(bytes.len())),
        Damage::Swap => {
            let (one, other) = (page(draws.below(pages)), page(draws.below(pages)));
            let kept = bytes[one.clone()].to_vec();
            bytes.copy_within(other.clone(), one.start);
            bytes[other].copy_from_slice(&kept);
        }
        Damage::Stale => {
            let page = page(draws.below(pages.min(older.len() / PAGE_BYTES)));
            bytes[page.clone()].copy_from_slice(&older[page]);
        }
    }
}

/// What came of damages.
#[derive(Debug, Default)]
struct Count {
    unharmed: u32,
    one_daemon: u32,
    some_daemons: u32,
    whole_file: u32,
    silent: Vec<String>,
}

/// Opens the file, reads all daemons through the running store, goes on with those that can, closes, and reads
/// again: each is right, or refused by name.
fn judge(path: &Path, expected: &BTreeMap<String, Loaded>, what: &str, count: &mut Count) {
    let path_text = path.display().to_string();
    let named = |error: &StoreError| {
        let text = error.to_string();
        assert!(text.contains(&path_text), "{what}: the file is not named: {text}");
        text
    };
    let store = match unlocked(|| Store::open_for(path, "edge")) {
        Ok(store) => store,
        Err(error) => {
            named(&error);
            count.whole_file += 1;
            return;
        }
    };
    let (mut refused, mut right) = (0, Vec::new());
    block_on(async {
        for (daemon, expected) in expected {
            match store.load(daemon).await {
                Ok(loaded) if loaded == *expected => right.push(daemon),
                Ok(loaded) => count.silent.push(format!("{what}: {daemon}: {loaded:?}")),
                Err(error) => {
                    let text = named(&error);
                    assert!(text.contains(daemon.as_str()), "{what}: {daemon}: {text}");
                    refused += 1;
                }
            }
        }
        // Whoever is right goes on; the pages that this writes may be damaged ones.
        for daemon in (0..DAEMONS).filter(|daemon| right.contains(&&name(*daemon))) {
            store.commit(commit(daemon, 12), None).await.unwrap();
        }
        let fault = store.fault();
        let closed = store.close(DEADLINE).await;
        if let Err(error) = &closed {
            named(error);
            assert!(fault.borrow().is_some(), "{what}: no fault was told of: {error}");
        }
        match (refused, &closed) {
            (_, Err(_)) => count.whole_file += 1,
            (0, Ok(())) => count.unharmed += 1,
            (1, Ok(())) => count.one_daemon += 1,
            (_, Ok(())) => count.some_daemons += 1,
        }
    });
}

#[test]
fn damage_anywhere_is_found_and_never_a_panic() {
    let directory = TempDir::new().unwrap();
    let whole = directory.path().join("whole.redb");
    let expected = make(&whole);
    let bytes = fs::read(&whole).unwrap();
    let older = {
        let path = directory.path().join("older.redb");
        fs::write(&path, &bytes).unwrap();
        block_on(async {
            let store = unlocked(|| Store::open_for(&path, "edge")).unwrap();
            for daemon in 0..DAEMONS {
                store.commit(commit(daemon, 13), None).await.unwrap();
                store.flush().await.unwrap();
            }
            store.close(DEADLINE).await.unwrap();
        });
        fs::read(&path).unwrap()
    };
    let path = directory.path().join("state.redb");
    let mut counts = Vec::new();
    for how in [Damage::Bit, Damage::Zeros, Damage::Cut, Damage::Swap, Damage::Stale] {
        let mut count = Count::default();
        for seed in 0..60 {
            let mut draws = Draws(seed);
            let mut damaged = bytes.clone();
            damage(&mut damaged, &older, how, &mut draws);
            fs::write(&path, &damaged).unwrap();
            let what = format!("{how:?}, seed {seed}");
            // Whoever only looks finds no panic either.
            let checked = unlocked(|| StateFile::look(&path)).and_then(|mut file| file.check(None));
            let is_damaged = checked.is_ok_and(|checked| !checked.damages.is_empty());
            let before = count.one_daemon + count.some_daemons;
            judge(&path, &expected, &what, &mut count);
            let refused = count.one_daemon + count.some_daemons > before;
            assert!(!refused || is_damaged, "{what}: a check found nothing");
        }
        counts.push((how, count));
    }
    for (how, count) in &counts {
        println!(
            "{how:?}: {} unharmed, {} of one daemon, {} of some, {} of the file, {} in silence",
            count.unharmed,
            count.one_daemon,
            count.some_daemons,
            count.whole_file,
            count.silent.len()
        );
    }
    for (how, count) in counts {
        assert!(count.silent.is_empty(), "{how:?}: {:#?}", count.silent);
    }
}

/// The rows of one daemon are at fault, and whoever has none of them goes on; what is written to it meanwhile
/// makes nothing right.
#[test]
fn damage_is_not_written_over() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let expected = make(&path);
    let mut bytes = fs::read(&path).unwrap();
    // Every copy that the file has of a value of one daemon.
    let mut found = 0;
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(b"2 3 11 ") {
            bytes[at] = b'7';
            found += 1;
        }
    }
    assert!(found > 0, "the value is not there");
    fs::write(&path, bytes).unwrap();
    for _ in 0..2 {
        block_on(async {
            let store = unlocked(|| Store::open_for(&path, "edge")).unwrap();
            for (daemon, expected) in &expected {
                match store.load(daemon).await {
                    Ok(loaded) => assert_eq!((&loaded, &**daemon != "daemon-2"), (expected, true)),
                    Err(StoreError::DamagedDaemon { daemon: found, detail, .. }) => {
                        assert_eq!(found, "daemon-2");
                        assert!(detail.contains("key 3") || detail.contains("entries"), "{detail}");
                    }
                    Err(error) => panic!("{daemon}: {error}"),
                }
            }
            assert!(store.load("daemon-2").await.is_err());
            // The value itself, and a counter.
            let write = Write::Set { key: "key 3".to_owned(), value: b"new".to_vec() };
            let commit = Commit {
                daemon: "daemon-2".to_owned(),
                writes: vec![write],
                counters: vec![("other".to_owned(), 1)],
                ..Commit::default()
            };
            store.commit(commit, None).await.unwrap();
            assert!(store.load("daemon-2").await.is_err());
            store.close(DEADLINE).await.unwrap();
        });
    }
    // The way out.
    unlocked(|| StateFile::open(&path, None)).unwrap().reset("daemon-2").unwrap();
    let checked = unlocked(|| StateFile::look(&path)).unwrap().check(None).unwrap();
    assert!(checked.damages.is_empty(), "{:?}", checked.damages);
    assert_eq!(checked.daemons, expected.len() - 1);
    let mut database = unlocked(|| Database::open(&path, None)).unwrap();
    assert_eq!(database.load("daemon-2").unwrap(), Loaded::default());
}
