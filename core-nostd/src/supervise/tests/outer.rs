//! What is charged to a daemon and what is not: exits that come early, and what lies outside of it.

use super::*;

const OUTER: [Exit; 2] = [Exit::Unavailable(Unavailable::Program), Exit::Lost];

/// The longest backoff after one of them.
fn longest_ms(exit: Exit) -> u64 {
    if exit == Exit::Lost { 2_000 } else { 30_000 }
}

#[test]
fn what_exits_cleanly_at_once_is_quarantined() {
    for restart in [RestartPolicy::Always, RestartPolicy::UnlessStopped] {
        for is_ready in [true, false] {
            let mut world = World::new(1);
            let spec = Spec { restart, ..at_once() };
            let id = world.add(spec.clone());
            world.must(Input::Start(id));
            for _ in 0..spec.limit.intensity {
                if is_ready {
                    world.ready(id);
                }
                world.exit(id, Exit::Code(0));
                assert!(world.spawned(), "{restart:?}");
            }
            world.exit(id, Exit::Code(0));
            assert_eq!(world.state(id), quarantined(&spec), "{restart:?}");
        }
    }
}

#[test]
fn early_exits_lengthen_the_backoff_and_use_up_no_retries() {
    let mut world = World::new(1);
    let limit = RestartLimit::UNLIMITED;
    let restart = RestartPolicy::Always;
    let id = world.add(Spec { restart, limit, max_retries: Some(1), ..Spec::default() });
    world.run(id);
    for (exit, delay_ms) in
        [(Exit::Code(0), 100), (Exit::Code(0), 200), (CRASH, 400), (Exit::Code(0), 800)]
    {
        world.exit(id, exit);
        let restart_at = world.supervisor.view(id).unwrap().restart_at.unwrap();
        let delay = restart_at.saturating_since(world.now);
        assert_eq!(delay, Duration::from_millis(delay_ms), "{exit:?}");
        world.pass(delay);
        world.ready(id);
    }
    // A stable run forgets both rows.
    world.pass(Spec::default().stable_after);
    world.exit(id, Exit::Code(0));
    let restart_at = world.supervisor.view(id).unwrap().restart_at.unwrap();
    assert_eq!(restart_at.saturating_since(world.now), Duration::from_millis(100));
    world.pass(SECOND);
    world.ready(id);
    world.exit(id, CRASH);
    world.pass(SECOND);
    world.ready(id);
    world.exit(id, CRASH);
    assert_eq!(world.state(id), State::Failed(FailureReason::Signal(9)), "the second in a row");
}

#[test]
fn an_early_clean_exit_does_not_concern_the_group() {
    let mut world = World::new(2);
    let spec = GroupSpec { strategy: Strategy::OneForAll, ..GroupSpec::default() };
    let group = Some(world.supervisor.add_group(spec).unwrap());
    let restart = RestartPolicy::Always;
    let [one, other] = [(); 2].map(|()| world.add(Spec { restart, group, ..Spec::default() }));
    world.run(one);
    world.run(other);
    world.exit(one, Exit::Code(0));
    assert!(matches!(world.state(one), State::Backoff { failure: None, .. }));
    assert_eq!((world.state(other), world.incarnation(other)), (State::Running, 1));
}

#[test]
fn what_lies_outside_is_tried_for_ever_and_later_each_time() {
    for exit in OUTER {
        let failure = exit.failure();
        let mut world = World::new(1);
        let limit = RestartLimit { intensity: 0, ..RestartLimit::default() };
        let id = world.add(Spec { limit, max_retries: Some(0), ..Spec::default() });
        world.must(Input::Start(id));
        let ceilings = [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600];
        for delay_ms in ceilings.into_iter().chain([30_000; 1_000]) {
            let delay_ms = delay_ms.min(longest_ms(exit));
            world.exit(id, exit);
            let until = world.now.saturating_add(Duration::from_millis(delay_ms));
            assert_eq!(world.state(id), State::Backoff { until, failure }, "{exit:?}");
            world.pass(Duration::from_millis(delay_ms));
            assert!(world.spawned(), "{exit:?}");
        }
        // An operator forgets them all.
        for forget in [Input::Forgive(id), Input::Start(id)] {
            world.exit(id, exit);
            world.must(forget);
            // That leaves a backoff that is under way as it is.
            if forget == Input::Forgive(id) {
                world.pass(Duration::from_secs(30));
            }
            world.exit(id, exit);
            let until = world.now.saturating_add(Duration::from_millis(100));
            assert_eq!(world.state(id), State::Backoff { until, failure }, "{exit:?}");
            world.pass(SECOND);
        }
    }
}

