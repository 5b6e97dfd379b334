use core::time::Duration;
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::Strategy as Generator;

use super::{Strategy, *};
use crate::backoff::Backoff;
use crate::lifecycle::{FailureReason, StopCause, Stopping, Then};
use crate::limiter::{IntensityError, RestartLimit};
use crate::probe::{ProbeKind, ProbeSpec, ProbeSpecError, Probes};
use crate::restart::{Exit, ExitRules, ExitSet, RestartPolicy};

mod groups;
mod running;

/// A supervisor and the processes that its effects would have made.
struct World {
    supervisor: Supervisor<Vec<Slot>, Vec<GroupSlot>>,
    now: Instant,
    /// The incarnation of each daemon that has a process, and whether it was told to end.
    processes: BTreeMap<u32, (u32, bool)>,
    /// The daemons whose processes are held still.
    paused: BTreeSet<u32>,
    groups: Vec<GroupId>,
    states: BTreeMap<u32, State>,
    last: Vec<Effect>,
}

impl World {
    fn new(slots: usize) -> Self {
        Self {
            supervisor: Supervisor::with_groups(
                vec![Slot::default(); slots],
                vec![GroupSlot::default(); 4],
            ),
            now: Instant::ZERO,
            processes: BTreeMap::new(),
            paused: BTreeSet::new(),
            groups: Vec::new(),
            states: BTreeMap::new(),
            last: Vec::new(),
        }
    }

    fn add(&mut self, spec: Spec) -> DaemonId {
        let id = self.supervisor.add(spec).unwrap();
        self.states.insert(id.slot, State::Created);
        id
    }

    /// Gives one input, holds every effect against what is allowed, and checks the invariants.
    fn give(&mut self, entropy: u64, input: Input) -> Result<(), InputError> {
        if let Input::Exited { id, incarnation, .. } = input
            && self.processes.get(&id.slot).is_some_and(|process| process.0 == incarnation)
            && self.supervisor.view(id).is_some()
        {
            self.processes.remove(&id.slot);
            self.paused.remove(&id.slot);
        }
        let mut effects = Vec::new();
        let result =
            self.supervisor.handle(self.now, entropy, input, &mut |effect| effects.push(effect));
        for effect in &effects {
            match effect {
                Effect::Changed { id, from, to } => {
                    assert_eq!(self.states.insert(id.slot, *to), Some(*from), "{input:?}");
                    assert_ne!(from, to);
                }
                Effect::Spawn { id, incarnation } => {
                    let before = self.processes.insert(id.slot, (*incarnation, false));
                    assert_eq!(before, None, "two processes at once: {input:?}");
                }
                Effect::Terminate { id, incarnation, .. } => {
                    let process = self.processes.get_mut(&id.slot);
                    assert_eq!(process, Some(&mut (*incarnation, false)), "{input:?}");
                    self.processes.insert(id.slot, (*incarnation, true));
                    assert!(!self.paused.contains(&id.slot), "what is paused can't answer");
                }
                Effect::Kill { id, incarnation } | Effect::Probe { id, incarnation, .. } => {
                    assert_eq!(self.process_of(*id), Some(*incarnation), "{input:?}");
                }
                Effect::Pause { id, incarnation } => {
                    assert_eq!(self.process_of(*id), Some(*incarnation), "{input:?}");
                    assert!(self.paused.insert(id.slot), "paused twice: {input:?}");
                }
                Effect::Resume { id, incarnation } => {
                    assert_eq!(self.process_of(*id), Some(*incarnation), "{input:?}");
                    assert!(self.paused.remove(&id.slot), "resumed without a pause: {input:?}");
                }
                Effect::Reload { id, incarnation } | Effect::ReloadTimedOut { id, incarnation } => {
                    assert_eq!(self.process_of(*id), Some(*incarnation), "{input:?}");
                }
                Effect::Halt(epitaph) => panic!("{epitaph} on {input:?}"),
            }
        }
        self.last = effects;
        assert_eq!(self.supervisor.check_invariants(), Ok(()), "after {input:?}");
        for id in self.supervisor.ids() {
            let view = self.supervisor.view(id).unwrap();
            assert_eq!(Some(&view.state), self.states.get(&id.slot));
            assert_eq!(view.state.has_process(), self.processes.contains_key(&id.slot));
            let waits = view.state == State::Starting(Starting::Waiting);
            assert_eq!(view.waits_for.is_some(), waits);
        }
        result
    }

