//! Each refusal and each bound of the contract, at its edge.

use alloc::format;

use duende_core::wire::link::{CHANNEL_MESSAGES_MAX, Part};

use super::*;
use crate::{limits::SLICE_WRITES_MAX, quota::Quotas};

const AT: Address = Address::of(0, 1);

/// A machine without a clock that takes the lines that begin with `!`.
struct Still;

impl Machine for Still {
    fn monotonic_ns(&self) -> u64 {
        0
    }
    fn wall_ns(&self) -> i64 {
        0
    }
    fn entropy(&self, bytes: &mut [u8]) {
        bytes.fill(1);
    }
    fn attention(&self) -> bool {
        false
    }
    fn take_log(&self, at: Address, _: LogLevel, text: &str) -> bool {
        assert_eq!(at, AT);
        text.starts_with('!')
    }
}

/// A context with an open channel, `open`, and one that is not granted, `shut`.
fn context(grants: Grants) -> Context {
    let limits = Limits { memory_bytes_max: 0, slice_budget_ns: 0, state_bytes_max: 1 << 20 };
    let accounts = Arc::new(Quotas::new(1, 1 << 30)).open().unwrap();
    let shared = Shared { log: Arc::default(), machine: Arc::new(Still), turn: Arc::default() };
    let mut context = Context::new(AT, "d", accounts, shared);
    for (name, value) in limits.settings() {
        assert!(context.set_limit(name, value));
    }
    for (word, _) in Grants::WORDS.into_iter().filter(|(_, grant)| grants.contains(*grant)) {
        assert!(context.grant(word));
    }
    assert!(context.open_channel("open", true, 512) && context.open_channel("shut", false, 512));
    context.begin(Pid(2));
    context
}

fn everything() -> Grants {
    Grants::LOG.union(Grants::STATE).union(Grants::METRIC)
}

/// Commits the open slice and shows what it came to.
fn committed(context: &mut Context) -> Vec<String> {
    let mut events = Vec::new();
    context.commit(&mut 0, &mut |event| events.push(format!("{event:?}")));
    events
}

#[test]
fn each_refusal_of_the_contract_has_its_cause() {
    use SyscallError::{Denied, Invalid, NotFound, TooLarge};
    let name = "a name has the form [a-zA-Z_:][a-zA-Z0-9_:]*";
    let key = "a key has at least one byte";

    let mut free = context(everything());
    let mut bound = context(Grants::default());
    let long = |bytes: usize| "a".repeat(bytes);

    let cases = [
        ("log", bound.log_write(LogLevel::Info, "x".into()), Err(Denied)),
        ("log", free.log_write(LogLevel::Info, long(8_192)), Ok(())),
        ("log", free.log_write(LogLevel::Info, long(8_193)), Err(TooLarge(8_192))),
        ("get", bound.state_get("k").map(drop), Err(Denied)),
        ("keys", bound.state_keys("", None, 1).map(drop), Err(Denied)),
        ("set", bound.state_set("k", vec![]), Err(Denied)),
        ("set", free.state_set("", vec![]), Err(Invalid(key))),
        ("set", free.state_set(&long(256), vec![0; 65_536]), Ok(())),
        ("set", free.state_set(&long(257), vec![]), Err(TooLarge(256))),
        ("set", free.state_set("k", vec![0; 65_537]), Err(TooLarge(65_536))),
        ("delete", bound.state_delete("k"), Err(Denied)),
        ("delete", free.state_delete("absent"), Ok(())),
        ("receive", free.channel_receive("open", 1).map(drop), Ok(())),
        ("receive", free.channel_receive("shut", 1).map(drop), Err(Denied)),
        ("receive", free.channel_receive("none", 1).map(drop), Err(NotFound)),
        ("counter", bound.counter_add("c", 1), Err(Denied)),
        ("gauge", bound.gauge_set("g", 1.0), Err(Denied)),
        ("gauge", free.gauge_set("a:b_9", 1.0), Ok(())),
        ("gauge", free.gauge_set("9a", 1.0), Err(Invalid(name))),
        ("gauge", free.gauge_set("", 1.0), Err(Invalid(name))),
        ("gauge", free.gauge_set("a-b", 1.0), Err(Invalid(name))),
        ("gauge", free.gauge_set(&long(64), 1.0), Ok(())),
        ("gauge", free.gauge_set(&long(65), 1.0), Err(TooLarge(64))),
    ];
    for (index, (call, got, expected)) in cases.into_iter().enumerate() {
        assert_eq!(got, expected, "case {index}: {call}");
    }
    assert_eq!(free.entropy(65_536).unwrap(), [1; 65_536]);
    assert_eq!(free.entropy(65_537), Err(TooLarge(65_536)));
}

#[test]
fn the_number_of_metrics_and_of_writes_is_bounded() {
    let mut context = context(everything());
    for index in 0..METRICS_MAX {
        assert_eq!(context.counter_add(&format!("m{index}"), 1), Ok(()));
    }
    assert_eq!(context.gauge_set("more", 0.0), Err(SyscallError::QuotaExceeded("metrics")));
    assert_eq!(context.counter_add("m0", 1), Ok(()));
    for index in 0..SLICE_WRITES_MAX {
        assert_eq!(context.state_set(&format!("k{index}"), vec![]), Ok(()));
    }
    assert_eq!(context.state_set("more", vec![]), Err(SyscallError::QuotaExceeded("slice-writes")));
    assert_eq!(context.state_set("k0", vec![1]), Ok(()));
    committed(&mut context);
    assert_eq!(context.state_set("more", vec![]), Ok(()));
}

