//! Who waits in vain is told, once for each cause, and starts all the same when the cause is gone.

use super::*;

fn told(world: &World) -> Vec<(DaemonId, DaemonId)> {
    let blocked = |effect: &Effect| match effect {
        Effect::Blocked { id, on } => Some((*id, *on)),
        _ => None,
    };
    world.last.iter().filter_map(blocked).collect()
}

/// One daemon, and one that depends on it.
fn pair(world: &mut World) -> [DaemonId; 2] {
    let web = world.add(Spec { max_retries: Some(0), ..at_once() });
    let depends_on = heapless::Vec::from_slice(&[web]).unwrap();
    [web, world.add(Spec { depends_on, ..Spec::default() })]
}

fn after(depends_on: &[DaemonId]) -> Spec {
    let depends_on = heapless::Vec::from_slice(depends_on).unwrap();
    Spec { depends_on, ..Spec::default() }
}

#[test]
fn who_waits_in_vain_is_told_whichever_came_first() {
    type Spoil = fn(&mut World, DaemonId);
    let stopped: Spoil = |world, web| {
        world.must(Input::Start(web));
        world.must(Input::Stop(web));
        world.exit(web, CRASH);
    };
    let failed: Spoil = |world, web| {
        world.must(Input::Start(web));
        world.exit(web, CRASH);
    };
    let refused: Spoil = |world, web| {
        world.must(Input::Start(web));
        world.exit(web, Exit::Refused);
    };
    let given_up: Spoil = |world, web| {
        world.must(Input::Start(web));
        world.must(Input::Stop(web));
        world.never_ends(web);
    };
    for (number, spoil) in [stopped, failed, refused, given_up].into_iter().enumerate() {
        for waits_first in [true, false] {
            let mut world = World::new(2);
            let [web, sentinel] = pair(&mut world);
            if waits_first {
                world.must(Input::Start(sentinel));
                assert_eq!(told(&world), [(sentinel, web)], "never started");
            }
            spoil(&mut world, web);
            if !waits_first {
                world.must(Input::Start(sentinel));
            }
            assert_eq!(told(&world), [(sentinel, web)], "{number}");
            // Not again for the same.
            world.must(Input::Stop(web));
            world.pass(SECOND);
            assert_eq!(told(&world), [], "{number}");
            assert_eq!(world.supervisor.view(sentinel).unwrap().blocked_by, Some(web));
            // That it is started clears it, and that it comes starts the other.
            let incarnation = world.incarnation(web);
            world.must(Input::Exited { id: web, incarnation, exit: CRASH });
            world.must(Input::Start(web));
            assert_eq!(world.supervisor.view(sentinel).unwrap().blocked_by, None);
            world.ready(web);
            assert!(world.spawned(), "{number}");
        }
    }
}

#[test]
fn a_chain_is_told_of_its_end() {
    let mut world = World::new(4);
    let [web, sentinel] = pair(&mut world);
    let depends_on = heapless::Vec::from_slice(&[sentinel]).unwrap();
    let alert = world.add(Spec { depends_on, ..Spec::default() });
    let depends_on = heapless::Vec::from_slice(&[alert, web]).unwrap();
    let last = world.add(Spec { depends_on, ..Spec::default() });
    for (id, on) in [(last, alert), (alert, sentinel)] {
        world.must(Input::Start(id));
        assert!(told(&world).contains(&(id, on)), "{:?}", world.last);
    }
    world.must(Input::Start(sentinel));
    // The last one depends on the web too, and has heard of it before.
    assert_eq!(told(&world), [(sentinel, web), (alert, web)]);
    assert_eq!(world.supervisor.view(last).unwrap().blocked_by, Some(web));
    // One in the middle that is stopped is the cause for those after it.
    world.must(Input::Stop(alert));
    assert_eq!(told(&world), [(last, alert)]);
    world.must(Input::Start(alert));
    assert_eq!(told(&world), [(alert, web), (last, web)]);
    // One that waits no more waits for nobody in vain.
    world.must(Input::Stop(last));
    assert_eq!(world.supervisor.view(last).unwrap().blocked_by, None);
    world.must(Input::Start(web));
    for id in [web, sentinel, alert] {
        world.ready(id);
    }
    assert_eq!(world.state(alert), State::Running);
}

