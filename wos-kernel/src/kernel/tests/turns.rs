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

#[test]
fn when_every_stack_is_taken_the_oldest_open_slice_goes_first() {
    let mut levels = [4; OPEN_SLICES_MAX + 1];
    levels[OPEN_SLICES_MAX] = 0;
    let urgent = u32::try_from(OPEN_SLICES_MAX).unwrap();
    let (mut kernel, _) = kernel_of(&levels);
    // The invariants of so many are looked at in the end: that takes a while.
    while kernel.step(&mut |_| {}).unwrap() {}
    let wake = |kernel: &mut Kernel<ScriptedExecutor>, daemon| {
        let at = Address::of(daemon, 1);
        let message = Command::Messages { at, channel: 0, sequence: 1, attempt: 1, payloads: ONE };
        kernel.command(message, &mut |_| {}).unwrap();
    };
    (0..urgent).for_each(|daemon| wake(&mut kernel, daemon));
    kernel.executor().habit = Some(Act::Preempt);
    for _ in 0..OPEN_SLICES_MAX {
        kernel.step(&mut |_| {}).unwrap();
    }
    assert_eq!(kernel.open.len(), OPEN_SLICES_MAX);
    kernel.executor().turns.clear();
    wake(&mut kernel, urgent);
    // It has no stack to run on, until the oldest has given one back.
    assert!(kernel.step(&mut |_| {}).unwrap() && kernel.step(&mut |_| {}).unwrap());
    kernel.executor().script.push_back(Act::Return);
    assert!(kernel.step(&mut |_| {}).unwrap() && kernel.step(&mut |_| {}).unwrap());
    assert_eq!(kernel.check_invariants(), Ok(()));
    let turns: Vec<u32> = kernel.executor().turns.iter().map(|at| at.daemon).collect();
    assert_eq!(turns, [0, 0, 0, urgent]);
    assert_eq!(kernel.open.len(), OPEN_SLICES_MAX);
}
