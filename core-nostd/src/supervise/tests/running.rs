//! What happens to a daemon while it is up: pauses, reloads, its watchdog and its probes.

use super::*;
use crate::probe::ProbeKind;

fn probed() -> Spec {
    Spec { probes: Probes::liveness(ProbeSpec::default()), ..at_once() }
}

#[test]
fn time_does_not_pass_for_what_is_paused() {
    let mut world = World::new(1);
    let watchdog = Some(SECOND * 15);
    let limit = RestartLimit::UNLIMITED;
    let id = world.add(Spec { watchdog, limit, stable_after: SECOND * 20, ..probed() });
    world.run(id);
    let incarnation = world.incarnation(id);
    let began = world.now;
    world.pass(SECOND * 4);
    world.must(Input::Pause(id));
    assert_eq!(world.state(id), State::Paused);
    // Neither the checks nor the watchdog care, however long it takes.
    world.pass(SECOND * 1000);
    assert_eq!(world.last, []);
    world.must(Input::Resume(id));
    assert_eq!(world.last.last(), Some(&Effect::Resume { id, incarnation }));
    let up_since = world.supervisor.view(id).unwrap().up_since;
    assert_eq!(up_since, Some(began.saturating_add(SECOND * 1000)));
    // 6 s of the period and 11 s of the watchdog are left.
    world.pass(Duration::from_millis(5_999));
    assert_eq!(world.last, []);
    world.pass(Duration::from_millis(1));
    assert!(matches!(world.last[..], [Effect::Probe { .. }]), "{:?}", world.last);
    world.answer_probes();
    world.pass(Duration::from_millis(4_999));
    assert_eq!(world.state(id), State::Running);
    world.pass(Duration::from_millis(1));
    let reason = FailureReason::Watchdog;
    assert_eq!(world.state(id), world.condemned(id, reason));
}

#[test]
fn a_pause_does_not_make_a_run_stable() {
    let mut world = World::new(1);
    let spec = Spec { limit: RestartLimit::UNLIMITED, ..Spec::default() };
    let id = world.add(spec);
    world.run(id);
    for delay_ms in [100, 200, 400] {
        world.pass(SECOND * 59);
        world.must(Input::Pause(id));
        world.pass(SECOND * 100);
        world.exit(id, CRASH);
        let restart_at = world.supervisor.view(id).unwrap().restart_at.unwrap();
        assert_eq!(restart_at.saturating_since(world.now), Duration::from_millis(delay_ms));
        world.pass(SECOND);
        world.ready(id);
    }
}

#[test]
fn what_is_paused_goes_on_in_order_to_stop() {
    let mut world = World::new(1);
    let id = world.add(Spec::default());
    for stop in [Input::Stop(id), Input::Restart(id), Input::StopAll] {
        if !world.state(id).is_up() {
            world.run(id);
        }
        let incarnation = world.incarnation(id);
        world.must(Input::Pause(id));
        world.must(Input::Pause(id));
        assert_eq!(world.last, [], "paused twice");
        world.must(stop);
        let position = |wanted: fn(&Effect) -> bool| world.last.iter().position(wanted).unwrap();
        let resumed = position(|effect| matches!(effect, Effect::Resume { .. }));
        let asked = position(|effect| matches!(effect, Effect::Terminate { .. }));
        assert!(resumed < asked, "{stop:?}");
        assert_eq!(world.give(0, Input::Resume(id)), Err(InputError::NotPaused(id)));
        world.must(Input::Exited { id, incarnation, exit: CRASH });
        world.settle();
    }
}

#[test]
fn only_what_runs_is_paused_or_reloaded() {
    let mut world = World::new(1);
    let id = world.add(Spec::default());
    let no = Err(InputError::NotRunning(id));
    for input in [Input::Pause(id), Input::Reload(id)] {
        assert_eq!(world.give(0, input), no);
    }
    world.must(Input::Start(id));
    for input in [Input::Pause(id), Input::Reload(id)] {
        assert_eq!(world.give(0, input), no);
    }
    world.ready(id);
    world.must(Input::Resume(id));
    assert_eq!(world.last, [], "what runs goes on");
    world.must(Input::Reload(id));
    assert_eq!(world.give(0, Input::Reload(id)), Err(InputError::Reloading(id)));
    assert_eq!(world.give(0, Input::Pause(id)), Err(InputError::Reloading(id)));
}

#[test]
fn a_reload_is_done_or_given_up() {
    let mut world = World::new(2);
    let web = world.add(Spec::default());
    let depends_on = heapless::Vec::from_slice(&[web]).unwrap();
    let sentinel = world.add(Spec { depends_on, ..Spec::default() });
    world.run(web);
    let incarnation = world.incarnation(web);
    world.must(Input::Reload(web));
    assert!(world.last.contains(&Effect::Reload { id: web, incarnation }));
    // It serves meanwhile.
    world.must(Input::Start(sentinel));
    assert!(world.spawned());
    world.must(Input::Reloaded { id: web, incarnation: incarnation.wrapping_sub(1) });
    assert!(matches!(world.state(web), State::Reloading { .. }));
    world.must(Input::Reloaded { id: web, incarnation });
    assert_eq!(world.state(web), State::Running);
    world.must(Input::Reloaded { id: web, incarnation });

    world.ready(sentinel);
    world.must(Input::Reload(web));
    world.pass(Duration::from_millis(29_999));
    assert!(matches!(world.state(web), State::Reloading { .. }));
    world.pass(Duration::from_millis(1));
    assert_eq!(world.state(web), State::Running);
    assert_eq!(world.last.last(), Some(&Effect::ReloadTimedOut { id: web, incarnation }));
}

