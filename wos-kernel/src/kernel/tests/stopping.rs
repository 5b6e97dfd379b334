//! The end that a daemon says itself, a stop that takes several slices, and a configuration that it
//! refuses.

use super::*;

const AT: Address = Address::of(1, 1);
const DEADLINE_NS: u64 = 1_000_000_000_000;

struct Bench {
    kernel: Kernel<ScriptedExecutor>,
    said: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        let machine = Arc::new(TestMachine::default());
        let kernel = Kernel::new(ScriptedExecutor::default(), 4, machine);
        let mut bench = Self { kernel, said: Vec::new() };
        let grants = Grants::STATE.union(Grants::METRIC);
        described(AT, "i", 4, grants).for_each(|command| bench.tell(command));
        bench.tell(Command::ChannelOpen { at: AT, name: "lines", granted: true, window: 512 });
        bench.configure("1");
        bench.tell(Command::Start { at: AT });
        bench.settle();
        bench.take_calls();
        bench
    }

    fn tell(&mut self, command: Command<'_>) {
        self.kernel.command(command, &mut |event| note(&mut self.said, &event)).unwrap();
    }

    fn configure(&mut self, value: &str) {
        self.tell(Command::ConfigEntry { at: AT, key: "k", value, kind: ValueKind::Integer });
    }

    fn act(&mut self, acts: &[Act]) {
        self.kernel.executor().script.extend(acts);
    }

    fn settle(&mut self) {
        while self.kernel.step(&mut |event| note(&mut self.said, &event)).unwrap() {}
    }

    fn stop(&mut self) {
        self.tell(Command::Shutdown { at: AT, grace_ns: DEADLINE_NS });
    }

    fn send(&mut self, sequence: u64) {
        let message = Command::Messages { at: AT, channel: 0, sequence, attempt: 1, payloads: ONE };
        self.tell(message);
    }

    fn take_calls(&mut self) -> Vec<Call> {
        mem::take(&mut self.kernel.executor().entered)
    }
}

fn note(said: &mut Vec<String>, event: &Event<'_>) {
    said.push(match event {
        Event::SliceEnd { .. } => "slice".into(),
        Event::Reloaded { .. } => "reloaded".into(),
        Event::ReloadRefused { reason, .. } => alloc::format!("refused: {reason}"),
        Event::Exited { outcome, code, reason, .. } => {
            alloc::format!("{outcome:?} {code}: {reason}")
        }
        _ => return,
    });
}

#[test]
fn a_stop_takes_as_many_slices_as_the_daemon_asks_for() {
    let mut bench = Bench::new();
    bench.act(&[Act::Again, Act::Again, Act::Wait]);
    bench.stop();
    bench.settle();
    // Asked a second time, nobody calls it a second time.
    bench.stop();
    bench.settle();
    let calls = bench.take_calls();
    let stopping = |call: &Call| call.tells(WakeReasons::STOPPING);
    assert!(matches!(calls[0], Call::Shutdown { .. }), "{calls:?}");
    assert!(calls.len() == 3 && calls[1..].iter().all(stopping), "{calls:?}");
    assert!(bench.said.is_empty());
    // It waits for what it had accepted, is not held still any more, and ends when it is done.
    bench.tell(Command::Pause { at: AT });
    bench.act(&[Act::Exit]);
    bench.send(1);
    bench.settle();
    assert!(bench.take_calls().iter().all(stopping));
    assert_eq!(bench.said, ["slice", "Graceful 0: it has done its work"]);
}

#[test]
fn a_daemon_says_how_it_ends() {
    for (act, expected) in [
        (Act::Exit, "Graceful 0: it has done its work"),
        (Act::ExitWith(0), "Graceful 0: told to"),
        (Act::ExitWith(75), "Error 75: told to"),
        (Act::Fail, "Error 1: run: told to"),
    ] {
        let mut bench = Bench::new();
        bench.act(&[act]);
        bench.send(1);
        bench.settle();
        // An end that it says commits what it did, whatever its code; an error does not.
        let committed = !matches!(act, Act::Fail);
        assert_eq!(bench.said.first().is_some_and(|first| first == "slice"), committed);
        assert_eq!(bench.said.last().map(String::as_str), Some(expected));
    }
    let mut bench = Bench::new();
    bench.act(&[Act::ExitWith(78)]);
    bench.stop();
    bench.settle();
    assert_eq!(bench.said, ["Error 78: told to"]);
}

#[test]
fn a_refused_configuration_gives_way_to_the_one_before() {
    let mut bench = Bench::new();
    let value = |bench: &mut Bench| {
        let row = bench.kernel.table.row_of(AT).unwrap();
        let Phase::Boundary(instance) = &bench.kernel.table.get(row).unwrap().phase else {
            panic!("a slice is open");
        };
        instance.context.config().text("k").map(String::from)
    };
    bench.configure("2");
    bench.tell(Command::Reload { at: AT });
    bench.act(&[Act::Refuse]);
    bench.settle();
    assert_eq!(value(&mut bench).as_deref(), Some("1"));
    bench.configure("3");
    bench.tell(Command::Reload { at: AT });
    bench.settle();
    assert_eq!(value(&mut bench).as_deref(), Some("3"));
    // Nothing is new, so nothing is refused.
    bench.act(&[Act::Refuse]);
    bench.send(1);
    bench.settle();
    assert_eq!(value(&mut bench).as_deref(), Some("3"));
    assert_eq!(bench.said, ["refused: told to", "reloaded", "slice"]);
}
