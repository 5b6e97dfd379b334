//! Bad input, and the ends of what can be counted.

use super::*;

#[test]
fn what_cannot_be_kept_is_refused() {
    let mut tested = scheduler(4, 2, Rules::default());
    let capacity = 4;
    assert_eq!(tested.add(4, level(0)), Err(AddError::NoSuchSlot { task: 4, capacity }));
    let none = Err(AddError::NoSuchSlot { task: u32::MAX, capacity });
    assert_eq!(tested.add_deadline(u32::MAX, MS, 10 * MS), none);
    assert_eq!(tested.add(0, level(0)), Ok(()));
    assert_eq!(tested.add(0, level(0)), Err(AddError::AlreadyAdded { task: 0 }));
    assert_eq!(tested.add_deadline(0, 0, 0), Err(AddError::AlreadyAdded { task: 0 }));
    assert_eq!(tested.add_deadline(1, 0, 10 * MS), Err(AddError::BudgetIsZero));
    let short = AddError::PeriodTooShort { period_ns: PERIOD_NS_MIN - 1 };
    assert_eq!(tested.add_deadline(1, 1, PERIOD_NS_MIN - 1), Err(short));
    let over = AddError::BudgetOverPeriod { budget_ns: 10 * MS + 1, period_ns: 10 * MS };
    assert_eq!(tested.add_deadline(1, 10 * MS + 1, 10 * MS), Err(over));
    // Three quarters and a nanosecond.
    let full = AddError::Overcommitted { share_ppm: 750_001, left_ppm: 750_000 };
    assert_eq!(tested.add_deadline(1, 7_500_001, 10 * MS), Err(full));
    assert_eq!(tested.add_deadline(1, 5 * MS, 10 * MS), Ok(()));
    assert_eq!(tested.add_deadline(2, 25 * MS / 10, 10 * MS), Ok(()));
    let full = AddError::Overcommitted { share_ppm: 1, left_ppm: 0 };
    assert_eq!(tested.add_deadline(3, 1, u64::MAX), Err(full));
    assert!(tested.remove(2));
    assert_eq!(tested.add_deadline(2, 25 * MS / 10, u64::MAX), Ok(()));
    assert_eq!(tested.add_deadline(3, 1, u64::MAX), Err(AddError::ServersFull { capacity: 2 }));
    assert_eq!(tested.len(), 3);
    assert_eq!(tested.check_invariants(), Ok(()));
    assert_eq!(Share::from_ppm(1_000_000), None);
    // The shortest period is one.
    assert!(tested.remove(2));
    assert_eq!(tested.add_deadline(2, 1, PERIOD_NS_MIN), Ok(()));
}

#[test]
fn who_is_gone_is_unknown() {
    let mut tested = scheduler(2, 0, Rules::default());
    let gone = Err(UnknownTask(1));
    assert_eq!(tested.ready(1, Instant::ZERO), gone);
    assert_eq!(tested.unready(1), gone);
    assert_eq!(tested.inherit(1, Instant::ZERO, level(0)), gone);
    assert_eq!(tested.disinherit(1), gone);
    assert_eq!(tested.set_base(1, Instant::ZERO, level(0)), gone);
    assert_eq!(tested.view(1), None);
    assert!(!tested.remove(1) && !tested.is_ready(u32::MAX));
    tested.add(1, level(3)).unwrap();
    tested.ready(1, Instant::ZERO).unwrap();
    let pick = tested.pick(Instant::ZERO).unwrap();
    assert!(tested.remove(1));
    // A task of the same number is another one.
    tested.add(1, level(3)).unwrap();
    assert_eq!(tested.ran(1, Instant::ZERO, 0, Outcome::Again), Err(NotPicked(1)));
    assert_eq!(tested.put_back(pick, Instant::ZERO), Err(NotPicked(1)));
    assert_eq!(tested.view(1).unwrap().state, TaskState::Waits);
}

