//! Pausing, resuming and reloading.

use duende_core::wire::link::CONFIG_ENTRIES_MAX;

use super::*;
use crate::executor::WakeReasons;
use crate::process::ProcessState;

const HOUR_NS: u64 = 3_600_000_000_000;
const MS_NS: u64 = 1_000_000;

/// A kernel with one process that has run `init` and its first slice, and its clock.
struct Bench {
    kernel: Kernel<ScriptedExecutor>,
    machine: Arc<TestMachine>,
    /// What the kernel said of health, figures and reloads.
    said: Vec<String>,
}

const AT: Address = Address::of(1, 1);

impl Bench {
    fn new() -> Self {
        let machine = Arc::new(TestMachine::default());
        machine.now_ns.store(HOUR_NS, Ordering::Relaxed);
        let kernel = Kernel::new(ScriptedExecutor::default(), 4, machine.clone());
        let mut bench = Self { kernel, machine, said: Vec::new() };
        let grants = Grants::STATE.union(Grants::METRIC);
        described(AT, "i", 4, grants).for_each(|command| bench.tell(command));
        bench.tell(Command::ConfigEntry { at: AT, key: "old", value: "1", kind: ValueKind::Text });
        bench.tell(Command::ChannelOpen { at: AT, name: "lines", granted: true, window: 512 });
        bench.tell(Command::Start { at: AT });
        bench.settle();
        bench.take_calls();
        bench
    }

    fn tell(&mut self, command: Command<'_>) {
        self.kernel.command(command, &mut |event| note(&mut self.said, &event)).unwrap();
        assert_eq!(self.kernel.check_invariants(), Ok(()));
    }

    fn step(&mut self) -> bool {
        let ran = self.kernel.step(&mut |event| note(&mut self.said, &event)).unwrap();
        assert_eq!(self.kernel.check_invariants(), Ok(()));
        ran
    }

    fn settle(&mut self) {
        while self.step() {}
    }

    fn act(&mut self, acts: &[Act]) {
        self.kernel.executor().script.extend(acts);
    }

    fn send(&mut self) {
        self.tell(Command::Messages { at: AT, channel: 0, sequence: 1, attempt: 1, payloads: ONE });
    }

    fn take_calls(&mut self) -> Vec<Call> {
        mem::take(&mut self.kernel.executor().entered)
    }

    fn take_said(&mut self) -> Vec<String> {
        mem::take(&mut self.said)
    }

    fn now_ns(&self) -> u64 {
        self.machine.now_ns.load(Ordering::Relaxed)
    }

    fn sleep(&self, length_ns: u64) {
        self.machine.now_ns.fetch_add(length_ns, Ordering::Relaxed);
    }
}

fn note(said: &mut Vec<String>, event: &Event<'_>) {
    said.push(match event {
        Event::Health { token, report, .. } => alloc::format!("{token}: {report:?}"),
        Event::SamplesEnd { token, .. } => alloc::format!("{token}: no more samples"),
        Event::SliceEnd { .. } => "slice".into(),
        Event::Reloaded { .. } => "reloaded".into(),
        Event::Exited { outcome, .. } => alloc::format!("{outcome:?}"),
        _ => return,
    });
}

fn run_reasons(call: Call) -> WakeReasons {
    match call {
        Call::Run(wake) => wake.reasons,
        other => panic!("{other:?}"),
    }
}

#[test]
fn time_stands_for_a_paused_process() {
    let mut bench = Bench::new();
    let due_ns = bench.now_ns() + 10 * MS_NS;
    bench.act(&[Act::Until(due_ns)]);
    bench.send();
    bench.settle();
    bench.take_calls();
    assert_eq!(bench.kernel.next_deadline_ns(), Some(due_ns));

    let paused_ns = bench.now_ns();
    bench.tell(Command::Pause { at: AT });
    assert_eq!(bench.kernel.processes()[1].state, ProcessState::Paused);
    bench.sleep(HOUR_NS);
    bench.tell(Command::Pause { at: AT });
    bench.send();
    assert_eq!(bench.kernel.next_deadline_ns(), None);
    assert!(!bench.step(), "neither the timer nor a message wakes it");

    let resumed_ns = bench.now_ns();
    bench.tell(Command::Resume { at: AT });
    assert_eq!(bench.kernel.next_deadline_ns(), Some(due_ns + resumed_ns - paused_ns));
    bench.settle();
    let calls = bench.take_calls();
    let [Call::Run(wake)] = calls[..] else { panic!("{calls:?}") };
    assert!(wake.reasons.contains(WakeReasons::RESUMED));
    assert!(wake.reasons.contains(WakeReasons::MESSAGE));
    assert!(!wake.reasons.contains(WakeReasons::TIMER), "10 ms of its time have not passed");
    assert!(wake.now_ns < due_ns, "its clock did not count the pause");

    bench.tell(Command::Resume { at: AT });
    assert!(!bench.step(), "what is not paused is not resumed");
}

#[test]
fn an_open_slice_is_finished_first() {
    let mut bench = Bench::new();
    bench.act(&[Act::Preempt, Act::Preempt]);
    bench.send();
    bench.step();
    bench.tell(Command::Pause { at: AT });
    bench.tell(Command::HealthCheck { at: AT, token: 1 });
    let said = bench.take_said();
    assert!(said[0].starts_with("1: Busy"), "{said:?}");
    bench.send();
    bench.settle();
    assert_eq!(bench.take_said(), ["slice"]);
    assert_eq!(bench.take_calls().len(), 1, "the second message waits");

    // A pause that never took effect leaves no trace.
    let mut bench = Bench::new();
    bench.act(&[Act::Preempt]);
    bench.send();
    bench.step();
    bench.tell(Command::Pause { at: AT });
    bench.tell(Command::Resume { at: AT });
    bench.send();
    bench.settle();
    let calls = bench.take_calls();
    assert_eq!(calls.len(), 2);
    assert!(!run_reasons(calls[1]).contains(WakeReasons::RESUMED));
}

