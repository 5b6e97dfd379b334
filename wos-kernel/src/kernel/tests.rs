//! The kernel against a manager that keeps exact books, with an executor that follows a script.

mod pause;
mod pressure;
mod record;
mod stopping;
mod turns;

use alloc::{boxed::Box, collections::BTreeMap, string::String, sync::Arc, vec, vec::Vec};
use core::mem;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::VecDeque;

use duende_core::wire::link::{
    Address, CHANNEL_MESSAGES_MAX, Command, Description, Event, Grants, HealthReport, Limits,
    Outcome, Payloads, ValueKind, WINDOW_MAX,
};
use proptest::prelude::*;

use super::*;
use crate::context::Context;
use crate::executor::{
    Call, Ending, Executor, Fault, Health, ImageState, Next, Progress, Return, WakeReasons,
};
use crate::machine::Machine;
use crate::meter::Tick;
use crate::process::Phase;

/// A machine whose clock moves by a microsecond whenever it is read.
#[derive(Default)]
struct TestMachine {
    now_ns: AtomicU64,
    /// What it has for all daemons; none is no limit.
    memory_bytes_max: Option<u64>,
}

impl Machine for TestMachine {
    fn monotonic_ns(&self) -> u64 {
        self.now_ns.fetch_add(1_000, Ordering::Relaxed)
    }
    fn wall_ns(&self) -> i64 {
        0
    }
    fn entropy(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
    fn attention(&self) -> bool {
        false
    }
    fn memory_bytes_max(&self) -> u64 {
        self.memory_bytes_max.unwrap_or(u64::MAX)
    }
}

/// What the next slices do, beyond counting their messages.
#[derive(Clone, Copy, Debug)]
enum Act {
    Return,
    Preempt,
    Trap,
    Fail,
    Exit,
    ExitWith(u8),
    Again,
    Wait,
    Until(u64),
    /// Refuses its configuration.
    Refuse,
    /// Runs until it is told to yield, or is over its budget.
    Compute,
}

/// Counts messages in `state`, and does what its script says.
#[derive(Default)]
struct ScriptedExecutor {
    script: VecDeque<Act>,
    pending_images: bool,
    /// What was called.
    entered: Vec<Call>,
    /// Whose turns those were.
    turns: Vec<Address>,
    /// What each `run` does when the script is at its end.
    habit: Option<Act>,
    /// Whom the habit leaves alone.
    spared: Vec<u32>,
    /// The clock, and how much of it a turn takes.
    takes: Option<(Arc<TestMachine>, u64)>,
    /// How long each turn was for who runs until it is told to yield, in ticks.
    ticks: Vec<u32>,
}

struct ScriptedInstance {
    context: Box<Context>,
    call: Option<Call>,
    /// What the open slice will return once it is not preempted any more.
    returned: Option<Return>,
}

impl Executor for ScriptedExecutor {
    type Image = ();
    type Instance = ScriptedInstance;

    fn image(&mut self, name: &str) -> ImageState<()> {
        match name {
            "bad" => ImageState::Unusable("bad image".into()),
            _ if self.pending_images => ImageState::Pending,
            _ => ImageState::Ready(()),
        }
    }

    fn create(&mut self, (): (), context: Box<Context>) -> ScriptedInstance {
        ScriptedInstance { context, call: None, returned: None }
    }

