//! Whose turn it is: the core's scheduler, and the kernel's bound on open slices.

use duende_core::sched::Level;

use super::*;
use crate::limits::OPEN_SLICES_MAX;

const MS_NS: u64 = 1_000_000;

/// A kernel with a process of each of these levels, started; the address is the index.
fn kernel_of(levels: &[u8]) -> (Kernel<ScriptedExecutor>, Arc<TestMachine>) {
    let machine = Arc::new(TestMachine::default());
    let processes = u32::try_from(levels.len()).unwrap() + 1;
    let mut kernel = Kernel::new(ScriptedExecutor::default(), processes, machine.clone());
    for (&level, daemon) in levels.iter().zip(0..) {
        let at = Address::of(daemon, 1);
        let grants = Grants::STATE.union(Grants::METRIC);
        let open = Command::ChannelOpen { at, name: "lines", granted: true, window: 512 };
        for command in described(at, "i", level, grants).chain([open, Command::Start { at }]) {
            kernel.command(command, &mut |_| {}).unwrap();
        }
    }
    (kernel, machine)
}

fn step(kernel: &mut Kernel<ScriptedExecutor>) -> bool {
    let ran = kernel.step(&mut |_| {}).unwrap();
    assert_eq!(kernel.check_invariants(), Ok(()));
    ran
}

#[test]
fn whoever_is_urgent_and_busy_starves_nobody() {
    let (mut kernel, machine) = kernel_of(&[0, 0, 7]);
    // Each slice asks for another one, and a turn takes its millisecond.
    kernel.executor().habit = Some(Act::Again);
    kernel.executor().takes = Some((machine.clone(), MS_NS));
    let bound_ns = kernel.scheduler.waiting_ns_max(Level::LEAST_URGENT);
    let mut last_ns = 0;
    let mut turns_of_the_last = 0;
    for _ in 0..1_000 {
        assert!(step(&mut kernel));
        let now_ns = machine.now_ns.load(Ordering::Relaxed);
        if kernel.executor().turns.pop().is_some_and(|at| at.daemon == 2) {
            (last_ns, turns_of_the_last) = (now_ns, turns_of_the_last + 1);
        }
        assert!(now_ns - last_ns <= bound_ns, "it waits since {last_ns}, now {now_ns}");
    }
    assert!((10..60).contains(&turns_of_the_last), "{turns_of_the_last} of 1000 turns");
}

#[test]
fn a_turn_is_as_long_as_its_level_allows_and_a_slice_as_its_budget() {
    for (level, ticks) in [(0, 1), (4, 5), (7, 8)] {
        let (mut kernel, machine) = kernel_of(&[level]);
        while step(&mut kernel) {}
        kernel.executor().takes = Some((machine, MS_NS));
        kernel.executor().habit = Some(Act::Compute);
        let at = Address::of(0, 1);
        let message = Command::Messages { at, channel: 0, sequence: 1, attempt: 1, payloads: ONE };
        kernel.command(message, &mut |_| {}).unwrap();
        let mut ended = Vec::new();
        let mut note = |event: Event<'_>| {
            if let Event::Exited { outcome, .. } = event {
                ended.push(outcome);
            }
        };
        // The kernel's own reading of the clock takes time in this test, and none of a slice's.
        while kernel.step(&mut note).unwrap() {}
        assert_eq!(ended, [Outcome::SliceBudget]);
        let turns = &kernel.executor().ticks;
        assert!(turns.iter().all(|turn| *turn == ticks), "{turns:?}");
        let running_ms = u32::try_from(turns.len()).unwrap() * ticks;
        assert!((900..=1_000).contains(&running_ms), "{running_ms} of 1000 ms");
    }
}