#[test]
fn a_resumed_dependency_starts_what_waited() {
    let mut world = World::new(2);
    let web = world.add(Spec::default());
    let depends_on = heapless::Vec::from_slice(&[web]).unwrap();
    let sentinel = world.add(Spec { depends_on, ..Spec::default() });
    world.run(web);
    world.must(Input::Pause(web));
    world.must(Input::Start(sentinel));
    assert_eq!(world.supervisor.view(sentinel).unwrap().waits_for, Some(web));
    world.must(Input::Resume(web));
    assert!(world.spawned());
}

#[test]
fn a_watchdog_wants_signs_of_life() {
    let mut world = World::new(1);
    let id = world.add(Spec { watchdog: Some(SECOND * 3), ..at_once() });
    world.run(id);
    let incarnation = world.incarnation(id);
    for _ in 0..10 {
        world.pass(SECOND * 2);
        world.must(Input::Alive { id, incarnation });
    }
    world.must(Input::Alive { id, incarnation: incarnation.wrapping_sub(1) });
    world.pass(SECOND * 3);
    assert_eq!(world.state(id), world.condemned(id, FailureReason::Watchdog));
    world.exit(id, CRASH);
    // The next incarnation has its whole time again, from when it is ready.
    world.pass(SECOND * 20);
    world.ready(id);
    world.pass(Duration::from_millis(2_999));
    assert_eq!(world.state(id), State::Running);
}

#[test]
fn a_startup_probe_gates_running_and_the_other_probes() {
    let mut world = World::new(1);
    let every =
        |period: Duration| ProbeSpec { initial_delay: period, period, ..Default::default() };
    let probes = Probes {
        startup: Some(ProbeSpec { failure_threshold: 2, ..every(SECOND) }),
        liveness: Some(every(SECOND * 5)),
        readiness: None,
    };
    let id = world.add(Spec { probes, ..at_once() });
    let asked = |world: &World| match world.last[..] {
        [Effect::Probe { kind, token, .. }] => (kind, token),
        ref other => panic!("{other:?}"),
    };
    let answer = |world: &mut World, token, healthy| {
        let incarnation = world.incarnation(id);
        world.must(Input::Probed { id, incarnation, token, healthy });
    };
    for healthy in [false, true] {
        if !world.state(id).has_process() {
            world.must(Input::Start(id));
        }
        world.ready(id);
        world.ready(id);
        let initialises = matches!(world.state(id), State::Starting(Starting::Initialising { .. }));
        assert!(initialises, "{:?}", world.state(id));
        for token in [1, 2] {
            world.pass(SECOND);
            assert_eq!(asked(&world), (ProbeKind::Startup, token));
            answer(&mut world, token, healthy && token == 2);
        }
        if !healthy {
            let reason = FailureReason::StartTimeout;
            assert_eq!(world.state(id), world.condemned(id, reason));
            world.exit(id, CRASH);
        }
    }
    assert_eq!(world.state(id), State::Running);
    // Only now does liveness begin, with its own first delay.
    world.pass(SECOND * 5);
    assert_eq!(asked(&world), (ProbeKind::Liveness, 3));
    // The start's deadline is over.
    answer(&mut world, 3, true);
    world.pass(SECOND * 60);
    assert_eq!(world.state(id), State::Running);
}

#[test]
fn readiness_gates_dependents_and_kills_nobody() {
    let mut world = World::new(2);
    let readiness = Some(ProbeSpec { success_threshold: 2, ..ProbeSpec::KUBERNETES });
    let web = world.add(Spec { probes: Probes { readiness, ..Probes::NONE }, ..Spec::default() });
    let depends_on = heapless::Vec::from_slice(&[web]).unwrap();
    let sentinel = world.add(Spec { depends_on, ..Spec::default() });
    world.run(web);
    world.must(Input::Start(sentinel));
    let incarnation = world.incarnation(web);
    let is_ready = |world: &World| world.supervisor.view(web).unwrap().is_ready;
    world.must(Input::Tick);
    for (token, healthy, ready) in [
        (1, true, false),
        (2, true, true),
        (3, false, true),
        (4, false, true),
        (5, false, false),
        (6, true, false),
    ] {
        if token > 1 {
            world.pass(SECOND * 10);
        }
        let waits = world.supervisor.view(sentinel).unwrap().waits_for;
        assert_eq!(waits, (token < 3).then_some(web));
        world.must(Input::Probed { id: web, incarnation, token, healthy });
        assert_eq!(is_ready(&world), ready, "after answer {token}");
        assert_eq!(world.state(web), State::Running);
    }
    assert!(world.process_of(sentinel).is_some());
}

#[test]
fn an_answer_that_is_handed_over_before_the_tick_counts() {
    for is_told_first in [true, false] {
        let mut world = World::new(1);
        let every = ProbeSpec { failure_threshold: 1, ..ProbeSpec::default() };
        let id = world.add(Spec { probes: Probes::liveness(every), ..Spec::default() });
        world.run(id);
        world.pass(every.initial_delay);
        world.now = world.now.saturating_add(every.timeout);
        if !is_told_first {
            world.must(Input::Tick);
        }
        let incarnation = world.incarnation(id);
        world.must(Input::Probed { id, incarnation, token: 1, healthy: true });
        world.must(Input::Tick);
        assert_eq!(world.state(id) == State::Running, is_told_first);
    }
}
