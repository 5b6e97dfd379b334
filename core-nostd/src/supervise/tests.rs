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
use crate::restart::{Exit, ExitRules, ExitSet, RestartPolicy, Unavailable};

mod blocks;
mod ends;
mod groups;
mod histories;
mod outer;
mod running;
mod world;

use world::World;

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
        force: ExitSet::EMPTY.with_code(70).unwrap(),
        ..ExitRules::SYSTEMD
    };
    for (restart, exit, restarted) in [
        (RestartPolicy::Always, Exit::Code(64), false),
        (RestartPolicy::Never, Exit::Code(70), true),
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
fn a_clean_exit_after_a_stable_run_is_charged_to_nobody() {
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
            world.pass(Spec::default().stable_after);
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
    let deadline = world.now.saturating_add(Spec::default().kill_timeout);
    let killing = Stopping::Killing { then: Then::Stop, attempt: 1, deadline };
    assert_eq!(world.state(id), State::Stopping(killing));
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
    assert_eq!(world.state(id), world.condemned(id, FailureReason::StartTimeout));
    // What it says on its way out does not matter.
    world.exit(id, Exit::Code(0));
    assert_eq!(world.state(id), State::Failed(FailureReason::StartTimeout));
}

#[test]
fn unhealthy_daemons_are_ended_and_the_count_starts_anew() {
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
        assert_eq!(world.state(id), world.condemned(id, reason));
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
    let deadline = world.now.saturating_add(Spec::default().stop_grace);
    assert_eq!(world.state(web), State::Stopping(Stopping::Asked { deadline, then: Then::Stop }));
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
        (Spec { kill_timeout: Duration::ZERO, ..Spec::default() }, AddError::KillTimeoutIsZero),
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
    assert_eq!((id.generation(), next.generation()), (0, 1));
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
