//! The registry against a list, and how the whole follows from its parts.

use std::format;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const STATUSES: [Status; 4] =
    [Status::Unknown, Status::Healthy, Status::Degraded, Status::Unhealthy];
const WHOLE: [Status; 3] = [Status::Healthy, Status::Degraded, Status::Unhealthy];
const NEEDS: [Need; 2] = [Need::Required, Need::Optional];

fn registry(capacity: usize) -> Registry<Vec<Slot>> {
    Registry::new(vec![Slot::EMPTY; capacity], Duration::from_millis(4_001))
}

/// Every pair of components in every status against the rule, spelled out as a table.
#[test]
fn the_whole_follows_from_its_parts() {
    // By need: unknown, healthy, degraded, unhealthy.
    let weight = |need, status| match need {
        Need::Required => [1, 0, 1, 2][status as usize],
        Need::Optional => [0, 0, 1, 1][status as usize],
    };
    for (first, second) in NEEDS.iter().flat_map(|a| NEEDS.iter().map(move |b| (*a, *b))) {
        for (a, b) in STATUSES.iter().flat_map(|a| STATUSES.iter().map(move |b| (*a, *b))) {
            let mut registry = registry(2);
            let ids = [("a", first), ("b", second)].map(|(name, need)| registry.add(name, need));
            for (id, status) in ids.into_iter().zip([a, b]) {
                registry.report(id.unwrap(), status).unwrap();
            }
            let worst = weight(first, a).max(weight(second, b));
            assert_eq!(registry.status(), WHOLE[worst], "{a:?} {b:?}");
            let lacks = |need, status| need == Need::Required && status != Status::Healthy;
            let missing = usize::from(lacks(first, a)) + usize::from(lacks(second, b));
            let expected = match missing {
                0 => Readiness::Ready,
                missing => Readiness::Degraded { missing, retry_after_s: 5 },
            };
            assert_eq!(registry.readiness(), expected);
        }
    }
    assert_eq!(registry(0).status(), Status::Healthy);
    assert_eq!(registry(0).readiness(), Readiness::Ready);
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, Need),
    Remove(usize),
    Report(usize, Status),
}

fn step() -> impl Strategy<Value = Step> {
    let (need, status) = (proptest::sample::select(&NEEDS), proptest::sample::select(&STATUSES));
    prop_oneof![
        (0..6_u8, need).prop_map(|(name, need)| Step::Add(name, need)),
        (0..20_usize).prop_map(Step::Remove),
        (0..20_usize, status).prop_map(|(id, status)| Step::Report(id, status)),
    ]
}

proptest! {
    /// Against a list that is searched anew for each question. Identifiers stay in use after
    /// their component is gone.
    #[test]
    fn agrees_with_a_list(steps in proptest::collection::vec(step(), 0..60)) {
        let mut registry = registry(4);
        let mut ids = Vec::new();
        let mut naive = Vec::<(usize, std::string::String, Need, Status)>::new();
        for step in steps {
            match step {
                Step::Add(name, need) => {
                    let name = format!("part {name}");
                    let expected = if naive.iter().any(|part| part.1 == name) {
                        Some(AddError::NameTaken)
                    } else if naive.len() == 4 {
                        Some(AddError::Full { capacity: 4 })
                    } else {
                        None
                    };
                    let added = registry.add(&name, need);
                    prop_assert_eq!(added.err(), expected);
                    if let Ok(id) = added {
                        naive.push((ids.len(), name, need, Status::Unknown));
                        ids.push(id);
                    }
                }
                Step::Remove(nth) => {
                    let Some(id) = ids.get(nth) else { continue };
                    let known = naive.iter().any(|part| part.0 == nth);
                    naive.retain(|part| part.0 != nth);
                    prop_assert_eq!(registry.remove(*id).is_ok(), known);
                }
                Step::Report(nth, status) => {
                    let Some(id) = ids.get(nth) else { continue };
                    let part = naive.iter_mut().find(|part| part.0 == nth);
                    prop_assert_eq!(registry.report(*id, status).is_ok(), part.is_some());
                    if let Some(part) = part {
                        part.3 = status;
                    }
                }
            }
            prop_assert_eq!(registry.check_invariants(), Ok(()));
            let count = |status| naive.iter().filter(|part| part.3 == status).count();
            let [unknown, healthy, degraded, unhealthy] = STATUSES.map(count);
            prop_assert_eq!(registry.counts(), Counts { unknown, healthy, degraded, unhealthy });
            prop_assert_eq!(registry.counts().total(), naive.len());
            let mut kept = registry.iter().collect::<Vec<_>>();
            let mut expected =
                naive.iter().map(|part| (part.1.as_str(), part.2, part.3)).collect::<Vec<_>>();
            kept.sort_unstable_by_key(|part| part.0);
            expected.sort_unstable_by_key(|part| part.0);
            prop_assert_eq!(&kept, &expected);
            let missing = expected
                .into_iter()
                .filter(|part| part.1 == Need::Required && part.2 != Status::Healthy)
                .map(|part| part.0);
            let mut named = registry.missing().collect::<Vec<_>>();
            named.sort_unstable();
            prop_assert!(missing.eq(named));
        }
    }
}

#[test]
fn names_and_delays_have_bounds() {
    let mut registry = registry(4);
    let refused = AddError::NameLength { bytes: 0 };
    assert_eq!(registry.add("", Need::Required), Err(refused));
    assert!(registry.add(&"x".repeat(NAME_BYTES_MAX), Need::Optional).is_ok());
    let refused = AddError::NameLength { bytes: NAME_BYTES_MAX + 1 };
    assert_eq!(registry.add(&"x".repeat(NAME_BYTES_MAX + 1), Need::Optional), Err(refused));

    for (retry_after, expected) in [
        (Duration::ZERO, 1),
        (Duration::from_secs(3), 3),
        (Duration::from_nanos(3_000_000_001), 4),
        (Duration::MAX, u32::MAX),
    ] {
        let mut registry = Registry::new([const { Slot::EMPTY }; 1], retry_after);
        registry.add("part", Need::Required).unwrap();
        let degraded = Readiness::Degraded { missing: 1, retry_after_s: expected };
        assert_eq!(registry.readiness(), degraded);
    }
}

#[test]
fn a_probe_says_how_a_daemon_is() {
    let failing = probe::Health::Failing { failures: 2 };
    let statuses = [probe::Health::Unknown, probe::Health::Healthy, failing].map(Status::from);
    assert_eq!(statuses, [Status::Unknown, Status::Healthy, Status::Degraded]);
}

#[test]
fn a_miscount_is_noticed() {
    let mut registry = registry(2);
    registry.add("bus", Need::Required).unwrap();
    registry.add("cache", Need::Optional).unwrap();
    assert_eq!(registry.check_invariants(), Ok(()));
    for need in [Need::Required, Need::Optional] {
        let mut spoiled = registry.clone();
        spoiled.count(need, None, Some(Status::Healthy));
        let words = format!("health miscounts what is {need:?}");
        assert_eq!(spoiled.check_invariants().unwrap_err().as_str(), words);
    }
}