/// What takes down what it runs in comes up each time before it does: only a run that lasts is the end of
/// that row.
#[test]
fn a_start_ends_the_row_of_what_prevented_it_and_a_stable_run_that_of_what_was_lost() {
    for exit in OUTER {
        let mut world = World::new(1);
        let id = world.add(Spec::default());
        world.must(Input::Start(id));
        let delay_ms = |world: &mut World| {
            world.exit(id, exit);
            let restart_at = world.supervisor.view(id).unwrap().restart_at.unwrap();
            let delay = restart_at.saturating_since(world.now);
            world.pass(delay);
            u64::try_from(delay.as_millis()).unwrap()
        };
        for expected_ms in [100, 200, 400, 800, 1_600, 3_200] {
            let expected_ms = if exit == Exit::Lost { expected_ms } else { 100 };
            world.ready(id);
            assert_eq!(delay_ms(&mut world), expected_ms.min(longest_ms(exit)), "{exit:?}");
        }
        world.ready(id);
        world.pass(Spec::default().stable_after);
        assert_eq!(delay_ms(&mut world), 100, "{exit:?}");
        // A start that something else prevented ends both rows when it comes of it.
        world.ready(id);
        delay_ms(&mut world);
        world.exit(id, OUTER[0]);
        world.pass(SECOND);
        world.ready(id);
        assert_eq!(delay_ms(&mut world), 100, "{exit:?}");
    }
}

#[test]
fn what_lies_outside_is_not_tried_again_at_once() {
    for exit in OUTER {
        let mut world = World::new(1);
        let id = world.add(at_once());
        world.must(Input::Start(id));
        for entropy in [0, u64::MAX] {
            let incarnation = world.incarnation(id);
            assert_eq!(world.give(entropy, Input::Exited { id, incarnation, exit }), Ok(()));
            let restart_at = world.supervisor.view(id).unwrap().restart_at.unwrap();
            assert!(restart_at.saturating_since(world.now) >= OBSTACLE_DELAY_MIN, "{exit:?}");
            world.pass(OBSTACLE_DELAY_MIN);
            assert!(world.spawned());
        }
    }
}

#[test]
fn the_policy_speaks_of_how_programs_end_and_not_of_what_keeps_them_from_starting() {
    for policy in [
        RestartPolicy::Never,
        RestartPolicy::OnFailure,
        RestartPolicy::Always,
        RestartPolicy::UnlessStopped,
    ] {
        for (exit, restarted) in [(OUTER[0], true), (Exit::Lost, policy != RestartPolicy::Never)] {
            let mut world = World::new(1);
            let id = world.add(Spec { restart: policy, ..Spec::default() });
            world.must(Input::Start(id));
            world.exit(id, exit);
            match world.state(id) {
                State::Backoff { .. } => assert!(restarted, "{policy:?} {exit:?}"),
                state => {
                    assert!(!restarted, "{policy:?} {exit:?}");
                    assert_eq!(state, State::Failed(FailureReason::Lost));
                }
            }
        }
    }
}

#[test]
fn what_lies_outside_does_not_concern_the_group() {
    for exit in OUTER {
        let mut world = World::new(2);
        let limit = RestartLimit { intensity: 0, ..RestartLimit::default() };
        let spec = GroupSpec { strategy: Strategy::OneForAll, limit, parent: None };
        let group = Some(world.supervisor.add_group(spec).unwrap());
        let [one, other] = [(); 2].map(|()| world.add(Spec { group, ..Spec::default() }));
        world.run(one);
        world.run(other);
        world.exit(one, exit);
        assert!(matches!(world.state(one), State::Backoff { .. }), "{exit:?}");
        assert_eq!((world.state(other), world.incarnation(other)), (State::Running, 1));
    }
}

#[test]
fn what_was_condemned_for_the_death_of_its_place_is_not_charged() {
    let mut world = World::new(1);
    let limit = RestartLimit { intensity: 0, ..RestartLimit::default() };
    let id = world.add(Spec { watchdog: Some(SECOND), limit, ..Spec::default() });
    world.run(id);
    world.pass(SECOND);
    assert_eq!(world.state(id), world.condemned(id, FailureReason::Watchdog));
    world.exit(id, Exit::Lost);
    let failure = Some(FailureReason::Lost);
    assert!(matches!(world.state(id), State::Backoff { failure: why, .. } if why == failure));
}