#[test]
fn messages_are_consumed_with_the_slice_and_never_over_the_window() {
    let mut context = context(everything());
    let message =
        |sequence| Message { sequence, attempt: 1, part: Part::Whole, payload: vec![b'x'] };
    for sequence in 1..=CHANNEL_MESSAGES_MAX as u64 {
        assert!(context.deliver(0, [message(sequence)]));
    }
    assert!(!context.deliver(0, [message(513)]));
    assert!(!context.deliver(2, [message(1)]));
    assert!(!context.left_messages());
    assert_eq!(context.channel_receive("open", 500).unwrap().len(), 500);
    assert!(context.left_messages());

    let consumed = Event::Consumed { at: AT, channel: 0, sequence: 500 };
    let end = Event::SliceEnd { at: AT, slice: 1, memory_bytes: 0 };
    assert_eq!(committed(&mut context), [format!("{consumed:?}"), format!("{end:?}")]);
    assert!(committed(&mut context).is_empty(), "nothing happened since");
}

#[test]
fn a_line_that_the_machine_does_not_take_waits_in_the_ring() {
    let mut context = context(everything());
    for text in ["!taken", "kept"] {
        context.log_write(LogLevel::Info, text.into()).unwrap();
    }
    assert_eq!(context.shared.log.pop().unwrap().text, "kept");
    assert_eq!(context.shared.log.pop(), None);
}

/// Everything that would leave with the next slice is refused while a question is answered; what is
/// read, and logged, is not.
#[test]
fn a_question_reads_and_logs_and_changes_nothing() {
    let mut context = context(everything());
    assert!(
        context.deliver(
            0,
            [Message { sequence: 7, attempt: 1, part: Part::Whole, payload: vec![b'x'] }]
        )
    );
    context.begin_slice(Opening { is_question: true, ..Opening::default() });
    let refused = [
        context.state_set("k", vec![1]),
        context.state_delete("k"),
        context.state_delete_all("k").map(drop),
        context.channel_receive("open", 1).map(drop),
        context.channel_reject("open", 7, "no".into()),
        context.counter_add("c", 1),
        context.gauge_set("g", 1.0),
    ];
    assert_eq!(refused, [Err(SyscallError::NotInSlice); 7]);
    // Without the grant that is what is said, here too.
    assert_eq!(context.channel_receive("shut", 1), Err(SyscallError::Denied));
    assert_eq!(context.state_get("k"), Ok(None));
    assert_eq!(context.state_keys("", None, 9), Ok(vec![]));
    assert_eq!(context.log_write(LogLevel::Info, "!said".into()), Ok(()));
    assert_eq!(context.slice_number(), 0);
    assert!(committed(&mut context).is_empty());

    context.begin_slice(Opening::default());
    assert_eq!(context.slice_number(), 1);
    assert_eq!(context.ready_channels(), ["open"]);
    assert_eq!(context.channel_receive("open", 1).unwrap().len(), 1);
    assert!(context.ready_channels().is_empty());
    assert_eq!(context.counter_add("c", 1), Ok(()));
    assert_eq!(committed(&mut context).len(), 3);
}

#[test]
fn what_this_slice_received_may_be_given_up_once() {
    let mut context = context(everything());
    for sequence in 41..=44 {
        assert!(
            context
                .deliver(0, [Message { sequence, attempt: 1, part: Part::Whole, payload: vec![] }])
        );
    }
    context.channel_receive("open", 1).unwrap();
    committed(&mut context);
    context.channel_receive("open", 2).unwrap();
    for (sequence, expected) in
        [(41, false), (42, true), (42, false), (43, true), (44, false), (0, false)]
    {
        let rejected = context.channel_reject("open", sequence, "r".into());
        assert_eq!(rejected.is_ok(), expected, "{sequence}: {rejected:?}");
    }
    let events = committed(&mut context);
    assert_eq!(events.len(), 4, "{events:?}");
    assert!(events[1].contains("Rejected") && events[2].contains("sequence: 43"), "{events:?}");
    assert!(committed(&mut context).is_empty());
}

#[test]
fn a_daemon_can_ask_what_it_may_and_has() {
    let mut context = context(Grants::LOG.union(Grants::STATE));
    for (capability, expected) in [
        ("log", true),
        ("state", true),
        ("metric", false),
        ("channel:open", true),
        ("channel:shut", false),
        ("channel:none", false),
        ("rocket", false),
    ] {
        assert_eq!(context.is_granted(capability), expected, "{capability}");
    }
    context.state_set("k", vec![0; 9]).unwrap();
    let facts = [
        ("memory", Some(0), Some(0)),
        ("state", Some(1 << 20), Some(10)),
        ("slice", Some(0), None),
        ("state-key", Some(256), None),
        ("state-value", Some(65_536), None),
        ("message", Some(65_536), None),
        ("receive", Some(1 << 20), None),
        ("log-line", Some(8_192), None),
        ("entropy", Some(65_536), None),
        ("name", Some(64), None),
        ("channels", Some(16), Some(2)),
        ("metrics", Some(64), Some(0)),
        ("slice-writes", Some(1_024), None),
        ("keys", Some(1_024), None),
        ("rockets", None, None),
    ];
    for (name, limit, used) in facts {
        assert_eq!((context.limit(name), context.used(name)), (limit, used), "{name}");
    }
    assert!(context.log_enabled());
    assert_eq!(context.name(), "d");
    let ones = u64::from_le_bytes([1; 8]);
    assert_eq!(context.instance(), (ones, ones));
    assert_eq!(context.entropy_number(), ones);
}