    fn context<'a>(&self, instance: &'a mut ScriptedInstance) -> Option<&'a mut Context> {
        instance.call.is_none().then_some(&mut *instance.context)
    }

    fn reasons(&self, _: &ScriptedInstance) -> WakeReasons {
        WakeReasons::OF_0_1
    }

    fn enter(&mut self, instance: &mut ScriptedInstance, call: Call) {
        self.entered.push(call);
        instance.call = Some(call);
    }

    fn resume(&mut self, instance: &mut ScriptedInstance) -> Progress {
        let context = &mut instance.context;
        let returned = instance.returned.take().unwrap_or_else(|| match instance.call {
            Some(Call::Run(_)) => {
                let messages = context.channel_receive("lines", 3).unwrap();
                let count = context.state_get("count").unwrap().map_or(0, <[u8]>::len);
                if !messages.is_empty() {
                    context.state_set("count", vec![1; count + messages.len()]).unwrap();
                    context.counter_add("seen", messages.len() as u64).unwrap();
                }
                Return::Run(Ok(Next::Wait))
            }
            Some(Call::Init) | None => Return::Init(Ok(())),
            Some(Call::Shutdown { .. }) => Return::Shutdown(Ok(Next::Exit(Ending::done()))),
            Some(Call::HealthCheck) => Return::HealthCheck(Health::healthy()),
            Some(Call::Metrics) => Return::Metrics(Vec::new()),
        });
        let is_run = matches!(returned, Return::Run(_));
        let is_spared = self.spared.contains(&context.address().daemon);
        let habit = self.habit.filter(|_| is_run && !is_spared).unwrap_or(Act::Return);
        let act = self.script.pop_front().unwrap_or(habit);
        self.turns.push(context.address());
        if let Some((machine, turn_ns)) = &self.takes
            && !matches!(act, Act::Compute)
        {
            machine.now_ns.fetch_add(*turn_ns, Ordering::Relaxed);
            let _ = context.tick();
        }
        let progress = match act {
            Act::Preempt => {
                instance.returned = Some(returned);
                return Progress::Preempted;
            }
            Act::Compute => {
                let Some((machine, tick_ns)) = &self.takes else { panic!("there is no clock") };
                instance.returned = Some(returned);
                for ticks in 1.. {
                    machine.now_ns.fetch_add(*tick_ns, Ordering::Relaxed);
                    match context.tick() {
                        Tick::Continue => {}
                        Tick::Yield => {
                            self.ticks.push(ticks);
                            return Progress::Preempted;
                        }
                        Tick::OverBudget => break,
                    }
                }
                Progress::Failed(Fault::SliceBudget)
            }
            Act::Trap => Progress::Failed(Fault::Trap("told to".into())),
            Act::Return => Progress::Returned(returned),
            Act::Fail => Progress::Returned(said(returned, Err(Ending::failed("told to".into())))),
            Act::Exit => Progress::Returned(said(returned, Ok(Next::Exit(Ending::done())))),
            Act::ExitWith(code) => {
                let ending = Ending { code, text: "told to".into() };
                Progress::Returned(said(returned, Ok(Next::Exit(ending))))
            }
            Act::Again => Progress::Returned(said(returned, Ok(Next::Again))),
            Act::Wait => Progress::Returned(said(returned, Ok(Next::Wait))),
            Act::Until(at) => Progress::Returned(said(returned, Ok(Next::Until(at)))),
            Act::Refuse => {
                context.config_refuse("told to".into());
                Progress::Returned(returned)
            }
        };
        instance.call = None;
        progress
    }
}

/// What `run` and `shutdown` are told to return, in the place of what they would.
fn said(returned: Return, next: Result<Next, Ending>) -> Return {
    match returned {
        Return::Run(_) => Return::Run(next),
        Return::Shutdown(_) => Return::Shutdown(next),
        other => other,
    }
}

const LIMITS: Limits =
    Limits { memory_bytes_max: 1 << 20, slice_budget_ns: 1_000_000_000, state_bytes_max: 1 << 20 };

const AT_99: Address = Address::of(99, 1);

/// One message, and an empty one.
const ONE: Payloads<'_> = Payloads::new(b"\x01\0\0\0m");
const EMPTY: Payloads<'_> = Payloads::new(b"\0\0\0\0");

/// What describes a daemon.
fn described<'a>(
    at: Address,
    image: &'a str,
    level: u8,
    grants: Grants,
) -> impl Iterator<Item = Command<'a>> {
    Description { at, name: "d", image, level, limits: LIMITS, grants }.commands()
}

/// A manager with one daemon: what it sent, and what was committed.
struct Books {
    kernel: Kernel<ScriptedExecutor>,
    incarnation: u32,
    sent_total: u64,
    /// Messages that were not consumed by a committed slice.
    unconsumed: u64,
    /// Messages that the present incarnation was sent.
    sequence: u64,
    consumed: u64,
    state: BTreeMap<String, Vec<u8>>,
    counted: u64,
    open: Vec<(String, Vec<u8>)>,
    open_consumed: u64,
    open_counted: u64,
    exits: Vec<Outcome>,
}

impl Books {
    fn new() -> Self {
        let kernel = Kernel::new(ScriptedExecutor::default(), 4, Arc::new(TestMachine::default()));
        let mut books = Self {
            kernel,
            incarnation: 0,
            sent_total: 0,
            unconsumed: 0,
            sequence: 0,
            consumed: 0,
            state: BTreeMap::new(),
            counted: 0,
            open: Vec::new(),
            open_consumed: 0,
            open_counted: 0,
            exits: Vec::new(),
        };
        books.start();
        books
    }

