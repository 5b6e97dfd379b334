use super::*;
use proptest::prelude::*;

struct Nothing;

impl Outside for Nothing {
    fn log(&mut self, _: Level, _: &str) {}
    fn monotonic(&mut self) -> Instant {
        Instant { nanoseconds: 0 }
    }
    fn wall(&mut self) -> Duration {
        Duration::ZERO
    }
    fn entropy(&mut self, _: &mut [u8]) {}
}

const AT: Address = Address {
    daemon: 0,
    incarnation: 1,
};

fn ledger(grants: Grants, state_bytes_max: u64) -> Ledger<Nothing> {
    Ledger::new(Nothing, AT, grants, state_bytes_max)
}

fn everything() -> Grants {
    Grants::LOG.union(Grants::STATE).union(Grants::METRIC)
}

#[test]
fn each_refusal_of_the_contract_has_its_cause() {
    let mut free = ledger(everything(), 1 << 20);
    let mut bound = ledger(Grants::default(), 1 << 20);
    assert!(free.open_channel("open", true) && free.open_channel("shut", false));
    let long = |bytes: usize| "a".repeat(bytes);

    let cases = [
        ("log", bound.log(Level::Info, "x"), Err(Error::Denied)),
        ("log", free.log(Level::Info, &long(8_192)), Ok(())),
        (
            "log",
            free.log(Level::Info, &long(8_193)),
            Err(Error::TooLarge),
        ),
        ("get", bound.state_get("k").map(drop), Err(Error::Denied)),
        ("set", bound.state_set("k", b""), Err(Error::Denied)),
        ("set", free.state_set("", b""), Err(Error::InvalidName)),
        ("set", free.state_set(&long(256), &[0; 65_536]), Ok(())),
        ("set", free.state_set(&long(257), b""), Err(Error::TooLarge)),
        (
            "set",
            free.state_set("k", &[0; 65_537]),
            Err(Error::TooLarge),
        ),
        ("delete", free.state_delete("absent"), Ok(())),
        ("receive", free.receive("open", 1).map(drop), Ok(())),
        (
            "receive",
            free.receive("shut", 1).map(drop),
            Err(Error::Denied),
        ),
        (
            "receive",
            free.receive("none", 1).map(drop),
            Err(Error::UnknownChannel),
        ),
        ("gauge", bound.gauge_set("g", 1.0), Err(Error::Denied)),
        ("gauge", free.gauge_set("a:b_9", 1.0), Ok(())),
        ("gauge", free.gauge_set("9a", 1.0), Err(Error::InvalidName)),
        ("gauge", free.gauge_set("", 1.0), Err(Error::InvalidName)),
        ("gauge", free.gauge_set("a-b", 1.0), Err(Error::InvalidName)),
        (
            "gauge",
            free.gauge_set(&long(65), 1.0),
            Err(Error::TooLarge),
        ),
    ];
    for (index, (call, got, expected)) in cases.into_iter().enumerate() {
        assert_eq!(got, expected, "case {index}: {call}");
    }
}

#[test]
fn the_number_of_metrics_and_of_writes_is_bounded() {
    let mut ledger = ledger(everything(), 1 << 20);
    for index in 0..METRICS_MAX {
        assert_eq!(ledger.counter_add(&format!("m{index}"), 1), Ok(()));
    }
    assert_eq!(ledger.gauge_set("more", 0.0), Err(Error::QuotaExceeded));
    assert_eq!(ledger.counter_add("m0", 1), Ok(()));
    for index in 0..SLICE_WRITES_MAX {
        assert_eq!(ledger.state_set(&format!("k{index}"), b""), Ok(()));
    }
    assert_eq!(ledger.state_set("more", b""), Err(Error::QuotaExceeded));
    assert_eq!(ledger.state_set("k0", b"again"), Ok(()));
    ledger.commit(&mut |_, _| ());
    assert_eq!(ledger.state_set("more", b""), Ok(()));
    ledger.check_invariants();
}

#[test]
fn messages_are_consumed_with_the_slice_and_never_over_the_window() {
    let mut ledger = ledger(everything(), 0);
    assert!(ledger.open_channel("lines", true));
    for sequence in 1..=CHANNEL_MESSAGES_MAX as u64 {
        assert!(ledger.deliver(0, sequence, b"x".to_vec()));
    }
    assert!(!ledger.deliver(0, 513, b"x".to_vec()));
    assert!(!ledger.deliver(1, 1, b"x".to_vec()));
    assert!(!ledger.left_messages());
    assert_eq!(ledger.receive("lines", 500).unwrap().len(), 500);
    assert!(ledger.left_messages());

    let mut events = Vec::new();
    ledger.commit(&mut |_, event| events.push(format!("{event:?}")));
    let at = AT;
    let consumed = Event::Consumed {
        at,
        channel: 0,
        sequence: 500,
    };
    let end = Event::SliceEnd {
        at,
        slice: 1,
        memory_bytes: 0,
    };
    assert_eq!(events, [format!("{consumed:?}"), format!("{end:?}")]);

    ledger.commit(&mut |_, event| panic!("nothing happened, yet {event:?}"));
}

#[derive(Clone, Debug)]
enum Step {
    Set(String, usize),
    Delete(String),
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        ("[ab]{0,2}", 0_usize..40).prop_map(|(key, size)| Step::Set(key, size)),
        "[ab]{1,2}".prop_map(Step::Delete),
        Just(Step::Commit),
    ]
}

proptest! {
    /// The committed events, applied in order to a plain map, are what the daemon reads.
    #[test]
    fn the_events_rebuild_the_state(mut steps in proptest::collection::vec(step(), 0..60)) {
        let mut ledger = ledger(everything(), 100);
        let mut durable: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        steps.push(Step::Commit);
        for step in steps {
            match step {
                Step::Set(key, size) => {
                    let before = ledger.state.clone();
                    if ledger.state_set(&key, &vec![7; size]).is_err() {
                        prop_assert_eq!(&before, &ledger.state);
                    }
                }
                Step::Delete(key) => ledger.state_delete(&key).unwrap(),
                Step::Commit => ledger.commit(&mut |_, event| match event {
                    Event::StateSet { key, value, .. } => {
                        durable.insert(key.to_owned(), value.to_owned());
                    }
                    Event::StateDelete { key, .. } => {
                        durable.remove(key);
                    }
                    _ => {}
                }),
            }
            ledger.check_invariants();
            prop_assert!(ledger.state_bytes <= 100);
        }
        prop_assert_eq!(&durable, &ledger.state);
    }
}
