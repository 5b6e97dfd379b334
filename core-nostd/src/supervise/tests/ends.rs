//! How processes end: asked first, then killed, and in the end given up; and who may put that off.

use super::*;

const GRACE: Duration = Duration::from_secs(10);
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// A daemon that is condemned for each of the reasons there are, and with what cause it is asked.
fn condemned_daemons() -> Vec<(World, DaemonId, FailureReason, TerminateCause)> {
    let every = ProbeSpec { failure_threshold: 1, ..ProbeSpec::default() };
    let startup = Probes { startup: Some(every), ..Probes::NONE };
    [
        (Spec::default(), FailureReason::StartTimeout, TerminateCause::StartTimeout),
        (
            Spec { probes: startup, ..Spec::default() },
            FailureReason::StartTimeout,
            TerminateCause::StartTimeout,
        ),
        (
            Spec { probes: Probes::liveness(every), ..Spec::default() },
            FailureReason::Unhealthy,
            TerminateCause::Unhealthy,
        ),
        (
            Spec { watchdog: Some(SECOND), ..Spec::default() },
            FailureReason::Watchdog,
            TerminateCause::Watchdog,
        ),
    ]
    .into_iter()
    .map(|(spec, reason, cause)| {
        let mut world = World::new(1);
        let is_ready = spec != Spec::default();
        let id = world.add(spec);
        world.must(Input::Start(id));
        if is_ready {
            world.ready(id);
        }
        while !matches!(world.state(id), State::Stopping(_)) {
            world.now = world.supervisor.next_deadline().unwrap();
            world.must(Input::Tick);
        }
        assert_eq!(world.state(id), world.condemned(id, reason));
        (world, id, reason, cause)
    })
    .collect()
}

fn asked(world: &World, id: DaemonId, grace: Duration, cause: TerminateCause) -> bool {
    let incarnation = world.incarnation(id);
    world.last.contains(&Effect::Terminate { id, incarnation, grace, cause })
}

fn kills(world: &World) -> usize {
    world.last.iter().filter(|effect| matches!(effect, Effect::Kill { .. })).count()
}

#[test]
fn what_is_condemned_is_asked_and_after_its_grace_killed() {
    for (mut world, id, reason, cause) in condemned_daemons() {
        assert!(asked(&world, id, GRACE, cause), "{reason:?}: {:?}", world.last);
        assert_eq!(kills(&world), 0, "{reason:?}");
        world.pass(GRACE - Duration::from_nanos(1));
        assert_eq!(world.last, [], "{reason:?}");
        world.pass(Duration::from_nanos(1));
        assert_eq!(kills(&world), 1, "{reason:?}");
        // It is charged as what it was condemned for.
        world.exit(id, Exit::Code(0));
        let failed =
            |state| matches!(state, State::Backoff { failure, .. } if failure == Some(reason));
        assert!(failed(world.state(id)), "{:?}", world.state(id));
    }
}

#[test]
fn a_stop_of_what_is_condemned_keeps_its_deadline_and_asks_no_second_time() {
    for (mut world, id, reason, _) in condemned_daemons() {
        let deadline = world.now.saturating_add(GRACE);
        world.pass(SECOND);
        for (word, then) in [
            (Input::Restart(id), Then::Start),
            (Input::Stop(id), Then::Stop),
            (Input::StopAll, Then::Stop),
        ] {
            world.must(word);
            assert_eq!(
                world.state(id),
                State::Stopping(Stopping::Asked { deadline, then }),
                "{reason:?} {word:?}"
            );
        }
        // `World` refuses a second Terminate; and the kill comes when it would have.
        world.pass(GRACE - SECOND);
        assert_eq!(kills(&world), 1, "{reason:?}");
        world.exit(id, CRASH);
        assert_eq!(world.state(id), State::Stopped(StopCause::Operator));
    }
}