#[test]
fn who_waits_for_one_that_is_held_still_is_told_whichever_came_first() {
    for waits_first in [true, false] {
        let mut world = World::new(3);
        let web = world.add(Spec::default());
        let slow = world.add(Spec::default());
        let sentinel = world.add(after(&[web, slow]));
        world.run(web);
        world.must(Input::Start(slow));
        if waits_first {
            world.must(Input::Start(sentinel));
            assert_eq!(told(&world), []);
        }
        world.must(Input::Pause(web));
        if !waits_first {
            world.must(Input::Start(sentinel));
        }
        assert_eq!(told(&world), [(sentinel, web)]);
        world.ready(slow);
        assert!(!world.spawned());
        world.must(Input::Resume(web));
        assert_eq!(world.supervisor.view(sentinel).unwrap().blocked_by, None);
        assert!(world.spawned());
    }
}

#[test]
fn a_backoff_or_a_restart_is_not_in_vain() {
    let mut world = World::new(2);
    let web = world.add(Spec::default());
    let depends_on = heapless::Vec::from_slice(&[web]).unwrap();
    let sentinel = world.add(Spec { depends_on, ..Spec::default() });
    world.must(Input::Start(web));
    world.must(Input::Start(sentinel));
    world.exit(web, Exit::Unavailable(Unavailable::Space));
    assert_eq!(told(&world), []);
    world.pass(SECOND);
    world.must(Input::Restart(web));
    world.exit(web, CRASH);
    assert_eq!(told(&world), []);
    assert_eq!(world.supervisor.view(sentinel).unwrap().waits_for, Some(web));
}

#[test]
fn an_operator_starts_what_others_wait_for() {
    for input in [Input::StartWithDependencies, Input::RestartWithDependencies] {
        let mut world = World::new(3);
        let [web, sentinel, alert] = chain(&mut world);
        world.must(Input::Start(alert));
        assert_eq!(told(&world), [(alert, web)]);
        world.must(input(alert));
        assert_eq!(told(&world), []);
        for id in [web, sentinel, alert] {
            world.ready(id);
            assert_eq!(world.state(id), State::Running);
        }
    }
}

#[test]
fn a_restart_takes_what_it_needs_along() {
    let mut world = World::new(3);
    let [web, sentinel, alert] = chain(&mut world);
    for id in [web, sentinel, alert] {
        world.run(id);
    }
    world.must(Input::Stop(web));
    world.exit(web, CRASH);
    world.must(Input::RestartWithDependencies(alert));
    assert!(world.process_of(web).is_some(), "it is started");
    assert!(matches!(world.state(alert), State::Stopping(_)));
    world.exit(alert, CRASH);
    assert_eq!(world.state(alert), State::Starting(Starting::Waiting));
    world.settle();
    for (id, incarnation) in [(web, 2), (sentinel, 1), (alert, 2)] {
        assert_eq!((world.state(id), world.incarnation(id)), (State::Running, incarnation));
    }
}

#[test]
fn what_it_depends_on_itself_is_named_before_what_is_further_away() {
    for is_near_first in [true, false] {
        let mut world = World::new(4);
        let far = world.add(Spec::default());
        let middle = world.add(after(&[far]));
        let near = world.add(Spec::default());
        let depends_on = if is_near_first { [near, middle] } else { [middle, near] };
        let id = world.add(after(&depends_on));
        world.must(Input::Start(middle));
        world.must(Input::Start(id));
        assert_eq!(told(&world), [(id, near)]);
        world.run(near);
        assert_eq!(world.supervisor.view(id).unwrap().blocked_by, Some(far));
    }
}

/// Slots are given anew, so what is depended on may stand after what depends on it.
#[test]
fn the_order_of_slots_does_not_matter() {
    let mut world = World::new(4);
    let gone = [(); 3].map(|()| world.add(Spec::default()));
    let root = world.add(Spec::default());
    for id in gone {
        world.supervisor.remove(id).unwrap();
    }
    // Each of these stands before what it depends on, or after it, and is started before or after.
    let middle = world.add(after(&[root]));
    let last = world.add(after(&[middle]));
    assert!(middle.slot < root.slot && middle.slot < last.slot);
    world.must(Input::Start(last));
    world.must(Input::Start(middle));
    assert_eq!(told(&world), [(middle, root), (last, root)]);
    world.run(root);
    for id in [middle, last] {
        assert_eq!(world.supervisor.view(id).unwrap().blocked_by, None);
    }
}
