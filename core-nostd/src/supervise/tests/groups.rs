//! Groups against a naive model of OTP's supervisors.

use super::*;
use crate::lifecycle::FailureReason::Quarantined;

const FOREVER: Duration = Duration::from_secs(1_000_000);

/// A tree as a child of OTP's `supervisor`: a worker with its number, or a supervisor with its
/// strategy, intensity and children.
#[derive(Clone, Debug)]
enum Tree {
    Worker,
    Group(Strategy, u32, Vec<Tree>),
}

/// Adds the tree's groups and daemons in the order in which OTP would start them, and returns a
/// model of the whole.
fn build(world: &mut World, tree: &Tree, parent: Option<GroupId>) -> Model {
    match tree {
        Tree::Worker => {
            let limit = RestartLimit::UNLIMITED;
            let id = world.add(Spec { group: parent, limit, ..at_once() });
            world.run(id);
            Model::Worker(id)
        }
        Tree::Group(strategy, intensity, children) => {
            let limit =
                RestartLimit { intensity: *intensity, period: FOREVER, ..Default::default() };
            let spec = GroupSpec { strategy: *strategy, limit, parent };
            let id = world.supervisor.add_group(spec).unwrap();
            let children = children.iter().map(|child| build(world, child, Some(id))).collect();
            Model::Group { strategy: *strategy, intensity: *intensity, restarts: 0, children }
        }
    }
}

#[derive(Clone, Debug)]
enum Model {
    Worker(DaemonId),
    Group { strategy: Strategy, intensity: u32, restarts: u32, children: Vec<Model> },
}

/// What came of a failure somewhere below.
enum Outcome {
    /// It did not happen here.
    Elsewhere,
    /// It was answered below; these were restarted.
    Restarted(Vec<DaemonId>),
    /// This child has failed.
    Failed,
}

impl Model {
    fn workers(&self) -> Vec<DaemonId> {
        match self {
            Self::Worker(id) => vec![*id],
            Self::Group { children, .. } => children.iter().flat_map(Self::workers).collect(),
        }
    }

    fn counts_anew(&mut self) {
        if let Self::Group { restarts, children, .. } = self {
            *restarts = 0;
            children.iter_mut().for_each(Self::counts_anew);
        }
    }

    /// `supervisor:restart_child`, as OTP has it.
    fn fails(&mut self, failed: DaemonId) -> Outcome {
        let (strategy, intensity, restarts, children) = match self {
            Self::Worker(id) if *id == failed => return Outcome::Failed,
            Self::Worker(_) => return Outcome::Elsewhere,
            Self::Group { strategy, intensity, restarts, children } => {
                (*strategy, *intensity, restarts, children)
            }
        };
        for place in 0..children.len() {
            match children[place].fails(failed) {
                Outcome::Elsewhere => continue,
                Outcome::Failed => {}
                restarted @ Outcome::Restarted(_) => return restarted,
            }
            *restarts += 1;
            if *restarts > intensity {
                return Outcome::Failed;
            }
            let taken = match strategy {
                Strategy::OneForOne => &mut children[place..=place],
                Strategy::OneForAll => &mut children[..],
                Strategy::RestForOne => &mut children[place..],
            };
            taken.iter_mut().for_each(Self::counts_anew);
            return Outcome::Restarted(taken.iter().flat_map(Self::workers).collect());
        }
        Outcome::Elsewhere
    }
}

fn trees() -> impl Generator<Value = Tree> {
    let strategy = || {
        prop_oneof![
            Just(Strategy::OneForOne),
            Just(Strategy::OneForAll),
            Just(Strategy::RestForOne),
        ]
    };
    let workers = || proptest::collection::vec(Just(Tree::Worker), 1..3);
    let leaf = (strategy(), 0..4_u32, workers())
        .prop_map(|(strategy, intensity, children)| Tree::Group(strategy, intensity, children));
    (strategy(), 0..4_u32, workers(), leaf.clone(), leaf, workers(), any::<bool>()).prop_map(
        |(strategy, intensity, first, left, right, last, nested)| {
            let inner = if nested {
                vec![Tree::Group(Strategy::RestForOne, 2, vec![left, Tree::Worker, right])]
            } else {
                vec![left, right]
            };
            Tree::Group(strategy, intensity, [first, inner, last].concat())
        },
    )
}