#[test]
fn a_kill_that_is_not_answered_is_repeated_and_then_the_daemon_is_given_up() {
    for condemn in [false, true] {
        let mut world = World::new(1);
        let id = world.add(Spec { watchdog: condemn.then_some(SECOND), ..Spec::default() });
        world.run(id);
        if condemn {
            world.pass(SECOND);
        } else {
            world.must(Input::Stop(id));
        }
        let incarnation = world.incarnation(id);
        world.pass(GRACE);
        assert_eq!(kills(&world), 1);
        for attempt in 1..=KILL_ATTEMPTS_MAX {
            world.pass(KILL_TIMEOUT - Duration::from_nanos(1));
            assert_eq!(world.last, []);
            world.pass(Duration::from_nanos(1));
            assert_eq!(world.last[0], Effect::KillTimedOut { id, incarnation, attempt });
            assert_eq!(kills(&world), usize::from(attempt < KILL_ATTEMPTS_MAX));
        }
        assert_eq!(world.state(id), State::Failed(FailureReason::Unkillable));
        assert!(world.supervisor.view(id).unwrap().unkillable);
        // Nothing is to be done about it any more, and nothing starts it.
        world.pass(SECOND * 1_000_000);
        assert_eq!(world.last, []);
        let refused = Err(InputError::StillThere(id));
        for start in [
            Input::Start(id),
            Input::StartWithDependencies(id),
            Input::Restart(id),
            Input::RestartWithDependencies(id),
        ] {
            assert_eq!(world.give(0, start), refused, "{start:?}");
            assert_eq!(world.last, [], "{start:?}");
        }
        for word in [Input::Stop(id), Input::Forgive(id), Input::StopAll, Input::KillAll] {
            world.must(word);
            assert_eq!(world.state(id), State::Failed(FailureReason::Unkillable));
        }
        // The end of another incarnation is not the one that counts.
        let exit = CRASH;
        world.must(Input::Exited { id, incarnation: incarnation.wrapping_sub(1), exit });
        assert_eq!(world.give(0, Input::Start(id)), refused);
        world.must(Input::Exited { id, incarnation, exit });
        let view = world.supervisor.view(id).unwrap();
        assert_eq!((view.unkillable, view.last_exit), (false, Some(exit)));
        assert_eq!(view.state, State::Failed(FailureReason::Unkillable));
        world.run(id);
        assert_eq!(world.incarnation(id), incarnation + 1);
    }
}

#[test]
fn what_can_not_be_killed_holds_up_nobody() {
    let mut world = World::new(3);
    let [web, sentinel, alert] = chain(&mut world);
    for id in [web, sentinel, alert] {
        world.run(id);
    }
    world.must(Input::StopAll);
    world.never_ends(alert);
    assert!(matches!(world.state(sentinel), State::Stopping(_)), "the stop of all goes on");
    world.exit(sentinel, CRASH);
    world.exit(web, CRASH);
    // It is removed like any other, and the next in its slot is started.
    let late = Input::Exited { id: alert, incarnation: world.incarnation(alert), exit: CRASH };
    assert_eq!(world.supervisor.remove(alert), Ok(()));
    let next = world.add(Spec::default());
    assert_eq!(next.slot(), alert.slot());
    world.run(next);
    assert_eq!(world.give(0, late), Err(InputError::UnknownDaemon(alert)));
    assert_eq!(world.state(next), State::Running);
}

#[test]
fn a_round_goes_on_without_what_can_not_be_killed() {
    let mut world = World::new(2);
    let spec = GroupSpec { strategy: Strategy::OneForAll, ..GroupSpec::default() };
    let group = Some(world.supervisor.add_group(spec).unwrap());
    let [one, other] = [(); 2].map(|()| world.add(Spec { group, ..Spec::default() }));
    world.run(one);
    world.run(other);
    world.exit(one, CRASH);
    world.never_ends(other);
    world.settle();
    assert_eq!(world.state(one), State::Running);
    assert_eq!(world.state(other), State::Failed(FailureReason::Unkillable));
}

#[test]
fn a_kill_of_all_waits_for_nobody() {
    let mut world = World::new(6);
    let [web, sentinel, alert] = chain(&mut world);
    let [asked, condemned, backoff] =
        [(); 3].map(|()| world.add(Spec { watchdog: Some(SECOND), ..Spec::default() }));
    for id in [web, sentinel, alert, asked, condemned, backoff] {
        world.run(id);
    }
    world.must(Input::Pause(sentinel));
    world.must(Input::Restart(asked));
    world.exit(backoff, Exit::Unavailable(Unavailable::Memory));
    world.must(Input::StopAll);
    world.must(Input::Start(backoff));
    let waits_for_its_turn = world.state(web);
    assert_eq!(waits_for_its_turn, State::Running);
    world.must(Input::KillAll);
    assert_eq!(kills(&world), 6, "{:?}", world.last);
    let deadline = world.now.saturating_add(KILL_TIMEOUT);
    let killing = Stopping::Killing { then: Then::Stop, attempt: 1, deadline };
    for id in [web, sentinel, alert, asked, condemned, backoff] {
        assert_eq!(world.state(id), State::Stopping(killing), "{id}");
    }
    world.pass(SECOND);
    world.must(Input::KillAll);
    assert_eq!(world.last, [], "once is enough, until the kill is late");
    for id in [web, sentinel, alert, asked, condemned, backoff] {
        world.exit(id, CRASH);
        assert_eq!(world.state(id), State::Stopped(StopCause::Operator), "{id}");
    }
}