    fn at(&self) -> Address {
        Address::of(7, self.incarnation)
    }

    fn tell(&mut self, command: Command<'_>) {
        let mut events = Vec::new();
        self.kernel.command(command, &mut |event| events.push(Recorded::of(&event))).unwrap();
        self.take(events);
    }

    fn start(&mut self) {
        self.incarnation += 1;
        self.sequence = 0;
        self.consumed = 0;
        let at = self.at();
        let grants = Grants::STATE.union(Grants::METRIC);
        described(at, "i", 4, grants).for_each(|command| self.tell(command));
        for (key, value) in self.state.clone() {
            self.tell(Command::StateEntry { at, key: &key, value: &value });
        }
        self.tell(Command::ChannelOpen { at, name: "lines", granted: true, window: 512 });
        self.tell(Command::Start { at });
        for _ in 0..self.unconsumed {
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        self.sequence += 1;
        let (at, sequence) = (self.at(), self.sequence);
        self.tell(Command::Messages { at, channel: 0, sequence, attempt: 1, payloads: ONE });
    }

    fn send(&mut self) {
        if self.unconsumed < CHANNEL_MESSAGES_MAX as u64 {
            self.sent_total += 1;
            self.unconsumed += 1;
            self.deliver();
        }
    }

    fn step(&mut self) -> bool {
        let mut events = Vec::new();
        let ran = self.kernel.step(&mut |event| events.push(Recorded::of(&event))).unwrap();
        self.take(events);
        ran
    }

    fn take(&mut self, events: Vec<Recorded>) {
        let mut over = false;
        for event in events {
            assert!(!over, "an event after the end: {event:?}");
            match event {
                Recorded::Set(key, value) => self.open.push((key, value)),
                Recorded::Consumed(sequence) => self.open_consumed = sequence,
                Recorded::Counted(delta) => self.open_counted += delta,
                Recorded::SliceEnd => {
                    self.state.extend(self.open.drain(..));
                    self.unconsumed -= self.open_consumed - self.consumed;
                    self.consumed = self.open_consumed;
                    self.counted += mem::take(&mut self.open_counted);
                }
                Recorded::Exited(outcome) => {
                    over = true;
                    assert!(self.open.is_empty() && self.open_counted == 0, "a torn transaction");
                    self.exits.push(outcome);
                }
                Recorded::Other => {}
            }
        }
        assert_eq!(self.kernel.check_invariants(), Ok(()));
        for (_, process) in self.kernel.table.rows() {
            if let Phase::Boundary(instance) = &process.phase {
                assert_eq!(instance.context.check_invariants(), Ok(()));
            }
        }
        if over {
            self.open_consumed = 0;
            self.start();
        }
    }
}

#[derive(Debug)]
enum Recorded {
    Set(String, Vec<u8>),
    Consumed(u64),
    Counted(u64),
    SliceEnd,
    Exited(Outcome),
    Other,
}

impl Recorded {
    fn of(event: &Event<'_>) -> Self {
        match *event {
            Event::StateSet { key, value, .. } => Self::Set(key.into(), value.into()),
            Event::Consumed { sequence, .. } => Self::Consumed(sequence),
            Event::CounterAdd { delta, .. } => Self::Counted(delta),
            Event::SliceEnd { .. } => Self::SliceEnd,
            Event::Exited { outcome, .. } => Self::Exited(outcome),
            _ => Self::Other,
        }
    }
}

#[derive(Clone, Debug)]
enum Move {
    Send(u8),
    Step(u8),
    Script(Act),
    Kill,
    Ask,
    Shutdown,
    Pause,
    Resume,
    Reload,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => (1_u8..6).prop_map(Move::Send),
        4 => (1_u8..6).prop_map(Move::Step),
        3 => prop_oneof![
            3 => Just(Act::Preempt),
            2 => Just(Act::Trap),
            1 => Just(Act::Fail),
            1 => Just(Act::Exit),
            1 => Just(Act::Again),
            1 => (0_u64..10_000_000).prop_map(Act::Until),
        ].prop_map(Move::Script),
        1 => Just(Move::Kill),
        1 => Just(Move::Ask),
        1 => Just(Move::Shutdown),
        2 => Just(Move::Pause),
        2 => Just(Move::Resume),
        1 => Just(Move::Reload),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever ends a daemon, and wherever in a slice: what was committed has counted every message
    /// once, and once faults end every message is counted.
    #[test]
    fn every_message_is_counted_once(moves in proptest::collection::vec(moves(), 0..60)) {
        let mut books = Books::new();
        for next in moves {
            match next {
                Move::Send(count) => (0..count).for_each(|_| books.send()),
                Move::Step(count) => (0..count).for_each(|_| { books.step(); }),
                Move::Script(act) => books.kernel.executor().script.push_back(act),
                Move::Kill => { let at = books.at(); books.tell(Command::Kill { at }); }
                Move::Ask => {
                    let at = books.at();
                    books.tell(Command::HealthCheck { at, token: 1 });
                    books.tell(Command::Metrics { at, token: 2 });
                }
                Move::Shutdown => {
                    let at = books.at();
                    books.tell(Command::Shutdown { at, grace_ns: 1 });
                }
                Move::Pause => { let at = books.at(); books.tell(Command::Pause { at }); }
                Move::Resume => { let at = books.at(); books.tell(Command::Resume { at }); }
                Move::Reload => {
                    let at = books.at();
                    books.tell(Command::ConfigEntry { at, key: "k", value: "v", kind: ValueKind::Text });
                    books.tell(Command::Reload { at });
                }
            }
            let committed = books.state.get("count").map_or(0, Vec::len) as u64;
            prop_assert_eq!(committed + books.unconsumed, books.sent_total);
            prop_assert_eq!(books.counted, committed);
        }
        books.kernel.executor().script.clear();
        let at = books.at();
        books.tell(Command::Resume { at });
        let mut quanta = 0;
        while books.step() {
            quanta += 1;
            prop_assert!(quanta < 10_000, "the kernel does not come to rest");
        }
        prop_assert_eq!(books.counted, books.sent_total);
    }
}

/// Runs until nothing is left to do; returns how the daemons ended.
fn settle(books: &mut Books) -> Vec<Outcome> {
    while books.step() {}
    mem::take(&mut books.exits)
}

#[test]
fn each_way_to_end_is_told_apart() {
    let check = |acts: &[Act], expected: &[Outcome]| {
        let mut books = Books::new();
        settle(&mut books);
        books.kernel.executor().script.extend(acts);
        books.send();
        assert_eq!(settle(&mut books), expected, "{acts:?}");
    };
    check(&[Act::Trap], &[Outcome::Trap]);
    check(&[Act::Fail], &[Outcome::Error]);
    check(&[Act::Exit], &[Outcome::Graceful]);
    check(&[Act::Preempt, Act::Preempt, Act::Trap], &[Outcome::Trap]);
    check(&[Act::Again, Act::Return], &[]);
}

#[test]
fn a_question_is_answered_ahead_of_work_or_busy_during_a_slice() {
    let mut books = Books::new();
    settle(&mut books);
    let ask = |books: &mut Books| {
        let at = books.at();
        let mut reports = Vec::new();
        let command = Command::HealthCheck { at, token: 9 };
        let mut keep = |event: Event<'_>| {
            if let Event::Health { report, token: 9, .. } = event {
                reports.push(matches!(report, HealthReport::Busy { .. }));
            }
        };
        books.kernel.command(command, &mut keep).unwrap();
        books.kernel.step(&mut keep).unwrap();
        reports
    };
    books.send();
    assert_eq!(ask(&mut books), [false], "health goes before the message");
    books.kernel.executor().script.push_back(Act::Preempt);
    books.kernel.executor().script.push_back(Act::Preempt);
    books.step();
    assert_eq!(ask(&mut books), [true], "the slice is open");
}