proptest! {
    /// Who is restarted, and when it is too much, is as in OTP.
    #[test]
    fn who_falls_together_is_as_in_otp(
        tree in trees(),
        crashes in proptest::collection::vec(any::<Index>(), 1..12),
    ) {
        let mut world = World::new(12);
        let mut model = build(&mut world, &tree, None);
        let workers = model.workers();
        for crash in crashes {
            let failed = *crash.get(&workers);
            let before: Vec<u32> = workers.iter().map(|id| world.incarnation(*id)).collect();
            let outcome = model.fails(failed);
            world.exit(failed, CRASH);
            world.settle();
            match outcome {
                Outcome::Restarted(restarted) => {
                    for (id, before) in workers.iter().zip(before) {
                        let again = u32::from(restarted.contains(id));
                        prop_assert_eq!(world.state(*id), State::Running);
                        prop_assert_eq!(world.incarnation(*id), before + again, "{}", id);
                    }
                }
                Outcome::Failed => {
                    for id in workers {
                        let state = world.state(id);
                        if id == failed {
                            let quarantined = matches!(state, State::Failed(Quarantined { .. }));
                            prop_assert!(quarantined, "{:?}", state);
                        } else {
                            prop_assert_eq!(state, State::Stopped(StopCause::GaveUp));
                        }
                    }
                    return Ok(());
                }
                Outcome::Elsewhere => prop_assert!(false, "{} is a stranger", failed),
            }
        }
    }
}

/// A group of three daemons, each of which depends on the one before.
fn chain_in(world: &mut World, strategy: Strategy) -> [DaemonId; 3] {
    let limit = RestartLimit { intensity: 5, period: SECOND, ..Default::default() };
    let spec = GroupSpec { strategy, limit, parent: None };
    let group = Some(world.supervisor.add_group(spec).unwrap());
    let mut before = heapless::Vec::new();
    let ids = [(); 3].map(|()| {
        let depends_on = before.clone();
        let id = world.add(Spec { group, depends_on, ..Spec::default() });
        before = heapless::Vec::from_slice(&[id]).unwrap();
        id
    });
    for id in ids {
        world.run(id);
    }
    ids
}

#[test]
fn siblings_stop_in_reverse_and_start_in_order_after_the_backoff() {
    let mut world = World::new(3);
    let [web, sentinel, alert] = chain_in(&mut world, Strategy::OneForAll);
    world.exit(web, CRASH);
    assert!(matches!(world.state(web), State::Backoff { .. }));
    // Dependents first.
    assert_eq!(world.state(sentinel), State::Running);
    assert!(matches!(world.state(alert), State::Stopping(_)));
    world.exit(alert, CRASH);
    assert!(matches!(world.state(sentinel), State::Stopping(_)));
    // The backoff is over, but a process of the old round is still there.
    world.pass(SECOND);
    assert_eq!(world.state(web), State::Starting(Starting::Waiting));
    assert_eq!(world.supervisor.view(web).unwrap().waits_for, Some(sentinel));
    world.exit(sentinel, CRASH);
    assert!(matches!(world.state(web), State::Starting(Starting::Spawning { .. })));
    assert_eq!(world.supervisor.view(sentinel).unwrap().waits_for, Some(web));
    for id in [web, sentinel, alert] {
        world.ready(id);
        assert_eq!(world.state(id), State::Running);
    }
    // Only the one that failed is charged.
    let restarts = [web, sentinel, alert].map(|id| world.supervisor.view(id).unwrap().restarts);
    assert_eq!(restarts, [1, 0, 0]);
}

#[test]
fn what_an_operator_stopped_stays_stopped() {
    let mut world = World::new(3);
    let [web, sentinel, alert] = chain_in(&mut world, Strategy::OneForAll);
    world.must(Input::Stop(sentinel));
    world.exit(sentinel, CRASH);
    world.exit(web, CRASH);
    world.must(Input::Stop(alert));
    world.settle();
    assert_eq!(world.state(web), State::Running);
    for id in [sentinel, alert] {
        assert_eq!(world.state(id), State::Stopped(StopCause::Operator));
    }
}