#[test]
fn the_kernel_answers_for_who_is_paused() {
    let mut bench = Bench::new();
    bench.tell(Command::HealthCheck { at: AT, token: 1 });
    bench.tell(Command::Metrics { at: AT, token: 2 });
    bench.tell(Command::Pause { at: AT });
    bench.tell(Command::HealthCheck { at: AT, token: 3 });
    bench.tell(Command::Metrics { at: AT, token: 4 });
    let expected = ["1: Paused", "2: no more samples", "3: Paused", "4: no more samples"];
    assert_eq!(bench.take_said(), expected);
    bench.settle();
    assert!(bench.take_calls().is_empty());
}

#[test]
fn a_pause_keeps_nobody_from_being_stopped() {
    let mut bench = Bench::new();
    bench.tell(Command::Pause { at: AT });
    bench.sleep(HOUR_NS);
    bench.tell(Command::Shutdown { at: AT, grace_ns: MS_NS });
    bench.tell(Command::Pause { at: AT });
    bench.settle();
    let calls = bench.take_calls();
    let [Call::Shutdown { deadline_ns }] = calls[..] else { panic!("{calls:?}") };
    assert!(deadline_ns < 2 * HOUR_NS, "the deadline is on its own clock: {deadline_ns}");
    assert_eq!(bench.take_said(), ["Graceful"]);

    let mut bench = Bench::new();
    bench.tell(Command::Pause { at: AT });
    bench.tell(Command::Kill { at: AT });
    assert_eq!(bench.take_said(), ["Killed"]);
}

#[test]
fn a_reload_is_for_the_next_slice_and_is_answered_after_it() {
    let mut bench = Bench::new();
    let config = |bench: &mut Bench, key: &str| {
        let row = bench.kernel.table.row_of(AT).unwrap();
        let Phase::Boundary(instance) = &bench.kernel.table.get(row).unwrap().phase else {
            panic!("a slice is open");
        };
        instance.context.config().text(key).map(String::from)
    };
    bench.act(&[Act::Preempt]);
    bench.send();
    bench.step();
    bench.tell(Command::ConfigEntry { at: AT, key: "new", value: "2", kind: ValueKind::Text });
    bench.tell(Command::Reload { at: AT });
    bench.step();
    assert_eq!(bench.take_said(), ["slice"], "the open slice knew nothing of it");
    assert_eq!(config(&mut bench, "old").as_deref(), Some("1"));
    bench.tell(Command::HealthCheck { at: AT, token: 1 });
    bench.send();
    bench.step();
    assert_eq!(bench.take_said(), ["1: Healthy"]);
    assert_eq!(config(&mut bench, "old").as_deref(), Some("1"), "nobody has told the daemon yet");
    bench.settle();
    assert_eq!(bench.take_said(), ["slice", "reloaded"]);
    let calls = bench.take_calls();
    assert!(run_reasons(calls[2]).contains(WakeReasons::RELOAD));
    assert_eq!(config(&mut bench, "old"), None, "the table is replaced as a whole");
    assert_eq!(config(&mut bench, "new").as_deref(), Some("2"));

    // Two before the next slice are one, and the last table counts.
    bench.tell(Command::ConfigEntry { at: AT, key: "a", value: "3", kind: ValueKind::Text });
    bench.tell(Command::Reload { at: AT });
    bench.tell(Command::ConfigEntry { at: AT, key: "b", value: "4", kind: ValueKind::Text });
    bench.tell(Command::Reload { at: AT });
    bench.settle();
    assert_eq!(bench.take_said(), ["reloaded"]);
    assert_eq!((config(&mut bench, "a"), config(&mut bench, "b")), (None, Some("4".into())));
    bench.send();
    bench.settle();
    assert!(!run_reasons(bench.take_calls().pop().unwrap()).contains(WakeReasons::RELOAD));
}

#[test]
fn what_was_not_started_has_nothing_to_reload_and_a_table_is_bounded() {
    let mut bench = Bench::new();
    let at = Address::of(2, 1);
    let grants = Grants::default();
    described(at, "i", 4, grants).for_each(|command| bench.tell(command));
    let refused = bench.kernel.command(Command::Reload { at }, &mut |_| {}).unwrap_err();
    assert_eq!(refused, ProtocolError::NotStarted(at));

    let entries: Vec<_> = (0..=CONFIG_ENTRIES_MAX).map(|index| alloc::format!("{index}")).collect();
    let mut configure = |key: &String| {
        let entry = Command::ConfigEntry { at: AT, key, value: "", kind: ValueKind::Text };
        bench.kernel.command(entry, &mut |_| {})
    };
    assert!(entries[..CONFIG_ENTRIES_MAX].iter().all(|key| configure(key).is_ok()));
    assert_eq!(configure(&entries[CONFIG_ENTRIES_MAX]), Err(ProtocolError::TooMany(AT)));
}

#[test]
fn who_is_paused_before_it_ran_begins_when_it_is_resumed() {
    let mut bench = Bench::new();
    let at = Address::of(2, 1);
    bench.kernel.executor().pending_images = true;
    let grants = Grants::STATE;
    described(at, "i", 4, grants).for_each(|command| bench.tell(command));
    bench.tell(Command::Start { at });
    bench.tell(Command::Pause { at });
    bench.kernel.executor().pending_images = false;
    bench.kernel.image_settled("i", &mut |_| {});
    assert!(!bench.step());
    bench.tell(Command::Resume { at });
    assert!(bench.step());
    assert_eq!(bench.take_calls(), [Call::Init]);
}