#[test]
fn whoever_finds_the_table_full_waits_and_a_bad_image_is_refused() {
    let mut books = Books::new();
    let mut outcomes = Vec::new();
    for daemon in 100..105 {
        let at = Address::of(daemon, 1);
        let image = if daemon == 100 { "bad" } else { "i" };
        for command in described(at, image, 0, Grants::LOG).chain([Command::Start { at }]) {
            books
                .kernel
                .command(command, &mut |event| {
                    if let Event::Exited { at, outcome, code, .. } = event {
                        outcomes.push((at.daemon, outcome, code));
                    }
                })
                .unwrap();
        }
    }
    // PID 1, the first daemon, and two more. A bad image stays bad; room may come.
    let expected =
        [(100, Outcome::Refused, 0), (103, Outcome::Error, 75), (104, Outcome::Error, 75)];
    assert_eq!(outcomes, expected);
    assert_eq!(books.kernel.processes().len(), 4);
    assert_eq!(books.kernel.processes()[0].name, "init");
}

/// A limit or a capability that nobody here knows ends the daemon if it is required, in words; and is nothing
/// if it is not. So is a window that is larger than this side's.
#[test]
fn what_is_not_known_by_name_is_refused_if_it_is_required() {
    let setting = |required| Command::Setting { at: AT_99, name: "rockets", value: 1, required };
    let grant = |required| Command::Grant { at: AT_99, capability: "rocket", required };
    let cases = [
        (setting(true), Some("this WOS does not know the limit rockets")),
        (grant(true), Some("this WOS does not know the capability rocket")),
        (setting(false), None),
        (grant(false), None),
    ];
    for (command, refusal) in cases {
        let mut books = Books::new();
        let mut reasons = Vec::new();
        let described = described(AT_99, "i", 4, Grants::LOG);
        // What is said after a refusal is said of nobody.
        for command in described.chain([command, command, Command::Start { at: AT_99 }]) {
            let mut emit = |event: Event<'_>| {
                if let Event::Exited { at: AT_99, outcome, reason, .. } = event {
                    reasons.push((outcome, String::from(reason)));
                }
            };
            books.kernel.command(command, &mut emit).unwrap();
        }
        let expected: Vec<_> =
            refusal.iter().map(|text| (Outcome::Refused, String::from(*text))).collect();
        assert_eq!(reasons, expected, "{command:?}");
        assert!(books.step(), "a bystander goes on");
    }
    let mut books = Books::new();
    let open = |window| Command::ChannelOpen { at: AT_99, name: "c", granted: true, window };
    books.tell(Command::Create { at: AT_99, name: "d", image: "i", level: 4 });
    books.tell(open(WINDOW_MAX));
    let refused = books.kernel.command(open(WINDOW_MAX + 1), &mut |_| {}).unwrap_err();
    assert_eq!(refused, ProtocolError::TooMany(AT_99));
}