#[test]
fn turns_go_round_within_a_level_and_the_urgent_go_first() {
    let (mut kernel, _) = kernel_of(&[4, 4, 1]);
    while step(&mut kernel) {}
    kernel.executor().turns.clear();
    kernel.executor().habit = Some(Act::Again);
    for daemon in 0..3 {
        let at = Address::of(daemon, 1);
        let message = Command::Messages { at, channel: 0, sequence: 1, attempt: 1, payloads: ONE };
        kernel.command(message, &mut |_| {}).unwrap();
    }
    kernel.executor().script.extend([Act::Return, Act::Preempt]);
    for _ in 0..5 {
        assert!(step(&mut kernel));
    }
    let turns: Vec<u32> = kernel.executor().turns.iter().map(|at| at.daemon).collect();
    assert_eq!(turns, [2, 0, 1, 0, 1]);
}

/// Gives a daemon a reason to run.
fn wake(kernel: &mut Kernel<ScriptedExecutor>, daemon: u32) {
    let at = Address::of(daemon, 1);
    let message = Command::Messages { at, channel: 0, sequence: 1, attempt: 1, payloads: ONE };
    kernel.command(message, &mut |_| {}).unwrap();
}

/// A kernel in which 300 daemons of level 7 compute without an end, and beside them there is one of each
/// level that does not; the last of them is of level 7 too.
fn crowd() -> (Kernel<ScriptedExecutor>, Vec<u32>) {
    let levels: Vec<u8> = [7; 300].into_iter().chain(0..=7).collect();
    let (mut kernel, machine) = kernel_of(&levels);
    while kernel.step(&mut |_| {}).unwrap() {}
    kernel.executor().takes = Some((machine, MS_NS));
    kernel.executor().habit = Some(Act::Preempt);
    let others: Vec<u32> = (300..308).collect();
    kernel.executor().spared = others.clone();
    (0..300).for_each(|daemon| wake(&mut kernel, daemon));
    for _ in 0..1_000 {
        kernel.step(&mut |_| {}).unwrap();
    }
    assert_eq!(kernel.check_invariants(), Ok(()));
    kernel.executor().turns.clear();
    (kernel, others)
}

/// The next so many turns.
fn turns(kernel: &mut Kernel<ScriptedExecutor>, count: usize) -> Vec<u32> {
    kernel.executor().turns.clear();
    for _ in 0..count {
        kernel.step(&mut |_| {}).unwrap();
    }
    kernel.executor().turns.iter().map(|at| at.daemon).collect()
}

#[test]
fn a_crowd_that_computes_keeps_nobody_more_urgent_from_a_slice() {
    let (mut kernel, others) = crowd();
    // A place is kept for each of seven levels, and one for health.
    assert_eq!(kernel.open.len(), OPEN_SLICES_MAX - 8);
    assert_eq!(
        turns(&mut kernel, 3),
        [0, 0, 0],
        "the oldest goes on, so that there is a place soon"
    );
    for &daemon in &others[..7] {
        wake(&mut kernel, daemon);
        let level = daemon - 300;
        // It waits no longer than it would for one turn of each level below.
        let before = turns(&mut kernel, 64).iter().position(|turn| *turn == daemon);
        assert!(before.is_some_and(|before| before <= 40), "level {level} waits: {before:?}");
    }
    // Now they compute, too, one after the other: each has its place.
    kernel.executor().spared.clear();
    for (&daemon, more) in others[..7].iter().zip(1..) {
        wake(&mut kernel, daemon);
        assert!(turns(&mut kernel, 64).contains(&daemon));
        assert_eq!(kernel.open.len(), OPEN_SLICES_MAX - 8 + more);
    }
    assert_eq!(kernel.check_invariants(), Ok(()));
}