    fn must(&mut self, input: Input) {
        assert_eq!(self.give(u64::MAX, input), Ok(()), "{input:?}");
    }

    fn state(&self, id: DaemonId) -> State {
        self.supervisor.view(id).unwrap().state
    }

    fn group(&self, index: Index) -> Option<GroupId> {
        (!self.groups.is_empty()).then(|| *index.get(&self.groups))
    }

    fn process_of(&self, id: DaemonId) -> Option<u32> {
        self.processes.get(&id.slot).map(|process| process.0)
    }

    fn incarnation(&self, id: DaemonId) -> u32 {
        self.supervisor.view(id).unwrap().incarnation
    }

    fn run(&mut self, id: DaemonId) {
        self.must(Input::Start(id));
        self.ready(id);
    }

    fn ready(&mut self, id: DaemonId) {
        let incarnation = self.incarnation(id);
        self.must(Input::Ready { id, incarnation });
    }

    fn exit(&mut self, id: DaemonId, exit: Exit) {
        let incarnation = self.incarnation(id);
        self.must(Input::Exited { id, incarnation, exit });
    }

    fn pass(&mut self, length: Duration) {
        self.now = self.now.saturating_add(length);
        self.must(Input::Tick);
    }

    fn spawned(&self) -> bool {
        self.last.iter().any(|effect| matches!(effect, Effect::Spawn { .. }))
    }

