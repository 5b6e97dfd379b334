//! Files of older schemas, as they were written, and as a crash in the middle of the migration leaves them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use redb::{Database as Redb, TableHandle as _};
use tempfile::TempDir;

use super::database::Database;
use super::migrate::{OLD_COUNTERS, OLD_GAUGES, OLD_POSITIONS, OLD_STATE};
use super::tables::{META, META_GROUP, META_SCHEMA};
use super::tests::{raw, unlocked};
use super::{Commit, Kept, Loaded, StateFile, Store};

/// A file as an older version wrote it; see `fixtures/README.md`.
struct Old {
    schema: u64,
    bytes: &'static [u8],
}

const FIXTURES: [Old; 2] = [
    Old { schema: 1, bytes: include_bytes!("fixtures/schema-1.redb") },
    Old { schema: 2, bytes: include_bytes!("fixtures/schema-2.redb") },
];
const DAEMONS: [&str; 3] = ["edge", "edge-2", "web"];

impl Old {
    fn file(&self) -> (TempDir, std::path::PathBuf) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("state.redb");
        fs::write(&path, self.bytes).unwrap();
        (directory, path)
    }

    fn copy(&self) -> String {
        format!("state.redb.schema-{}", self.schema)
    }

    fn has_ids(&self) -> bool {
        self.schema > 1
    }

    /// What it holds beside [`DAEMONS`].
    fn others(&self) -> usize {
        usize::from(self.schema == 2)
    }
}

/// What the fixture holds of a daemon, as text: a gauge that is no number equals nothing.
fn expected(daemon: &str) -> String {
    format!(
        "{:?}",
        Loaded {
            state: vec![
                ("empty".to_owned(), Vec::new()),
                ("large".to_owned(), vec![7; 6_000]),
                ("name".to_owned(), daemon.into()),
            ],
            positions: vec![("lines".to_owned(), vec![1, 2, 3])],
            counters: vec![("slices".to_owned(), u64::MAX), ("zero".to_owned(), 0)],
            gauges: vec![("level".to_owned(), -0.5), ("not a number".to_owned(), f64::NAN)],
        }
    )
}

#[track_caller]
fn check_all_is_there(database: &mut Database) {
    for daemon in DAEMONS {
        assert_eq!(format!("{:?}", database.load(daemon).unwrap()), expected(daemon), "{daemon}");
    }
    let names = kept(database);
    let names: Vec<_> =
        names.iter().map(|kept| kept.record().name()).filter(|name| *name != "imported").collect();
    assert_eq!(names, DAEMONS);
}

fn kept(database: &mut Database) -> Vec<Kept> {
    database.daemons().unwrap().into_iter().map(|(_, kept)| kept.unwrap()).collect()
}

fn names_in(directory: &TempDir) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| name(entry).unwrap()).collect();
    names.sort();
    names
}

#[test]
fn older_schemas_are_migrated_with_all_that_is_in_them() {
    for old in &FIXTURES {
        let (directory, path) = old.file();
        let ids = old.has_ids().then(|| kept(&mut unlocked(|| Database::look(&path)).unwrap()));
        let mut database = unlocked(|| Database::open(&path, Some("edge"))).unwrap();
        check_all_is_there(&mut database);
        assert_eq!(database.next_group(), 4, "the last group of the fixture is its third");
        drop(database);
        assert_eq!(names_in(&directory), ["state.redb", &old.copy()]);
        assert!(fs::read(directory.path().join(old.copy())).unwrap() == old.bytes);

        // Once, and it goes on: the ids that were drawn stay.
        let before = kept(&mut unlocked(|| Database::look(&path)).unwrap());
        assert!(ids.is_none_or(|ids| ids == before), "other ids were drawn");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let store = unlocked(|| Store::open_for(&path, "edge")).unwrap();
            let counters = vec![("zero".to_owned(), 5)];
            let commit = Commit { daemon: "web".to_owned(), counters, ..Commit::default() };
            store.commit(commit, None).await.unwrap();
            let loaded = store.load("web").await.unwrap();
            assert_eq!(loaded.counters[1], ("zero".to_owned(), 5));
            store.close(Duration::from_secs(20)).await.unwrap();
        });
        assert_eq!(names_in(&directory), ["state.redb", &old.copy()]);
        assert_eq!(kept(&mut unlocked(|| Database::look(&path)).unwrap()), before);
        assert!(
            unlocked(|| StateFile::look(&path)).unwrap().check(None).unwrap().damages.is_empty()
        );
        // The old tables are gone: what was written since is nowhere hidden by them.
        let redb = raw(&path);
        let transaction = redb::ReadableDatabase::begin_read(&redb).unwrap();
        let tables: Vec<_> =
            transaction.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
        assert_eq!(tables, ["meta", "names", "origin", "rows"]);
    }
}

/// Whoever reads a file of any schema sees all of it, and changes and makes nothing.
#[test]
fn looking_changes_nothing() {
    for old in &FIXTURES {
        let (directory, path) = old.file();
        assert_eq!(unlocked(|| StateFile::look(&path)).unwrap().has_ids(), old.has_ids());
        for _ in 0..2 {
            let mut database = unlocked(|| Database::look(&path)).unwrap();
            check_all_is_there(&mut database);
            assert!(database.export("web").unwrap().is_some());
        }
        let mut file = unlocked(|| StateFile::look(&path)).unwrap();
        assert!(file.check(None).unwrap().damages.is_empty());
        drop(file);
        assert!(fs::read(&path).unwrap() == old.bytes, "the file was changed");
        assert_eq!(names_in(&directory), ["state.redb"]);

        drop(unlocked(|| Database::open(&path, Some("edge"))).unwrap());
        let migrated = fs::read(&path).unwrap();
        let mut file = unlocked(|| StateFile::look(&path)).unwrap();
        assert!(file.has_ids());
        assert_eq!(file.daemons().unwrap().len(), 3 + old.others());
        assert!(file.export("web").unwrap().is_some() && file.export("nobody").unwrap().is_none());
        assert!(file.check(None).unwrap().damages.is_empty());
        drop(file);
        assert!(fs::read(&path).unwrap() == migrated, "the file was changed");
    }
}