#[test]
fn only_failures_concern_the_group() {
    let mut world = World::new(3);
    let [web, sentinel, alert] = chain_in(&mut world, Strategy::OneForAll);
    world.exit(alert, Exit::Code(0));
    assert_eq!(world.state(alert), State::Stopped(StopCause::Finished));
    world.exit(sentinel, Exit::Refused);
    assert_eq!(world.state(sentinel), State::Failed(FailureReason::Refused));
    assert_eq!((world.state(web), world.incarnation(web)), (State::Running, 1));
}

#[test]
fn a_stop_of_all_ends_a_round() {
    let mut world = World::new(3);
    let ids = chain_in(&mut world, Strategy::OneForAll);
    world.exit(ids[0], CRASH);
    world.must(Input::StopAll);
    world.settle();
    for id in ids {
        assert_eq!(world.state(id), State::Stopped(StopCause::Operator));
    }
}

#[test]
fn what_kills_itself_before_its_turn_comes_back_with_the_others() {
    let mut world = World::new(3);
    let [web, sentinel, alert] = chain_in(&mut world, Strategy::OneForAll);
    world.exit(alert, CRASH);
    // `sentinel` waits for nobody and is asked at once; `web` waits for it, and dies.
    assert!(matches!(world.state(sentinel), State::Stopping(_)));
    world.exit(web, CRASH);
    world.settle();
    for id in [web, sentinel, alert] {
        assert_eq!((world.state(id), world.incarnation(id)), (State::Running, 2));
    }
}

#[test]
fn who_is_removed_from_a_round_holds_nobody() {
    let mut world = World::new(3);
    let [web, sentinel, alert] = chain_in(&mut world, Strategy::OneForAll);
    world.exit(alert, CRASH);
    world.exit(sentinel, CRASH);
    world.exit(web, CRASH);
    // All have ended, and the other two wait for the backoff of this one.
    assert!(matches!(world.state(alert), State::Backoff { .. }));
    assert_eq!(world.state(web), State::Starting(Starting::Waiting));
    assert_eq!(world.supervisor.remove(alert), Ok(()));
    assert_eq!(world.supervisor.check_invariants(), Ok(()));
    // Nothing else may happen for a long time: the supervisor asks for a tick itself.
    assert!(world.supervisor.next_deadline().is_some_and(|at| at <= world.now));
    world.must(Input::Tick);
    assert!(matches!(world.state(web), State::Starting(Starting::Spawning { .. })));
}

#[test]
fn groups_are_kept_as_long_as_they_have_children() {
    let mut supervisor = Supervisor::with_groups([Slot::EMPTY], [const { GroupSlot::EMPTY }; 2]);
    let top = supervisor.add_group(GroupSpec::default()).unwrap();
    let spec = GroupSpec { parent: Some(top), ..GroupSpec::default() };
    let below = supervisor.add_group(spec).unwrap();
    let full = AddGroupError::Full { capacity: 2 };
    assert_eq!(supervisor.add_group(spec), Err(full));
    let daemon = supervisor.add(Spec { group: Some(below), ..Spec::default() }).unwrap();
    for id in [top, below] {
        assert_eq!(supervisor.remove_group(id), Err(RemoveGroupError::HasChildren(id)));
    }
    assert_eq!(supervisor.remove(daemon), Ok(()));
    assert_eq!(supervisor.remove_group(below), Ok(()));
    assert_eq!(supervisor.remove_group(below), Err(RemoveGroupError::UnknownGroup(below)));
    let again = supervisor.add_group(spec).unwrap();
    let stale = Spec { group: Some(below), ..Spec::default() };
    assert_eq!(supervisor.add(stale), Err(AddError::UnknownGroup(below)));
    let spec = GroupSpec { parent: Some(below), ..GroupSpec::default() };
    assert_eq!(supervisor.add_group(spec), Err(AddGroupError::UnknownParent(below)));
    assert_ne!(again, below);
    let limit = RestartLimit { intensity: 33, ..RestartLimit::default() };
    assert!(matches!(
        supervisor.add_group(GroupSpec { limit, ..GroupSpec::default() }),
        Err(AddGroupError::Limit(_))
    ));
    let mut without = Supervisor::new([Slot::EMPTY]);
    let full = AddGroupError::Full { capacity: 0 };
    assert_eq!(without.add_group(GroupSpec::default()), Err(full));
}