#[test]
fn without_storage_there_is_nothing_to_run() {
    let mut tested = Scheduler::new([], Rules::default());
    assert_eq!(tested.add(0, level(0)), Err(AddError::NoSuchSlot { task: 0, capacity: 0 }));
    assert_eq!(tested.pick(Instant::MAX), None);
    assert_eq!((tested.next_deadline(), tested.is_busy(Instant::MAX)), (None, false));
    let mut tested = Scheduler::new([Slot::EMPTY], Rules::default());
    assert_eq!(tested.add_deadline(0, MS, 10 * MS), Err(AddError::ServersFull { capacity: 0 }));
}

#[test]
fn of_too_many_servers_64_are_used() {
    let mut tested = scheduler(80, 80, Rules::default());
    for task in 0..64 {
        tested.add_deadline(task, MS / 10, 10 * MS).unwrap();
        tested.ready(task, Instant::ZERO).unwrap();
    }
    let refused = tested.add_deadline(64, MS / 10, 10 * MS);
    assert_eq!(refused, Err(AddError::ServersFull { capacity: SERVERS_MAX }));
    for task in 0..64 {
        assert_eq!(tested.pick(Instant::ZERO).map(|pick| pick.task), Some(task));
    }
    assert_eq!(tested.check_invariants(), Ok(()));
}

#[test]
fn a_wake_during_a_turn_is_not_lost() {
    let mut tested = scheduler(2, 1, Rules::default());
    tested.add(0, level(3)).unwrap();
    tested.add_deadline(1, MS, 10 * MS).unwrap();
    for task in [0, 1] {
        tested.ready(task, Instant::ZERO).unwrap();
        let pick = tested.pick(Instant::ZERO).unwrap();
        assert_eq!(pick.task, task);
        tested.ready(task, Instant::ZERO).unwrap();
        tested.ran(task, Instant::ZERO, 0, Outcome::Waits).unwrap();
        assert!(tested.is_ready(task));
        let _ = tested.pick(Instant::ZERO).unwrap();
        tested.ran(task, Instant::ZERO, 0, Outcome::Waits).unwrap();
        assert!(!tested.is_ready(task));
    }
}

#[test]
fn a_sender_runs_at_the_level_that_it_inherits() {
    let mut tested = scheduler(3, 0, Rules::default());
    for (task, base) in [(0, 7), (1, 4), (2, 1)] {
        tested.add(task, level(base)).unwrap();
    }
    tested.ready(0, Instant::ZERO).unwrap();
    tested.ready(1, Instant::ZERO).unwrap();
    // The receiver, task 2, waits for task 0: it is not kept from running by task 1.
    tested.inherit(0, Instant::ZERO, level(1)).unwrap();
    let pick = tested.pick(Instant::ZERO).unwrap();
    assert_eq!((pick.task, pick.class), (0, Class::Level(level(1))));
    assert_eq!(pick.run_for_ns, 2 * MS);
    assert!(!tested.is_outranked(&pick, Instant::ZERO));
    // It inherits as long as it holds the place, and no longer.
    tested.ran(0, Instant::ZERO, MS, Outcome::Again).unwrap();
    assert_eq!(tested.view(0).unwrap().state, TaskState::Ready { level: level(1) });
    let pick = tested.pick(Instant::ZERO).unwrap();
    tested.disinherit(0).unwrap();
    tested.ran(0, Instant::ZERO, MS, Outcome::Again).unwrap();
    assert_eq!(tested.view(0).unwrap().state, TaskState::Ready { level: level(7) });
    // A less urgent level than its own is not inherited.
    assert_eq!(pick.task, 0);
    tested.inherit(1, Instant::ZERO, level(6)).unwrap();
    assert_eq!(tested.pick(Instant::ZERO).unwrap().class, Class::Level(level(4)));
}

#[test]
fn inheritance_delays_nobody() {
    // Ready since 0 ms at level 7, its rank is 35 ms. At level 1 it would be 45 ms from now on.
    let mut tested = scheduler(2, 0, Rules::default());
    tested.add(0, level(7)).unwrap();
    tested.add(1, level(0)).unwrap();
    tested.ready(0, Instant::ZERO).unwrap();
    tested.ready(1, at(38 * MS)).unwrap();
    tested.inherit(0, at(40 * MS), level(1)).unwrap();
    assert_eq!(tested.check_invariants(), Ok(()));
    let pick = tested.pick(at(40 * MS)).unwrap();
    assert_eq!((pick.task, pick.class), (0, Class::Level(level(0))));
    // In time it helps: 5 ms in place of 35 ms.
    tested.ran(0, at(41 * MS), MS, Outcome::Again).unwrap();
    assert_eq!(tested.view(0).unwrap().state, TaskState::Ready { level: level(1) });
}

