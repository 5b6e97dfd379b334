//! What is told of quotas, and what the whole WOS may hold.

use duende_core::wire::link::Held;

use super::*;

/// A kernel on a machine with so much memory, and what it said.
struct Bench {
    kernel: Kernel<ScriptedExecutor>,
    said: Vec<String>,
}

impl Bench {
    fn new(memory_bytes_max: u64) -> Self {
        let machine =
            TestMachine { memory_bytes_max: Some(memory_bytes_max), ..TestMachine::default() };
        let kernel = Kernel::new(ScriptedExecutor::default(), 4, Arc::new(machine));
        Self { kernel, said: Vec::new() }
    }

    fn tell(&mut self, command: Command<'_>) {
        self.kernel.command(command, &mut |event| note(&mut self.said, &event)).unwrap();
        assert_eq!(self.kernel.check_invariants(), Ok(()));
    }

    /// Makes a daemon with this state, whose quota of it is 20 bytes.
    fn start(&mut self, daemon: u32, state: &[u8]) -> Address {
        let at = Address::of(daemon, 1);
        let grants = Grants::STATE.union(Grants::METRIC);
        let limits = Limits { state_bytes_max: 20, ..LIMITS };
        let said = Description { at, name: "d", image: "i", level: 4, limits, grants };
        said.commands().for_each(|command| self.tell(command));
        self.tell(Command::ChannelOpen { at, name: "lines", granted: true, window: 512 });
        self.tell(Command::StateEntry { at, key: "count", value: state });
        self.tell(Command::Start { at });
        at
    }

    fn count(&mut self, at: Address, messages: u64) {
        for sequence in 1..=messages {
            self.tell(Command::Messages { at, channel: 0, sequence, attempt: 1, payloads: ONE });
        }
        while self.kernel.step(&mut |event| note(&mut self.said, &event)).unwrap() {
            assert_eq!(self.kernel.check_invariants(), Ok(()));
        }
    }

    fn take_said(&mut self) -> Vec<String> {
        mem::take(&mut self.said)
    }
}

fn note(said: &mut Vec<String>, event: &Event<'_>) {
    said.push(match event {
        Event::SliceEnd { at, .. } => alloc::format!("{} slice", at.daemon),
        Event::Pressure { at, held: Held::State, pressure } => {
            alloc::format!("{} {pressure:?}", at.daemon)
        }
        Event::Pressure { at, held, pressure } => {
            alloc::format!("{} {held:?} {pressure:?}", at.daemon)
        }
        Event::Exited { at, outcome, .. } => alloc::format!("{} {outcome:?}", at.daemon),
        _ => return,
    });
}

#[test]
fn each_change_of_pressure_is_told_once_after_the_slice() {
    let mut bench = Bench::new(u64::MAX);
    // Key and value: 5 bytes and one for each message.
    let at = bench.start(0, &[1; 5]);
    bench.count(at, 5);
    assert_eq!(bench.take_said(), ["0 slice", "0 slice"]);
    bench.count(at, 3);
    assert_eq!(bench.take_said(), ["0 slice", "0 Elevated"]);
    bench.count(at, 1);
    assert_eq!(bench.take_said(), ["0 slice", "0 Critical"]);
    // The next one begins where this one was, and so under pressure from its start on.
    bench.tell(Command::Kill { at });
    let at = bench.start(0, &[1; 14]);
    assert_eq!(bench.take_said(), ["0 Killed", "0 Critical"]);
    bench.tell(Command::Kill { at });
}

#[test]
fn what_all_daemons_hold_is_bounded_by_the_machine() {
    let mut bench = Bench::new(50);
    bench.start(0, &[1; 10]);
    bench.start(1, &[1; 20]);
    // The second daemon is over its own quota: it keeps what it has. Both together fill the WOS.
    let told = ["0 Memory Elevated", "0 Elevated", "1 Memory Elevated", "1 Elevated", "1 Critical"];
    assert_eq!(bench.take_said(), told);
    bench.start(2, &[1; 10]);
    assert_eq!(bench.take_said(), ["2 Error"]);
    bench.tell(Command::Kill { at: Address::of(1, 1) });
    assert_eq!(bench.take_said(), ["1 Killed", "0 Memory Calm", "0 Calm"]);
    bench.start(2, &[1; 10]);
    assert_eq!(bench.take_said(), [""; 0]);
}
