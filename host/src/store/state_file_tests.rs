//! Out of one file and into another.

use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::database::Database;
use super::tests::unlocked;
use super::{Commit, Export, ImportError, Loaded, StateFile, Write};

fn bytes_of(export: &Export) -> Vec<u8> {
    let mut bytes = Vec::new();
    export.write(&mut bytes).unwrap();
    bytes
}

/// A file in which one group was committed.
fn with_group(path: &Path, group: &[Commit]) {
    let mut database = unlocked(|| Database::open(path, None)).unwrap();
    let number = database.next_group();
    database.apply(number, group).unwrap();
}

fn export_of(path: &Path, name: &str) -> Export {
    let export = unlocked(|| StateFile::look(path)).unwrap().export(name).unwrap().unwrap();
    Export::read(&mut bytes_of(&export).as_slice()).unwrap()
}

fn one_key(daemon: &str, value: &str) -> Commit {
    let write = Write::Set { key: "value".to_owned(), value: value.into() };
    Commit { daemon: daemon.to_owned(), writes: vec![write], ..Commit::default() }
}

fn value_of(path: &Path, daemon: &str) -> Option<String> {
    let export = unlocked(|| StateFile::look(path)).unwrap().export(daemon).unwrap()?;
    let (_, value) = export.loaded().state.first()?;
    Some(String::from_utf8(value.clone()).unwrap())
}

fn commit() -> impl Strategy<Value = Commit> {
    let name = || "[a-z\u{e9}\u{1}]{0,4}";
    let bytes = || prop::collection::vec(any::<u8>(), 0..100);
    let set = (name(), bytes()).prop_map(|(key, value)| Write::Set { key, value });
    (
        prop::collection::vec(set, 0..6),
        prop::collection::vec((name(), bytes()), 0..3),
        prop::collection::vec((name(), any::<u64>()), 0..3),
        prop::collection::vec((name(), any::<u64>().prop_map(f64::from_bits)), 0..3),
    )
        .prop_map(|(writes, positions, counters, gauges)| Commit {
            daemon: "web".to_owned(),
            writes,
            positions,
            counters,
            gauges,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    /// What was exported, imported elsewhere and exported again is the same daemon, to the last bit.
    #[test]
    fn an_import_is_the_inverse_of_an_export(commit in commit()) {
        let directory = TempDir::new().unwrap();
        let (from, to) = (directory.path().join("from.redb"), directory.path().join("to.redb"));
        // Neighbours, which are not to come along or be touched.
        let others = [one_key("we", "1"), one_key("weba", "2")];
        with_group(&from, &[others.as_slice(), &[commit]].concat());
        with_group(&to, &others);
        let export = export_of(&from, "web");
        let id = unlocked(|| StateFile::open(&to, None)).unwrap().import(&export, "web", false).unwrap();
        prop_assert_eq!(id, export.id());
        let again = export_of(&to, "web");
        prop_assert_eq!(again.record(), export.record());
        prop_assert_eq!(format!("{:?}", again.loaded()), format!("{:?}", export.loaded()));
        for (name, value) in [("we", "1"), ("weba", "2")] {
            prop_assert_eq!(value_of(&to, name), Some(value.to_owned()));
        }
    }
}

#[test]
fn what_is_there_is_replaced_only_where_that_was_asked_for() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    with_group(&path, &[one_key("web", "old")]);
    let export = export_of(&path, "web");
    with_group(&path, &[one_key("web", "new")]);
    let import = |name: &str, replace: bool| {
        unlocked(|| StateFile::open(&path, None)).unwrap().import(&export, name, replace)
    };
    let refused = import("web", false).unwrap_err();
    assert!(matches!(refused, ImportError::Present { .. }), "{refused}");
    assert!(refused.to_string().contains("--replace"), "{refused}");
    assert_eq!(value_of(&path, "web").unwrap(), "new");

    // A copy beside the original is another daemon, which goes by its own name.
    let copy = import("web-2", false).unwrap();
    assert_ne!(copy, export.id());
    assert_eq!(value_of(&path, "web-2").unwrap(), "old");
    assert_eq!(value_of(&path, "web").unwrap(), "new");
    let daemons = unlocked(|| StateFile::look(&path)).unwrap().daemons().unwrap();
    let names: Vec<_> = daemons.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["web", "web-2"]);
    assert!(import("web-2", false).is_err(), "a second time");

    assert_eq!(import("web", true).unwrap(), export.id(), "it is the same daemon as before");
    assert_eq!(value_of(&path, "web").unwrap(), "old");
    with_group(&path, &[one_key("web", "later")]);
    assert_eq!(export_of(&path, "web").id(), export.id(), "and goes on");
}

/// A daemon of which nothing is kept yet is nothing that an import could destroy.
#[test]
fn an_empty_daemon_is_no_obstacle() {
    let directory = TempDir::new().unwrap();
    let (from, to) = (directory.path().join("from.redb"), directory.path().join("to.redb"));
    with_group(&from, &[one_key("web", "value")]);
    with_group(&to, &[Commit { daemon: "web".to_owned(), ..Commit::default() }]);
    assert_eq!(*export_of(&to, "web").loaded(), Loaded::default());
    let export = export_of(&from, "web");
    let id =
        unlocked(|| StateFile::open(&to, None)).unwrap().import(&export, "web", false).unwrap();
    assert_eq!(id, export.id());
    let daemons = unlocked(|| StateFile::look(&to)).unwrap().daemons().unwrap();
    assert_eq!(daemons.len(), 1);
    let kept = daemons[0].1.as_ref().unwrap();
    assert_eq!((kept.keys(), kept.bytes()), (1, 10));
}