#[test]
fn without_aging_only_levels_count() {
    for aging_ns in [u64::MAX, u64::MAX / 2] {
        let mut tested = scheduler(7, 0, Rules { aging_ns, ..Rules::default() });
        // The less urgent, the longer it waits.
        for task in 0..7_u8 {
            tested.add(task.into(), level(7 - task)).unwrap();
            tested.ready(task.into(), at(u64::from(task) * MS)).unwrap();
        }
        let order: [_; 7] = core::array::from_fn(|_| tested.pick(at(10 * MS)).unwrap().task);
        assert_eq!(order, [6, 5, 4, 3, 2, 1, 0]);
    }
}

#[test]
fn an_owner_is_told_who_goes_before_a_pick() {
    let mut tested = scheduler(4, 2, Rules::default());
    tested.add(0, level(4)).unwrap();
    tested.add(1, level(3)).unwrap();
    tested.add_deadline(2, MS, 20 * MS).unwrap();
    tested.add_deadline(3, MS, 10 * MS).unwrap();
    tested.ready(0, Instant::ZERO).unwrap();
    let pick = tested.pick(Instant::ZERO).unwrap();
    assert!(!tested.is_outranked(&pick, Instant::ZERO));
    tested.ready(1, Instant::ZERO).unwrap();
    assert!(tested.is_outranked(&pick, Instant::ZERO));
    tested.unready(1).unwrap();
    tested.ready(2, Instant::ZERO).unwrap();
    assert!(tested.is_outranked(&pick, Instant::ZERO));
    let server = tested.pick(Instant::ZERO).unwrap();
    assert_eq!(server.task, 2);
    assert!(!tested.is_outranked(&server, Instant::ZERO));
    tested.ready(3, Instant::ZERO).unwrap();
    assert!(tested.is_outranked(&server, Instant::ZERO));
    // A throttled one goes first again once its budget comes.
    let other = tested.pick(Instant::ZERO).unwrap();
    tested.ran(3, at(MS), other.run_for_ns, Outcome::Again).unwrap();
    assert!(!tested.is_outranked(&server, at(10 * MS - 1)));
    assert!(tested.is_outranked(&server, at(10 * MS)));
    assert!(tested.is_outranked(&pick, at(10 * MS)));
}

#[test]
fn who_is_put_back_goes_first() {
    let mut tested = scheduler(3, 0, Rules::default());
    for task in 0..3 {
        tested.add(task, level(4)).unwrap();
        tested.ready(task, Instant::ZERO).unwrap();
    }
    let pick = tested.pick(Instant::ZERO).unwrap();
    assert_eq!(tested.pick_task(2, Instant::ZERO).unwrap().task, 2);
    assert_eq!(tested.pick_task(2, Instant::ZERO), None);
    tested.put_back(pick, Instant::ZERO).unwrap();
    tested.ran(2, Instant::ZERO, MS, Outcome::Again).unwrap();
    let order: [_; 3] = core::array::from_fn(|_| tested.pick(Instant::ZERO).unwrap().task);
    assert_eq!(order, [0, 1, 2]);
}

#[test]
fn who_is_put_back_has_what_it_inherited_meanwhile() {
    let mut tested = scheduler(1, 0, Rules::default());
    tested.add(0, level(7)).unwrap();
    tested.ready(0, Instant::ZERO).unwrap();
    for (now_ns, from, stands) in [(MS, 3, 3), (2 * MS, 5, 3), (30 * MS, 0, 3)] {
        let pick = tested.pick(at(now_ns)).unwrap();
        tested.inherit(0, at(now_ns), level(from)).unwrap();
        tested.put_back(pick, at(now_ns)).unwrap();
        assert_eq!(tested.view(0).unwrap().state, TaskState::Ready { level: level(stands) });
        assert_eq!(tested.check_invariants(), Ok(()));
    }
}

