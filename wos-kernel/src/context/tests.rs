//! Each refusal and each bound of the contract, at its edge.

use alloc::format;

use duende_core::wire::link::CHANNEL_MESSAGES_MAX;

use super::*;
use crate::{limits::SLICE_WRITES_MAX, quota::Quotas};

const AT: Address = Address { daemon: 0, incarnation: 1 };

/// A machine without a clock that takes the lines that begin with `!`.
struct Still;

impl Machine for Still {
    fn monotonic_ns(&self) -> u64 {
        0
    }
    fn wall_ns(&self) -> u64 {
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
    let accounts = Arc::new(Quotas::new(1, 1 << 30)).open(limits.memory_bytes_max).unwrap();
    let shared = Shared { log: Arc::default(), machine: Arc::new(Still), turn: Arc::default() };
    let mut context = Context::new(AT, grants, limits, accounts, shared);
    assert!(context.open_channel("open", true) && context.open_channel("shut", false));
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
    use SyscallError::{Denied, InvalidName, TooLarge, UnknownChannel};

    let mut free = context(everything());
    let mut bound = context(Grants::default());
    let long = |bytes: usize| "a".repeat(bytes);

    let cases = [
        ("log", bound.log_write(LogLevel::Info, "x".into()), Err(Denied)),
        ("log", free.log_write(LogLevel::Info, long(8_192)), Ok(())),
        ("log", free.log_write(LogLevel::Info, long(8_193)), Err(TooLarge)),
        ("get", bound.state_get("k").map(drop), Err(Denied)),
        ("keys", bound.state_keys("", None, 1).map(drop), Err(Denied)),
        ("set", bound.state_set("k", vec![]), Err(Denied)),
        ("set", free.state_set("", vec![]), Err(InvalidName)),
        ("set", free.state_set(&long(256), vec![0; 65_536]), Ok(())),
        ("set", free.state_set(&long(257), vec![]), Err(TooLarge)),
        ("set", free.state_set("k", vec![0; 65_537]), Err(TooLarge)),
        ("delete", bound.state_delete("k"), Err(Denied)),
        ("delete", free.state_delete("absent"), Ok(())),
        ("receive", free.channel_receive("open", 1).map(drop), Ok(())),
        ("receive", free.channel_receive("shut", 1).map(drop), Err(Denied)),
        ("receive", free.channel_receive("none", 1).map(drop), Err(UnknownChannel)),
        ("counter", bound.counter_add("c", 1), Err(Denied)),
        ("gauge", bound.gauge_set("g", 1.0), Err(Denied)),
        ("gauge", free.gauge_set("a:b_9", 1.0), Ok(())),
        ("gauge", free.gauge_set("9a", 1.0), Err(InvalidName)),
        ("gauge", free.gauge_set("", 1.0), Err(InvalidName)),
        ("gauge", free.gauge_set("a-b", 1.0), Err(InvalidName)),
        ("gauge", free.gauge_set(&long(64), 1.0), Ok(())),
        ("gauge", free.gauge_set(&long(65), 1.0), Err(TooLarge)),
    ];
    for (index, (call, got, expected)) in cases.into_iter().enumerate() {
        assert_eq!(got, expected, "case {index}: {call}");
    }
    assert_eq!(free.entropy(u32::MAX), [1; 1_024]);
}

#[test]
fn the_number_of_metrics_and_of_writes_is_bounded() {
    let mut context = context(everything());
    for index in 0..METRICS_MAX {
        assert_eq!(context.counter_add(&format!("m{index}"), 1), Ok(()));
    }
    assert_eq!(context.gauge_set("more", 0.0), Err(SyscallError::QuotaExceeded));
    assert_eq!(context.counter_add("m0", 1), Ok(()));
    for index in 0..SLICE_WRITES_MAX {
        assert_eq!(context.state_set(&format!("k{index}"), vec![]), Ok(()));
    }
    assert_eq!(context.state_set("more", vec![]), Err(SyscallError::QuotaExceeded));
    assert_eq!(context.state_set("k0", vec![1]), Ok(()));
    committed(&mut context);
    assert_eq!(context.state_set("more", vec![]), Ok(()));
}

#[test]
fn messages_are_consumed_with_the_slice_and_never_over_the_window() {
    let mut context = context(everything());
    let message = |sequence| Message { sequence, payload: vec![b'x'] };
    for sequence in 1..=CHANNEL_MESSAGES_MAX as u64 {
        assert!(context.deliver(0, message(sequence)));
    }
    assert!(!context.deliver(0, message(513)));
    assert!(!context.deliver(2, message(1)));
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