/// Whatever was written last before a crash, in part too: what is found then is whole.
#[test]
fn a_crash_leaves_the_old_or_the_new() {
    for old in &FIXTURES {
        let (_directory, path) = old.file();
        let migrated = unlocked(|| Database::look(&path)).unwrap();
        let (crashed, crashed_at) = old.file();
        let file = File::options().read(true).write(true).open(&crashed_at).unwrap();
        let mut crashes = 0;
        migrated.hold.crashes(&file, |_| {
            let after = crashed.path().join("after");
            fs::create_dir(&after).unwrap();
            let state = after.join("state.redb");
            fs::copy(&crashed_at, &state).unwrap();
            check_all_is_there(&mut unlocked(|| Database::open(&state, Some("edge"))).unwrap());
            fs::remove_dir_all(&after).unwrap();
            crashes += 1;
        });
        assert!(crashes > 10, "{crashes} places to crash at: it was not the migration");
    }
}

#[test]
fn a_copy_is_never_replaced() {
    for old in &FIXTURES {
        let (directory, path) = old.file();
        let copy = directory.path().join(old.copy());
        // Cut off after its copy, the next attempt makes no second one.
        fs::write(&copy, old.bytes).unwrap();
        drop(unlocked(|| Database::open(&path, None)).unwrap());
        assert_eq!(names_in(&directory), ["state.redb", &old.copy()]);
        // Undone by hand with another copy: each is kept.
        fs::write(&path, old.bytes).unwrap();
        fs::write(&copy, "another").unwrap();
        drop(unlocked(|| Database::open(&path, None)).unwrap());
        assert_eq!(fs::read(&copy).unwrap(), b"another");
        let second = directory.path().join(format!("{}.1", old.copy()));
        assert!(fs::read(second).unwrap() == old.bytes);
    }
}

/// As a bit of the schema number that is another one makes it.
#[test]
fn a_schema_without_its_tables_is_damage() {
    for (from, to) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2), (3, 11)] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("state.redb");
        match FIXTURES.iter().find(|old| old.schema == from) {
            Some(old) => fs::write(&path, old.bytes).unwrap(),
            None => drop(unlocked(|| Database::open(&path, None)).unwrap()),
        }
        let redb = raw(&path);
        let transaction = redb.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert(META_SCHEMA, to).unwrap();
        transaction.commit().unwrap();
        drop(redb);
        let before = fs::read(&path).unwrap();
        let refused = unlocked(|| Database::look(&path)).unwrap_err().to_string();
        assert!(refused.contains("is damaged"), "{from} as {to}: {refused}");
        assert!(fs::read(&path).unwrap() == before, "the file was changed");
        assert!(unlocked(|| Database::open(&path, None)).is_err());
    }
}

type Contents = BTreeMap<(String, String), Vec<u8>>;

/// A file as schema 1 had it.
fn write_old(path: &Path, rows: &Contents) {
    let redb = Redb::create(path).unwrap();
    let transaction = redb.begin_write().unwrap();
    {
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert(META_SCHEMA, 1).unwrap();
        meta.insert(META_GROUP, 77).unwrap();
        let mut state = transaction.open_table(OLD_STATE).unwrap();
        let mut positions = transaction.open_table(OLD_POSITIONS).unwrap();
        let mut counters = transaction.open_table(OLD_COUNTERS).unwrap();
        let mut gauges = transaction.open_table(OLD_GAUGES).unwrap();
        for ((daemon, key), value) in rows {
            let key = (daemon.as_str(), key.as_str());
            // Some daemons are in some of the tables only.
            match value.len() % 4 {
                0 => drop(state.insert(key, value.as_slice()).unwrap()),
                1 => drop(positions.insert(key, value.as_slice()).unwrap()),
                2 => drop(counters.insert(key, value.len() as u64).unwrap()),
                _ => drop(gauges.insert(key, f64::from(value[0])).unwrap()),
            }
        }
    }
    transaction.commit().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_old_file_is_migrated_whole(
        rows in prop::collection::btree_map(
            (prop::sample::select(vec!["", "a", "a\u{1}", "aa", "b", "\u{10ffff}"]), "[kl]{0,2}"),
            prop::collection::vec(any::<u8>(), 0..30),
            0..40,
        ),
    ) {
        let own = |((daemon, key), value): ((&str, String), _)| ((daemon.to_owned(), key), value);
        let rows: Contents = rows.into_iter().map(own).collect();
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("state.redb");
        write_old(&path, &rows);
        let mut model: BTreeMap<String, Loaded> = BTreeMap::new();
        for ((daemon, key), value) in &rows {
            let loaded = model.entry(daemon.clone()).or_default();
            match value.len() % 4 {
                0 => loaded.state.push((key.clone(), value.clone())),
                1 => loaded.positions.push((key.clone(), value.clone())),
                2 => loaded.counters.push((key.clone(), value.len() as u64)),
                _ => loaded.gauges.push((key.clone(), f64::from(value[0]))),
            }
        }
        let mut database = unlocked(|| Database::open(&path, None)).unwrap();
        prop_assert_eq!(database.next_group(), 78);
        for (daemon, expected) in &model {
            prop_assert_eq!(&database.load(daemon).unwrap(), expected);
        }
        prop_assert_eq!(database.daemons().unwrap().len(), model.len());
    }
}