#[test]
fn a_crowd_that_computes_keeps_nobody_from_saying_how_he_is() {
    let (mut kernel, others) = crowd();
    kernel.executor().spared.clear();
    // Every other level has taken its place as well.
    others[..7].iter().for_each(|daemon| wake(&mut kernel, *daemon));
    turns(&mut kernel, 200);
    assert_eq!(kernel.open.len(), OPEN_SLICES_MAX - 1);
    let bystander = others[7];
    kernel.executor().spared = vec![bystander];
    // One who waits for its slice is asked, and one who has nothing to do.
    for daemon in [bystander, 299] {
        kernel.executor().spared = vec![daemon];
        let mut answered = false;
        let mut note = |event: Event<'_>| {
            answered |= matches!(event, Event::Health { at, .. } if at.daemon == daemon);
        };
        let question = Command::HealthCheck { at: Address::of(daemon, 1), token: 3 };
        kernel.command(question, &mut note).unwrap();
        for _ in 0..16 {
            kernel.step(&mut note).unwrap();
        }
        assert!(answered, "{daemon} has not answered within 16 turns");
        assert_eq!(kernel.check_invariants(), Ok(()));
    }
    assert_eq!(kernel.open.len(), OPEN_SLICES_MAX - 1);
}

#[test]
fn whoever_is_held_back_has_its_turn_and_the_longest_waits_first() {
    let (mut kernel, others) = crowd();
    // The oldest slice is over: who came first of those who wait has its place, and is the youngest.
    kernel.executor().script.push_back(Act::Return);
    assert_eq!(turns(&mut kernel, 1), [0]);
    kernel.executor().script.push_back(Act::Preempt);
    assert!(turns(&mut kernel, 300).contains(&248));
    assert_eq!(kernel.open.back(), Some(&248));
    // One who waits is ended, one is paused: neither keeps a place.
    kernel.command(Command::Kill { at: Address::of(250, 1) }, &mut |_| {}).unwrap();
    kernel.command(Command::Pause { at: Address::of(251, 1) }, &mut |_| {}).unwrap();
    assert_eq!(kernel.check_invariants(), Ok(()));
    kernel.executor().habit = None;
    kernel.executor().entered.clear();
    let mut ran = turns(&mut kernel, 1_000);
    assert!(!kernel.step(&mut |_| {}).unwrap(), "all is done");
    ran.sort_unstable();
    ran.dedup();
    let expected: Vec<u32> = (1..300).filter(|row| !matches!(*row, 250 | 251)).collect();
    assert_eq!(ran, expected);
    assert_eq!((kernel.open.len(), kernel.check_invariants()), (0, Ok(())));
    kernel.command(Command::Resume { at: Address::of(251, 1) }, &mut |_| {}).unwrap();
    assert_eq!(turns(&mut kernel, 1), [251]);
    wake(&mut kernel, others[0]);
    assert_eq!(turns(&mut kernel, 1), [others[0]]);
}

/// The time of each turn is its process's, also of one that only asks for another; it is told once.
#[test]
fn what_each_has_used_is_counted() {
    let (mut kernel, machine) = kernel_of(&[4, 4]);
    while step(&mut kernel) {}
    let usage = |kernel: &mut Kernel<ScriptedExecutor>| {
        let mut told = Vec::new();
        kernel.usage(|usage| {
            told.push((usage.at.daemon, usage.processor_ns / MS_NS, usage.empty_slices));
        });
        told
    };
    usage(&mut kernel);
    assert!(!kernel.has_usage());
    kernel.executor().takes = Some((machine, 2 * MS_NS));
    kernel.executor().habit = Some(Act::Again);
    // The first slice takes the message, those after it change nothing.
    wake(&mut kernel, 1);
    for _ in 0..10 {
        assert!(step(&mut kernel));
    }
    assert!(kernel.has_usage());
    assert_eq!(usage(&mut kernel), [(1, 20, 9)]);
    assert_eq!(usage(&mut kernel), []);
    // An instant that is there already is no wait; a later one is.
    kernel.executor().habit = Some(Act::Until(0));
    assert!(step(&mut kernel) && step(&mut kernel));
    kernel.executor().habit = Some(Act::Until(u64::MAX));
    assert!(step(&mut kernel) && !step(&mut kernel));
    assert_eq!(usage(&mut kernel), [(1, 26, 11)]);
}