#[test]
fn a_process_waits_for_its_image() {
    let mut books = Books::new();
    books.kernel.executor().pending_images = true;
    let at = books.at();
    books.tell(Command::Kill { at });
    assert!(!books.step(), "there is nothing to run");
    books.kernel.executor().pending_images = false;
    books.kernel.image_settled("other", &mut |_| {});
    assert!(!books.step(), "another image does not help");
    books.kernel.image_settled("i", &mut |_| {});
    assert!(books.step());
}

#[test]
fn what_has_not_started_ends_when_it_is_asked_to_stop() {
    let mut books = Books::new();
    settle(&mut books);
    books.kernel.executor().pending_images = true;
    let at = books.at();
    books.tell(Command::Kill { at });
    assert_eq!(mem::take(&mut books.exits), [Outcome::Killed]);
    // Its successor waits for its image, which may take longer than the grace.
    let at = books.at();
    books.tell(Command::Shutdown { at, grace_ns: 1 });
    assert_eq!(mem::take(&mut books.exits), [Outcome::Graceful]);
    assert!(!books.step());
}

#[test]
fn what_breaks_the_protocol_is_an_error() {
    let mut books = Books::new();
    let at = books.at();
    let create = |level| Command::Create { at, name: "d", image: "i", level };
    let mut refused = |command| books.kernel.command(command, &mut |_| {}).unwrap_err();
    assert_eq!(refused(create(0)), ProtocolError::AddressInUse(at));
    assert_eq!(refused(Command::Start { at }), ProtocolError::AlreadyStarted(at));
    let message = Command::Messages { at, channel: 9, sequence: 1, attempt: 1, payloads: EMPTY };
    assert_eq!(refused(message), ProtocolError::OutsideWindow(at));
    // None at all, a prefix that is cut, a payload that is.
    for bytes in [&b""[..], b"\x01\0\0", b"\x02\0\0\0m", b"\x01\0\0\0m\0"] {
        let payloads = Payloads::new(bytes);
        let message = Command::Messages { at, channel: 0, sequence: 1, attempt: 1, payloads };
        assert_eq!(refused(message), ProtocolError::Malformed(at));
    }
    for _ in 0..CHANNEL_MESSAGES_MAX {
        books.send();
    }
    let over = Command::Messages { at, channel: 0, sequence: 1, attempt: 1, payloads: EMPTY };
    let refused = books.kernel.command(over, &mut |_| {}).unwrap_err();
    assert_eq!(refused, ProtocolError::OutsideWindow(at));
}
