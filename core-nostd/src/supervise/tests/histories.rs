//! Random histories: whatever happens, the rules hold, and everything comes to rest.

use super::*;

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
    RestartChain(Index),
    StopAll,
    KillAll,
    Pause(Index),
    Resume(Index),
    Reload(Index),
    Reloaded(Index, u32),
    ReloadRefused(Index, u32),
    Extend(Index, u32, Duration),
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
                kill_timeout: SECOND,
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
        1 => Just(Exit::Lost),
        1 => Just(Exit::Unavailable(Unavailable::Program)),
    ];
    let length = || prop_oneof![Just(Duration::ZERO), Just(SECOND * 2), Just(Duration::MAX)];
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
        1 => index().prop_map(Op::RestartChain),
        1 => Just(Op::StopAll),
        1 => Just(Op::KillAll),
        2 => index().prop_map(Op::Pause),
        2 => index().prop_map(Op::Resume),
        2 => index().prop_map(Op::Reload),
        1 => (index(), age()).prop_map(|(id, age)| Op::Reloaded(id, age)),
        1 => (index(), age()).prop_map(|(id, age)| Op::ReloadRefused(id, age)),
        1 => (index(), age(), length()).prop_map(|(id, age, by)| Op::Extend(id, age, by)),
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
            Op::RestartChain(index) => Input::RestartWithDependencies(pick(index)),
            Op::StopAll => Input::StopAll,
            Op::KillAll => Input::KillAll,
            Op::Pause(index) => Input::Pause(pick(index)),
            Op::Resume(index) => Input::Resume(pick(index)),
            Op::Reload(index) => Input::Reload(pick(index)),
            Op::Reloaded(index, age) => {
                let id = pick(index);
                Input::Reloaded { id, incarnation: current(self, id, age) }
            }
            Op::ReloadRefused(index, age) => {
                let id = pick(index);
                Input::ReloadRefused { id, incarnation: current(self, id, age) }
            }
            Op::Extend(index, age, by) => {
                let id = pick(index);
                Input::Extend { id, incarnation: current(self, id, age), by }
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
                    let view = world.supervisor.view(id).unwrap();
                    // What is about to be stopped with all others counts as not ready, and settles.
                    prop_assert_ne!(world.state(view.waits_for.unwrap()), State::Running);
                    prop_assert!(view.blocked_by.is_some(), "{} was not told", id);
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