    /// Ends all faults: every process becomes ready, is healthy, and ends when told. Returns when
    /// nothing is on its way any more.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let mut quiet = true;
            for id in self.supervisor.ids().collect::<Vec<_>>() {
                let view = self.supervisor.view(id).unwrap();
                match view.state {
                    State::Starting(Starting::Spawning { .. } | Starting::Initialising { .. }) => {
                        self.ready(id);
                    }
                    State::Stopping(_) => self.exit(id, Exit::Code(0)),
                    State::Paused => self.must(Input::Resume(id)),
                    State::Reloading { .. } => {
                        let incarnation = self.incarnation(id);
                        self.must(Input::Reloaded { id, incarnation });
                    }
                    State::Backoff { .. } => {}
                    _ => continue,
                }
                quiet = false;
            }
            if quiet {
                return;
            }
            if let Some(deadline) = self.supervisor.next_deadline() {
                self.now = self.now.max(deadline);
                self.must(Input::Tick);
                self.answer_probes();
            }
        }
        panic!("never at rest: {:?}", self.states);
    }

    fn answer_probes(&mut self) {
        for effect in self.last.clone() {
            if let Effect::Probe { id, incarnation, token, .. } = effect {
                self.must(Input::Probed { id, incarnation, token, healthy: true });
            }
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const CRASH: Exit = Exit::Signal(9);

fn at_once() -> Spec {
    Spec { backoff: Backoff::NONE, ..Spec::default() }
}

fn quarantined(spec: &Spec) -> State {
    let RestartLimit { intensity, period, .. } = spec.limit;
    State::Failed(FailureReason::Quarantined { restarts: intensity, period })
}

#[test]
fn a_crash_is_restarted_after_its_backoff() {
    let mut world = World::new(1);
    let id = world.add(Spec::default());
    world.run(id);
    let first = world.incarnation(id);
    world.pass(SECOND);
    world.exit(id, CRASH);
    let until = world.now.saturating_add(Duration::from_millis(100));
    let failure = Some(FailureReason::Signal(9));
    assert_eq!(world.state(id), State::Backoff { until, failure });
    // The start timeout of the first start is called off: its tick does nothing.
    assert!(world.supervisor.next_deadline() <= Some(until));
    world.pass(Duration::from_millis(99));
    assert!(!world.spawned());
    world.pass(Duration::from_millis(1));
    assert!(world.spawned());
    assert_eq!(world.incarnation(id), first + 1);
    assert_eq!(world.supervisor.view(id).unwrap().restarts, 1);
    // The dead are not heard.
    world.must(Input::Ready { id, incarnation: first });
    world.must(Input::Exited { id, incarnation: first, exit: CRASH });
    assert!(matches!(world.state(id), State::Starting(Starting::Spawning { .. })));
}

#[test]
fn a_zero_backoff_spawns_in_the_same_call() {
    let mut world = World::new(1);
    let id = world.add(at_once());
    world.run(id);
    world.exit(id, CRASH);
    assert!(world.spawned());
}

#[test]
fn too_many_restarts_quarantine_until_an_operator_starts_it() {
    let mut world = World::new(1);
    let spec = at_once();
    let id = world.add(spec.clone());
    for again in [Input::Start(id), Input::Start(id), Input::Restart(id)] {
        world.must(again);
        world.ready(id);
        for _ in 0..spec.limit.intensity {
            world.exit(id, CRASH);
            assert!(world.spawned());
            world.ready(id);
        }
        world.exit(id, CRASH);
        assert_eq!(world.state(id), quarantined(&spec));
    }
    world.pass(Duration::from_secs(1_000_000));
    assert_eq!(world.state(id), quarantined(&spec));
}

#[test]
fn retries_are_counted_until_a_stable_run() {
    let mut world = World::new(1);
    let id = world.add(Spec { max_retries: Some(2), limit: RestartLimit::UNLIMITED, ..at_once() });
    world.run(id);
    for round in 0..10 {
        world.exit(id, CRASH);
        world.ready(id);
        world.exit(id, CRASH);
        world.ready(id);
        // Two in a row are allowed; after a stable run the row starts again.
        if round < 9 {
            world.pass(Duration::from_secs(60));
        }
    }
    world.pass(Duration::from_secs(59));
    world.exit(id, Exit::Code(3));
    assert_eq!(world.state(id), State::Failed(FailureReason::ExitCode(3)));
    assert_eq!(world.supervisor.view(id).unwrap().restarts, 20);
}

#[test]
fn the_backoff_grows_and_forgets() {
    let mut world = World::new(1);
    let id = world.add(Spec { limit: RestartLimit::UNLIMITED, ..Spec::default() });
    world.run(id);
    let mut delay_of_crash = |ran_for: Duration| {
        world.pass(ran_for);
        world.exit(id, CRASH);
        let restart_at = world.supervisor.view(id).unwrap().restart_at.unwrap();
        let delay = restart_at.saturating_since(world.now);
        world.pass(delay);
        world.ready(id);
        delay.as_millis()
    };
    for expected_ms in [100, 200, 400, 800] {
        assert_eq!(delay_of_crash(SECOND), expected_ms);
    }
    assert_eq!(delay_of_crash(Duration::from_secs(60)), 100);
    assert_eq!(delay_of_crash(SECOND), 200);
}

#[test]
fn a_start_that_was_never_ready_is_no_stable_run() {
    let mut world = World::new(1);
    let id = world.add(Spec { stable_after: SECOND * 5, ..Spec::default() });
    world.run(id);
    for delay_ms in [100, 200, 400] {
        world.exit(id, CRASH);
        let until = world.now.saturating_add(Duration::from_millis(delay_ms));
        assert_eq!(world.supervisor.view(id).unwrap().restart_at, Some(until));
        world.pass(Duration::from_millis(delay_ms));
        assert!(world.spawned());
        world.pass(SECOND * 10);
    }
}

#[test]
fn some_exits_decide_by_themselves() {
    let exits = ExitRules {
        prevent: ExitSet::EMPTY.with_code(64).unwrap(),
        force: ExitSet::EMPTY.with_code(75).unwrap(),
        ..ExitRules::SYSTEMD
    };
    for (restart, exit, restarted) in [
        (RestartPolicy::Always, Exit::Code(64), false),
        (RestartPolicy::Never, Exit::Code(75), true),
        (RestartPolicy::Never, Exit::Code(1), false),
    ] {
        let mut world = World::new(1);
        let id = world.add(Spec { restart, exits, ..at_once() });
        world.run(id);
        world.exit(id, exit);
        assert_eq!(world.spawned(), restarted, "{restart:?} {exit:?}");
    }
}

#[test]
fn clean_exits_are_charged_where_the_rules_say_so() {
    let mut world = World::new(1);
    let (restart, exits) = (RestartPolicy::Always, ExitRules::KUBERNETES);
    let limit = RestartLimit { intensity: 2, ..RestartLimit::default() };
    let id = world.add(Spec { restart, exits, limit, ..at_once() });
    world.run(id);
    for _ in 0..2 {
        world.exit(id, Exit::Code(0));
        world.ready(id);
    }
    world.exit(id, Exit::Code(0));
    let limit = RestartLimit { intensity: 2, ..RestartLimit::default() };
    assert_eq!(world.state(id), quarantined(&Spec { limit, ..at_once() }));
}

#[test]
fn a_fixed_window_counts_every_start_until_it_is_forgiven() {
    let mut world = World::new(1);
    let limit = RestartLimit { intensity: 2, ..RestartLimit::SYSTEMD };
    let id = world.add(Spec { restart: RestartPolicy::Always, limit, ..at_once() });
    world.run(id);
    world.exit(id, Exit::Code(0));
    world.ready(id);
    world.exit(id, Exit::Code(0));
    let spec = Spec { limit, ..at_once() };
    assert_eq!(world.state(id), quarantined(&spec));
    let refused = Err(InputError::TooManyStarts(id));
    for start in [Input::Start(id), Input::Restart(id), Input::StartWithDependencies(id)] {
        assert_eq!(world.give(0, start), refused);
        assert_eq!(world.state(id), quarantined(&spec));
    }
    world.must(Input::Forgive(id));
    assert_eq!(world.state(id), quarantined(&spec));
    world.run(id);
}

#[test]
fn a_clean_exit_is_charged_to_nobody() {
    for (restart, restarted) in [
        (RestartPolicy::Never, false),
        (RestartPolicy::OnFailure, false),
        (RestartPolicy::Always, true),
        (RestartPolicy::UnlessStopped, true),
    ] {
        let mut world = World::new(1);
        let limit = RestartLimit { intensity: 0, ..RestartLimit::default() };
        let id = world.add(Spec { restart, limit, max_retries: Some(0), ..at_once() });
        world.run(id);
        for _ in 0..20 {
            world.exit(id, Exit::Code(0));
            assert_eq!(world.spawned(), restarted, "{restart:?}");
            if !restarted {
                assert_eq!(world.state(id), State::Stopped(StopCause::Finished));
                break;
            }
            world.ready(id);
        }
    }
}

#[test]
fn an_operator_is_obeyed_and_charged_to_nobody() {
    let limit = RestartLimit { intensity: 1, ..RestartLimit::default() };
    let mut world = World::new(1);
    let id = world.add(Spec { limit, ..at_once() });
    world.run(id);
    assert_eq!(world.give(0, Input::Start(id)), Err(InputError::AlreadyStarted(id)));
    for _ in 0..5 {
        world.must(Input::Restart(id));
        assert_eq!(world.give(0, Input::Start(id)), Err(InputError::Stopping(id)));
        world.exit(id, CRASH);
        assert!(world.spawned());
        world.ready(id);
    }
    assert_eq!(world.supervisor.view(id).unwrap().restarts, 0);
    world.must(Input::Stop(id));
    world.must(Input::Stop(id));
    world.pass(Duration::from_secs(9));
    assert_eq!(world.last, []);
    world.pass(SECOND);
    assert_eq!(world.state(id), State::Stopping(Stopping::Killing { then: Then::Stop }));
    world.exit(id, CRASH);
    world.must(Input::Stop(id));
    assert_eq!(world.state(id), State::Stopped(StopCause::Operator));
}

#[test]
fn a_start_that_takes_too_long_is_a_failure() {
    let mut world = World::new(1);
    let id = world.add(Spec { max_retries: Some(0), ..Spec::default() });
    world.must(Input::Start(id));
    world.pass(Duration::from_secs(30));
    let incarnation = world.incarnation(id);
    assert!(world.last.contains(&Effect::Kill { id, incarnation }));
    // What it says on its way out does not matter.
    world.exit(id, Exit::Code(0));
    assert_eq!(world.state(id), State::Failed(FailureReason::StartTimeout));
}

#[test]
fn unhealthy_daemons_are_killed_and_the_count_starts_anew() {
    let mut world = World::new(1);
    let id = world.add(Spec { probes: Probes::liveness(ProbeSpec::default()), ..at_once() });
    world.run(id);
    for _ in 0..2 {
        for failures in 1..=3 {
            world.pass(Duration::from_secs(10));
            assert!(matches!(world.last[..], [Effect::Probe { .. }]), "{:?}", world.last);
            if failures < 3 {
                let incarnation = world.incarnation(id);
                let token = failures;
                world.must(Input::Probed { id, incarnation, token, healthy: false });
            } else {
                world.pass(SECOND);
            }
        }
        let reason = FailureReason::Unhealthy;
        assert_eq!(world.state(id), State::Stopping(Stopping::Condemned(reason)));
        world.exit(id, CRASH);
        assert!(world.spawned());
        world.ready(id);
        assert_eq!(world.supervisor.view(id).unwrap().health, Health::Unknown);
    }
}

/// web ← sentinel ← alert: each depends on the one before.
fn chain(world: &mut World) -> [DaemonId; 3] {
    let web = world.add(Spec::default());
    let depends_on = heapless::Vec::from_slice(&[web]).unwrap();
    let sentinel = world.add(Spec { depends_on, ..Spec::default() });
    let depends_on = heapless::Vec::from_slice(&[web, sentinel]).unwrap();
    let alert = world.add(Spec { depends_on, ..Spec::default() });
    [web, sentinel, alert]
}

#[test]
fn dependencies_gate_the_start_and_reverse_the_stop() {
    let mut world = World::new(3);
    let [web, sentinel, alert] = chain(&mut world);
    world.must(Input::Start(alert));
    assert_eq!(world.supervisor.view(alert).unwrap().waits_for, Some(web));
    world.must(Input::Start(sentinel));
    world.must(Input::Start(web));
    assert_eq!(world.processes.len(), 1);
    world.ready(web);
    assert_eq!(world.supervisor.view(alert).unwrap().waits_for, Some(sentinel));
    world.ready(sentinel);
    world.ready(alert);
    // A dependency that fails takes nobody with it.
    world.exit(web, CRASH);
    assert_eq!(world.state(alert), State::Running);
    world.pass(SECOND);
    world.ready(web);

    world.must(Input::StopAll);
    for (last, rest) in [(alert, &[sentinel, web][..]), (sentinel, &[web][..]), (web, &[][..])] {
        assert!(matches!(world.state(last), State::Stopping(_)));
        assert!(rest.iter().all(|id| world.state(*id) == State::Running));
        world.exit(last, CRASH);
        assert_eq!(world.state(last), State::Stopped(StopCause::Operator));
    }
}

#[test]
fn an_operator_takes_the_chain_along() {
    let mut world = World::new(4);
    let [web, sentinel, alert] = chain(&mut world);
    let other = world.add(Spec::default());
    world.run(other);
    world.must(Input::StartWithDependencies(alert));
    for id in [web, sentinel, alert] {
        world.ready(id);
    }
    let again = world.give(0, Input::StartWithDependencies(alert));
    assert_eq!(again, Err(InputError::AlreadyStarted(alert)));

    world.must(Input::StopWithDependents(sentinel));
    assert_eq!(world.state(sentinel), State::Running, "alert goes first");
    // What was started is started again when it has stopped; what runs runs on.
    world.exit(alert, CRASH);
    assert!(matches!(world.state(sentinel), State::Stopping(_)));
    world.must(Input::StartWithDependencies(alert));
    world.settle();
    for (id, incarnation) in [(web, 1), (sentinel, 2), (alert, 2), (other, 1)] {
        assert_eq!((world.state(id), world.incarnation(id)), (State::Running, incarnation));
    }
    let stranger = DaemonId { slot: 9, generation: 0 };
    let unknown = Err(InputError::UnknownDaemon(stranger));
    assert_eq!(world.give(0, Input::StopWithDependents(stranger)), unknown);
}

#[test]
fn what_dies_while_all_are_stopped_stays_dead() {
    let mut world = World::new(3);
    let [web, sentinel, alert] = chain(&mut world);
    for id in [web, sentinel, alert] {
        world.run(id);
    }
    world.must(Input::StopAll);
    world.exit(web, CRASH);
    assert_eq!(world.state(web), State::Stopped(StopCause::Operator));
    world.settle();
    assert!(world.processes.is_empty());
}

#[test]
fn what_waits_to_be_stopped_is_no_longer_ready() {
    let mut world = World::new(3);
    let probes = Probes::liveness(ProbeSpec { failure_threshold: 1, ..ProbeSpec::default() });
    let web = world.add(Spec { probes, ..Spec::default() });
    let depends_on = heapless::Vec::from_slice(&[web]).unwrap();
    let [sentinel, alert] =
        [(); 2].map(|()| world.add(Spec { depends_on: depends_on.clone(), ..Spec::default() }));
    world.run(web);
    world.run(sentinel);
    world.must(Input::StopAll);
    world.must(Input::Start(alert));
    assert_eq!(world.supervisor.view(alert).unwrap().waits_for, Some(web));
    // A failure on the way does not bring it back.
    world.pass(Duration::from_secs(10));
    world.pass(SECOND);
    assert_eq!(world.state(web), State::Stopping(Stopping::Killing { then: Then::Stop }));
    world.exit(web, CRASH);
    assert_eq!(world.state(web), State::Stopped(StopCause::Operator));
}

#[test]
fn bad_specifications_are_refused() {
    let mut supervisor = Supervisor::new([Slot::EMPTY]);
    let stranger = DaemonId { slot: 7, generation: 0 };
    let zero = ProbeSpec { period: Duration::ZERO, ..ProbeSpec::default() };
    let has_zero = ProbeSpecError::HasZero { kind: ProbeKind::Liveness };
    let limit = RestartLimit { intensity: 33, ..RestartLimit::default() };
    let too_intense = IntensityError { intensity: 33, intensity_max: INTENSITY_MAX };
    let depends_on = heapless::Vec::from_slice(&[stranger]).unwrap();
    for (spec, error) in [
        (Spec { start_timeout: Duration::ZERO, ..Spec::default() }, AddError::StartTimeoutIsZero),
        (Spec { probes: Probes::liveness(zero), ..Spec::default() }, AddError::Probe(has_zero)),
        (Spec { limit, ..Spec::default() }, AddError::Limit(too_intense)),
        (Spec { depends_on, ..Spec::default() }, AddError::UnknownDependency(stranger)),
    ] {
        assert_eq!(supervisor.add(spec), Err(error));
    }
    let id = supervisor.add(Spec::default()).unwrap();
    assert_eq!(supervisor.add(Spec::default()), Err(AddError::Full { capacity: 1 }));
    assert_eq!(supervisor.remove(id), Ok(()));
    let next = supervisor.add(Spec::default()).unwrap();
    // The slot is the same one; the old name is not.
    assert_eq!(
        (next.slot(), supervisor.remove(id)),
        (id.slot(), Err(RemoveError::UnknownDaemon(id)))
    );
    assert_eq!(supervisor.view(id), None);
}

#[test]
fn what_is_needed_is_not_removed() {
    let mut world = World::new(3);
    let [web, sentinel, alert] = chain(&mut world);
    world.run(web);
    assert_eq!(world.supervisor.remove(web), Err(RemoveError::HasProcess(web)));
    world.must(Input::StopAll);
    world.settle();
    let needed = RemoveError::HasDependents { id: web, dependents: 2 };
    assert_eq!(world.supervisor.remove(web), Err(needed));
    for id in [alert, sentinel, web] {
        assert_eq!(world.supervisor.remove(id), Ok(()));
    }
}

#[test]
fn a_broken_invariant_halts() {
    let mut supervisor = Supervisor::new(vec![Slot::default()]);
    let id = supervisor.add(Spec::default()).unwrap();
    supervisor.daemon_mut(id).unwrap().dependents_alive = 1;
    let mut effects = Vec::new();
    let mut give = |input| supervisor.handle(Instant::ZERO, 0, input, &mut |e| effects.push(e));
    assert_eq!(give(Input::Start(id)), Err(InputError::Halted));
    assert_eq!(give(Input::Stop(id)), Err(InputError::Halted));
    let words = Epitaph::new(format_args!("1 of 0 alive"));
    assert_eq!(effects.iter().filter(|e| **e == Effect::Halt(words.clone())).count(), 1);
    assert_eq!(effects.last(), Some(&Effect::Halt(words)));
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Op {
    AddGroup(Strategy, Option<Index>),
    Add(Box<Spec>, Vec<Index>, Option<Index>),
    Remove(Index),
    Start(Index),
    Stop(Index),
    StartChain(Index),
    StopChain(Index),
    Restart(Index),
    StopAll,
    Pause(Index),
    Resume(Index),
    Reload(Index),
    Reloaded(Index, u32),
    Alive(Index, u32),
    Spawned(Index, u32),
    Ready(Index, u32),
    Exited(Index, u32, Exit),
    Probed(Index, u32, u64, bool),
    Pass(u64),
    ToDeadline,
    StepBack,
    ToTheEnd,
}

fn specs() -> impl Generator<Value = Spec> {
    let length = prop_oneof![Just(Duration::ZERO), Just(SECOND), Just(Duration::MAX)];
    let policy = prop_oneof![
        Just(RestartPolicy::Never),
        Just(RestartPolicy::OnFailure),
        Just(RestartPolicy::Always),
        Just(RestartPolicy::UnlessStopped),
    ];
    let probe = ProbeSpec {
        initial_delay: SECOND,
        period: SECOND,
        timeout: SECOND * 2,
        failure_threshold: 2,
        success_threshold: 1,
    };
    (
        (policy, proptest::option::of(0..4_u32), 0..6_u32),
        (length.clone(), length.clone(), length),
        (any::<bool>(), any::<bool>()),
    )
        .prop_map(
            move |(
                (restart, max_retries, intensity),
                (initial, grace, stable),
                (probed, watched),
            )| Spec {
                restart,
                max_retries,
                backoff: Backoff::exponential(initial, SECOND * 8),
                limit: RestartLimit { intensity, period: SECOND * 5, ..RestartLimit::default() },
                start_timeout: SECOND * 3,
                stop_grace: grace,
                stable_after: stable,
                probes: if probed { Probes::liveness(probe) } else { Probes::NONE },
                watchdog: watched.then_some(SECOND * 4),
                ..Spec::default()
            },
        )
}

fn ops() -> impl Generator<Value = Op> {
    let index = any::<Index>;
    // Mostly the current incarnation, now and then an older one.
    let age = || prop_oneof![6 => Just(0), 1 => 1..3_u32, 1 => Just(u32::MAX)];
    let strategy = prop_oneof![
        Just(Strategy::OneForOne),
        Just(Strategy::OneForAll),
        Just(Strategy::RestForOne),
    ];
    let exit = prop_oneof![
        2 => Just(CRASH),
        1 => Just(Exit::Code(0)),
        1 => Just(Exit::Trap),
        1 => Just(Exit::Refused),
    ];
    prop_oneof![
        1 => (strategy, proptest::option::of(index()))
            .prop_map(|(strategy, parent)| Op::AddGroup(strategy, parent)),
        3 => (
            specs(),
            proptest::collection::vec(index(), 0..4),
            proptest::option::weighted(0.7, index()),
        )
            .prop_map(|(spec, on, group)| Op::Add(Box::new(spec), on, group)),
        1 => index().prop_map(Op::Remove),
        6 => index().prop_map(Op::Start),
        2 => index().prop_map(Op::Stop),
        1 => index().prop_map(Op::StartChain),
        1 => index().prop_map(Op::StopChain),
        2 => index().prop_map(Op::Restart),
        1 => Just(Op::StopAll),
        2 => index().prop_map(Op::Pause),
        2 => index().prop_map(Op::Resume),
        2 => index().prop_map(Op::Reload),
        1 => (index(), age()).prop_map(|(id, age)| Op::Reloaded(id, age)),
        1 => (index(), age()).prop_map(|(id, age)| Op::Alive(id, age)),
        4 => (index(), age()).prop_map(|(id, age)| Op::Spawned(id, age)),
        8 => (index(), age()).prop_map(|(id, age)| Op::Ready(id, age)),
        8 => (index(), age(), exit).prop_map(|(id, age, exit)| Op::Exited(id, age, exit)),
        4 => (index(), age(), 0..4_u64, any::<bool>())
            .prop_map(|(id, age, token, healthy)| Op::Probed(id, age, token, healthy)),
        4 => (0..3_000_000_000_u64).prop_map(Op::Pass),
        8 => Just(Op::ToDeadline),
        1 => Just(Op::StepBack),
    ]
}

impl World {
    /// Does one random step. Refusals are fine; broken rules panic in `give`.
    fn random(&mut self, known: &mut Vec<DaemonId>, entropy: u64, op: Op) {
        let pick = |index: Index| {
            let stranger = DaemonId { slot: 99, generation: 3 };
            if known.is_empty() { stranger } else { *index.get(known) }
        };
        let current = |this: &Self, id: DaemonId, age: u32| {
            let incarnation = this.supervisor.view(id).map_or(0, |view| view.incarnation);
            incarnation.wrapping_sub(age)
        };
        let input = match op {
            Op::AddGroup(strategy, parent) => {
                let limit = RestartLimit { intensity: 2, period: SECOND, ..Default::default() };
                let parent = parent.and_then(|index| self.group(index));
                if let Ok(id) = self.supervisor.add_group(GroupSpec { strategy, limit, parent }) {
                    self.groups.push(id);
                }
                Input::Tick
            }
            Op::Add(mut spec, on, group) => {
                spec.group = group.and_then(|index| self.group(index));
                for index in on {
                    let _ = spec.depends_on.push(pick(index));
                }
                spec.depends_on.retain(|id| self.supervisor.view(*id).is_some());
                if let Ok(id) = self.supervisor.add(*spec) {
                    self.states.insert(id.slot, State::Created);
                    known.push(id);
                }
                Input::Tick
            }
            Op::Remove(index) => {
                let _ = self.supervisor.remove(pick(index));
                Input::Tick
            }
            Op::Start(index) => Input::Start(pick(index)),
            Op::Stop(index) => Input::Stop(pick(index)),
            Op::StartChain(index) => Input::StartWithDependencies(pick(index)),
            Op::StopChain(index) => Input::StopWithDependents(pick(index)),
            Op::Restart(index) => Input::Restart(pick(index)),
            Op::StopAll => Input::StopAll,
            Op::Pause(index) => Input::Pause(pick(index)),
            Op::Resume(index) => Input::Resume(pick(index)),
            Op::Reload(index) => Input::Reload(pick(index)),
            Op::Reloaded(index, age) => {
                let id = pick(index);
                Input::Reloaded { id, incarnation: current(self, id, age) }
            }
            Op::Alive(index, age) => {
                let id = pick(index);
                Input::Alive { id, incarnation: current(self, id, age) }
            }
            Op::Spawned(index, age) => {
                let id = pick(index);
                Input::Spawned { id, incarnation: current(self, id, age) }
            }
            Op::Ready(index, age) => {
                let id = pick(index);
                Input::Ready { id, incarnation: current(self, id, age) }
            }
            Op::Exited(index, age, exit) => {
                let id = pick(index);
                Input::Exited { id, incarnation: current(self, id, age), exit }
            }
            Op::Probed(index, age, token, healthy) => {
                let id = pick(index);
                Input::Probed { id, incarnation: current(self, id, age), token, healthy }
            }
            Op::Pass(ns) => {
                self.now = self.now.saturating_add(Duration::from_nanos(ns));
                Input::Tick
            }
            Op::ToDeadline => {
                self.now = self.supervisor.next_deadline().unwrap_or(self.now);
                Input::Tick
            }
            Op::StepBack => {
                self.now = Instant::from_ns(self.now.as_ns() / 2);
                Input::Tick
            }
            Op::ToTheEnd => {
                self.now = Instant::MAX;
                Input::Tick
            }
        };
        let _ = self.give(entropy, input);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens, the rules hold; and once faults end, everything comes to rest: what should
    /// run runs, or waits for something that was stopped or has failed.
    #[test]
    fn any_history_ends_well(
        history in proptest::collection::vec((ops(), prop_oneof![Just(0), Just(u64::MAX), any::<u64>()]), 1..150),
    ) {
        let mut world = World::new(6);
        let mut known = Vec::new();
        for (op, entropy) in history {
            world.random(&mut known, entropy, op);
        }
        world.settle();
        for id in world.supervisor.ids().collect::<Vec<_>>() {
            match world.state(id) {
                State::Created | State::Running | State::Stopped(_) | State::Failed(_) => {}
                State::Starting(Starting::Waiting) => {
                    let on = world.supervisor.view(id).unwrap().waits_for.unwrap();
                    // What is about to be stopped with all others counts as not ready, and settles.
                    prop_assert_ne!(world.state(on), State::Running);
                }
                state => prop_assert!(false, "{} stays {:?}", id, state),
            }
        }
        world.must(Input::StopAll);
        world.settle();
        prop_assert!(world.processes.is_empty(), "{:?}", world.states);
    }

    /// Nothing overflows at the end of time.
    #[test]
    fn the_end_of_time_breaks_no_rule(
        history in proptest::collection::vec((ops(), any::<u64>()), 1..150),
        end in 0..100_usize,
    ) {
        let mut world = World::new(6);
        let mut known = Vec::new();
        for (number, (op, entropy)) in history.into_iter().enumerate() {
            if number == end {
                world.random(&mut known, entropy, Op::ToTheEnd);
            }
            world.random(&mut known, entropy, op);
        }
    }
}