#[test]
fn those_put_back_in_another_order_have_waited_alike() {
    let mut tested = scheduler(2, 0, Rules::default());
    let picks = [(0, 0), (1, 3 * MS)].map(|(task, now_ns)| {
        tested.add(task, level(4)).unwrap();
        tested.ready(task, at(now_ns)).unwrap();
        tested.pick(at(3 * MS)).unwrap()
    });
    for pick in picks {
        tested.put_back(pick, at(3 * MS)).unwrap();
        assert_eq!(tested.check_invariants(), Ok(()));
    }
    assert_eq!(tested.pick(at(3 * MS)), Some(picks[1]));
}

#[test]
fn a_clock_that_stalls_lets_everybody_run() {
    for now in [Instant::ZERO, Instant::MAX] {
        let mut tested = scheduler(3, 1, Rules::default());
        tested.add_deadline(0, 10 * CHARGE_NS_MIN, 10 * MS).unwrap();
        tested.add(1, level(4)).unwrap();
        tested.add(2, level(4)).unwrap();
        for task in 0..3 {
            tested.ready(task, now).unwrap();
        }
        let mut turns = [0_u32; 3];
        for _ in 0..100 {
            let pick = tested.pick(now).unwrap();
            turns[pick.task as usize] += 1;
            tested.ran(pick.task, now, 0, Outcome::Again).unwrap();
            assert_eq!(tested.check_invariants(), Ok(()));
        }
        // The server has its budget, of which each turn takes a little; at the end of time, none.
        let of_server = if now == Instant::MAX { 0 } else { 10 };
        assert_eq!(turns[0], of_server);
        assert!(turns[1].abs_diff(turns[2]) <= 1, "{turns:?}");
    }
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut tested = scheduler(2, 1, Rules::default());
    tested.add_deadline(0, MS, 10 * MS).unwrap();
    tested.ready(0, at(100 * MS)).unwrap();
    let pick = tested.pick(at(50 * MS)).unwrap();
    assert_eq!(pick.class, Class::Deadline(at(110 * MS)));
    tested.ran(0, at(0), MS, Outcome::Again).unwrap();
    assert_eq!(tested.next_deadline(), Some(at(110 * MS)));
    assert_eq!(tested.pick(at(109 * MS)), None);
    assert_eq!(tested.pick(at(110 * MS)).unwrap().class, Class::Deadline(at(120 * MS)));
}

#[test]
fn what_is_used_in_advance_is_paid_back() {
    let mut tested = scheduler(1, 1, Rules::default());
    tested.add_deadline(0, MS, 10 * MS).unwrap();
    tested.ready(0, Instant::ZERO).unwrap();
    let _ = tested.pick(Instant::ZERO).unwrap();
    // Three and a half budgets in one turn: two periods later it gets half of one.
    tested.ran(0, at(7 * MS / 2), 7 * MS / 2, Outcome::Again).unwrap();
    assert_eq!(tested.next_deadline(), Some(at(30 * MS)));
    let pick = tested.pick(at(30 * MS)).unwrap();
    assert_eq!((pick.run_for_ns, pick.class), (MS / 2, Class::Deadline(at(40 * MS))));
    // For ever, and it has none to the end of time.
    tested.ran(0, at(31 * MS), u64::MAX, Outcome::Again).unwrap();
    assert_eq!((tested.pick(Instant::MAX), tested.next_deadline()), (None, None));
    assert_eq!(tested.check_invariants(), Ok(()));
}

#[test]
fn a_period_to_the_end_of_time_is_no_overflow() {
    let mut tested = scheduler(2, 2, Rules { aging_ns: 0, ..Rules::default() });
    tested.add_deadline(0, u64::MAX / 2, u64::MAX).unwrap();
    tested.add_deadline(1, 1, u64::MAX).unwrap();
    for now_ns in [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
        for task in [0, 1] {
            tested.ready(task, at(now_ns)).unwrap();
        }
        while let Some(pick) = tested.pick(at(now_ns)) {
            tested.ran(pick.task, at(now_ns), u64::MAX / 8, Outcome::Waits).unwrap();
            assert_eq!(tested.check_invariants(), Ok(()));
        }
    }
}
