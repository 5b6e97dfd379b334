//! A real process that commits in a loop is killed twenty times, at any instant.

use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::database::Database;
use super::journal::path_of;
use super::tests::unlocked;
use super::{Commit, Loaded, Store, Write};

/// Set in the child: the path of its database.
const PATH_VARIABLE: &str = "DUENDE_STORE_CRASH_TEST_PATH";
/// Set beside it: groups are small ones, which go by way of the journal.
const LONE_VARIABLE: &str = "DUENDE_STORE_CRASH_TEST_LONE";
const DAEMONS: [&str; 3] = ["a", "b", "c"];

/// The value that all parts of a daemon's data agree on.
fn value_of(loaded: &Loaded) -> u64 {
    if *loaded == Loaded::default() {
        return 0;
    }
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let value = number(&loaded.state[0].1);
    assert_eq!(number(&loaded.positions[0].1), value, "state and position are of one slice");
    assert_eq!(loaded.counters[0].1, value, "no slice was counted twice or left out");
    assert_eq!(loaded.gauges[0].1.to_bits(), f64::from(u32::try_from(value).unwrap()).to_bits());
    value
}

fn commit_of(daemon: &str, value: u32) -> Commit {
    let bytes = u64::from(value).to_le_bytes().to_vec();
    Commit {
        daemon: daemon.to_owned(),
        writes: vec![Write::Set { key: "value".to_owned(), value: bytes.clone() }],
        positions: vec![("lines".to_owned(), bytes)],
        counters: vec![("slices".to_owned(), 1)],
        gauges: vec![("level".to_owned(), f64::from(value))],
    }
}

/// Commits until it is killed, and prints the last daemon's value each time that it is durable.
async fn commit_for_ever(path: PathBuf) {
    let store = Store::open(path).unwrap();
    let is_lone = std::env::var_os(LONE_VARIABLE).is_some();
    // A group ends wherever time runs out: the last round may lack its last daemons.
    let mut value = u32::try_from(value_of(&store.load(DAEMONS[0]).await.unwrap())).unwrap();
    for daemon in DAEMONS {
        let from = u32::try_from(value_of(&store.load(daemon).await.unwrap())).unwrap();
        for missing in from + 1..=value {
            store.commit(commit_of(daemon, missing), None).await.unwrap();
        }
    }
    loop {
        value += 1;
        for daemon in DAEMONS {
            let done: Option<super::Done> = (daemon == "c").then(|| {
                let print = move || writeln!(std::io::stdout(), "durable {value}").unwrap();
                Box::new(print) as super::Done
            });
            store.commit(commit_of(daemon, value), done).await.unwrap();
        }
        if is_lone {
            store.flush().await.unwrap();
        }
    }
}

#[test]
fn kill_at_any_instant_leaves_whole_slices() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    if let Some(path) = std::env::var_os(PATH_VARIABLE) {
        return runtime.block_on(commit_for_ever(path.into()));
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let (_, module) = module_path!().split_once("::").unwrap();
    let (mut durable_before, mut journals) = (0, 0);
    for kill in 0..20_usize {
        let mut child = Command::new(std::env::current_exe().unwrap());
        if kill % 2 == 1 {
            child.env(LONE_VARIABLE, "");
        }
        let mut child = child
            .args([
                "--exact",
                "--nocapture",
                &format!("{module}::kill_at_any_instant_leaves_whole_slices"),
            ])
            .env(PATH_VARIABLE, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // After another number of groups each time, and in the middle of whatever it does then.
        let reports = lines
            .map_while(Result::ok)
            .filter_map(|line| line.split_once("durable ")?.1.parse().ok());
        let mut reports = reports.take(1 + kill * 37);
        let mut durable: u64 = reports.by_ref().last().expect("the child commits");
        child.kill().unwrap();
        child.wait().unwrap();
        durable = durable.max(durable_before);

        // Whoever only looks at what the kill left sees whole slices too, and mends nothing on the disk.
        let files = || [std::fs::read(&path).ok(), std::fs::read(path_of(&path)).ok()];
        let left = files();
        journals += u32::from(left[1].is_some());
        let mut looked = unlocked(|| Database::look(&path)).unwrap();
        let seen = DAEMONS.map(|daemon| value_of(&looked.load(daemon).unwrap()));
        drop(looked);
        assert!(files() == left, "looking changed a file");

        let store = unlocked(|| Store::open(&path)).unwrap();
        runtime.block_on(async {
            let mut values = Vec::new();
            for daemon in DAEMONS {
                values.push(value_of(&store.load(daemon).await.unwrap()));
            }
            assert_eq!(values, seen);
            // In the order of commits: a is first in each round, c last.
            assert!(values.is_sorted_by(|left, right| left >= right), "{values:?}");
            assert!(values[0] - values[2] <= 1, "{values:?}");
            assert!(values[2] >= durable, "durable {durable} was lost: {values:?}");
            durable_before = values[2];
            store.close(std::time::Duration::from_secs(20)).await.unwrap();
        });
        assert!(!path_of(&path).exists(), "what was closed has no journal");
    }
    assert!(journals >= 10, "{journals} kills left a journal");
}