/// In each phase that has a deadline, a daemon may put it off; and not beyond the bound.
#[test]
fn what_takes_longer_says_so() {
    type Prepare = fn(&mut World, DaemonId);
    let spawning: Prepare = |world, id| world.must(Input::Start(id));
    let initialising: Prepare = |world, id| {
        world.must(Input::Start(id));
        world.must(Input::Spawned { id, incarnation: world.incarnation(id) });
    };
    let reloading: Prepare = |world, id| {
        world.run(id);
        world.must(Input::Reload(id));
    };
    let asked: Prepare = |world, id| {
        world.run(id);
        world.must(Input::Stop(id));
    };
    let condemned: Prepare = |world, id| {
        world.must(Input::Start(id));
        world.pass(Duration::from_secs(30));
    };
    let deadline = |world: &World, id| world.state(id).deadline().unwrap();
    for (phase, prepare) in [
        ("spawning", spawning),
        ("initialising", initialising),
        ("reloading", reloading),
        ("asked", asked),
        ("condemned", condemned),
    ] {
        let mut world = World::new(1);
        let id = world.add(Spec::default());
        prepare(&mut world, id);
        let incarnation = world.incarnation(id);
        let state = world.state(id);
        let (before, since) = (deadline(&world, id), world.supervisor.view(id).unwrap().since);
        world.now = world.now.saturating_add(Duration::from_millis(500));
        for by in [Duration::ZERO, SECOND] {
            world.must(Input::Extend { id, incarnation, by });
            assert_eq!(world.state(id), state, "{phase}: shorter than before");
        }
        world.must(Input::Extend { id, incarnation: incarnation.wrapping_sub(1), by: SECOND * 60 });
        assert_eq!(world.state(id), state, "{phase}: another incarnation");
        world.must(Input::Extend { id, incarnation, by: SECOND * 60 });
        let until = world.now.saturating_add(SECOND * 60);
        assert_eq!(deadline(&world, id), until, "{phase}");
        assert_eq!(world.last, [], "{phase}: it does the same as before");
        assert_eq!(world.supervisor.view(id).unwrap().since, since, "{phase}");
        // What was due is not done then, but later.
        let state = world.state(id);
        world.pass(before.saturating_since(world.now));
        assert_eq!(world.state(id), state, "{phase}");
        world.pass(until.saturating_since(world.now));
        assert_ne!(world.state(id), state, "{phase}");

        let mut world = World::new(1);
        let id = world.add(Spec::default());
        prepare(&mut world, id);
        world.must(Input::Extend { id, incarnation: world.incarnation(id), by: Duration::MAX });
        assert_eq!(deadline(&world, id), world.now.saturating_add(EXTENSION_MAX), "{phase}");
    }
}

#[test]
fn what_runs_is_paused_or_is_killed_has_nothing_to_put_off() {
    let mut world = World::new(1);
    let id = world.add(Spec { watchdog: Some(SECOND * 3), ..Spec::default() });
    world.run(id);
    let incarnation = world.incarnation(id);
    let more = Input::Extend { id, incarnation, by: SECOND * 60 };
    world.must(more);
    assert_eq!(world.last, []);
    world.must(Input::Pause(id));
    world.must(more);
    assert_eq!(world.last, []);
    world.must(Input::Resume(id));
    world.must(Input::KillAll);
    world.must(more);
    assert_eq!(world.last, []);
    world.pass(KILL_TIMEOUT);
    assert_eq!(kills(&world), 1);
}

#[test]
fn a_reload_that_is_refused_is_over() {
    let mut world = World::new(1);
    let id = world.add(Spec::default());
    world.run(id);
    let incarnation = world.incarnation(id);
    world.must(Input::Reload(id));
    world.must(Input::ReloadRefused { id, incarnation: incarnation.wrapping_sub(1) });
    assert!(matches!(world.state(id), State::Reloading { .. }));
    world.must(Input::ReloadRefused { id, incarnation });
    assert_eq!(world.state(id), State::Running);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.last, [], "nothing timed out");
    world.must(Input::Reload(id));
}
