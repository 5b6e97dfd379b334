//! The deadline class: at most [`SERVERS_MAX`] tasks, each with a constant-bandwidth server, the
//! earliest deadline first.
//!
//! Rules:
//! 1. A server is admitted if the shares of all, each rounded up, stay within the class's share. So
//!    every deadline is kept as long as each task asks for no more than its budget per period and
//!    nothing else holds the processor (Liu and Layland, 1973), and the levels keep the rest.
//! 2. Of the servers that are ready and have budget the one with the earliest deadline goes first; of
//!    two the one with the lower index.
//! 3. A server without budget waits for its next one; the time it comes is known.
//! 4. The servers that are ready are looked at, and never the tasks: what that costs is bounded by
//!    [`SERVERS_MAX`].

use super::server::{Account, Funds, NEVER_NS};
use super::{AddError, Share};
use crate::epitaph::{Epitaph, invariant};

/// Most servers in a deadline class.
pub const SERVERS_MAX: usize = 64;

/// Shortest period of a server, in nanoseconds: whoever runs is interrupted once per period. (Linux'
/// shortest is the same.)
pub const PERIOD_NS_MIN: u64 = 100_000;

/// A place for one server in a scheduler's storage.
///
/// A server with the budget `Q` and the period `P` takes, in any time `w` and however its task
/// behaves, no more than `(Q / P)·w + 2·Q·(1 − Q / P)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Server(Option<Reservation>);

impl Server {
    /// A place without a server.
    pub const EMPTY: Self = Self(None);
}

/// What was admitted for a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reservation {
    pub(super) task: u32,
    share_ppm: u32,
    pub(super) account: Account,
}

/// A server that is to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Earliest {
    pub(super) index: u8,
    pub(super) task: u32,
    pub(super) deadline_ns: u64,
    pub(super) left_ns: u64,
}

/// The servers of a scheduler.
#[derive(Clone, Debug)]
pub(super) struct Servers<D> {
    storage: D,
    /// Bit n is set if server n is ready and has budget.
    ready: u64,
    /// Bit n is set if server n is ready and has none.
    throttled: u64,
    /// When the first of the throttled ones gets its budget.
    refill_ns: u64,
    share_max: Share,
    admitted_ppm: u32,
}

impl<D: AsRef<[Server]> + AsMut<[Server]>> Servers<D> {
    pub(super) fn new(mut storage: D, share_max: Share) -> Self {
        storage.as_mut().fill(Server::EMPTY);
        Self { storage, ready: 0, throttled: 0, refill_ns: NEVER_NS, share_max, admitted_ppm: 0 }
    }

    /// Whether any is ready, with or without budget.
    #[inline]
    pub(super) const fn is_any_ready(&self) -> bool {
        self.ready | self.throttled != 0
    }

    /// When the first of the throttled ones gets its budget; [`NEVER_NS`] if there is none.
    #[inline]
    pub(super) const fn refill_ns(&self) -> u64 {
        self.refill_ns
    }

    /// Whether one of the throttled ones gets its budget at `now_ns`, if it is asked for it.
    pub(super) const fn is_refill_due(&self, now_ns: u64) -> bool {
        self.refill_ns <= now_ns && self.refill_ns != NEVER_NS
    }

    /// The share that is taken.
    pub(super) fn admitted(&self) -> Share {
        // Admission keeps it within a share.
        Share::from_ppm(self.admitted_ppm).unwrap_or(self.share_max)
    }

    /// The budgets of all servers, for one period each, in nanoseconds.
    pub(super) fn budgets_ns(&self) -> u64 {
        let reservations = self.storage.as_ref().iter().filter_map(|server| server.0);
        reservations.fold(0, |sum, reservation| sum.saturating_add(reservation.account.budget_ns))
    }

    pub(super) fn get(&self, index: u8) -> Option<&Reservation> {
        self.storage.as_ref().get(usize::from(index))?.0.as_ref()
    }

    /// Gives a task a server. Its index.
    pub(super) fn admit(
        &mut self,
        task: u32,
        budget_ns: u64,
        period_ns: u64,
    ) -> Result<u8, AddError> {
        if budget_ns == 0 {
            return Err(AddError::BudgetIsZero);
        }
        if period_ns < PERIOD_NS_MIN {
            return Err(AddError::PeriodTooShort { period_ns });
        }
        if budget_ns > period_ns {
            return Err(AddError::BudgetOverPeriod { budget_ns, period_ns });
        }
        let parts = u128::from(budget_ns) * u128::from(Share::WHOLE_PPM);
        let share_ppm = u32::try_from(parts.div_ceil(u128::from(period_ns))).unwrap_or(u32::MAX);
        let left_ppm = self.share_max.ppm().saturating_sub(self.admitted_ppm);
        if share_ppm > left_ppm {
            return Err(AddError::Overcommitted { share_ppm, left_ppm });
        }
        let servers = self.storage.as_mut();
        let capacity = servers.len().min(SERVERS_MAX);
        let mut places = servers.iter_mut().take(SERVERS_MAX).zip(0_u8..);
        let Some((place, index)) = places.find(|(place, _)| place.0.is_none()) else {
            return Err(AddError::ServersFull { capacity });
        };
        place.0 =
            Some(Reservation { task, share_ppm, account: Account::new(budget_ns, period_ns) });
        self.admitted_ppm = self.admitted_ppm.saturating_add(share_ppm);
        Ok(index)
    }

    /// Takes the server of a task that is gone.
    pub(super) fn release(&mut self, index: u8) {
        self.unready(index);
        if let Some(server) = self.storage.as_mut().get_mut(usize::from(index))
            && let Some(reservation) = server.0.take()
        {
            self.admitted_ppm = self.admitted_ppm.saturating_sub(reservation.share_ppm);
        }
    }

    /// The server gets ready after a wait.
    pub(super) fn wake(&mut self, index: u8, now_ns: u64) {
        if let Some(account) = self.account_mut(index) {
            account.wake(now_ns);
            self.queue(index);
        }
    }

    /// The server has run.
    pub(super) fn charge(&mut self, index: u8, now_ns: u64, used_ns: u64) {
        if let Some(account) = self.account_mut(index) {
            account.charge(now_ns, used_ns);
        }
    }

    /// The server stays ready after it has run, or was not run after all.
    pub(super) fn requeue(&mut self, index: u8, now_ns: u64) {
        if let Some(account) = self.account_mut(index) {
            account.refill(now_ns);
            self.queue(index);
        }
    }

    /// The server is ready no more: it was picked, or waits for something else.
    pub(super) fn unready(&mut self, index: u8) {
        let bit = 1_u64.checked_shl(u32::from(index)).unwrap_or(0);
        self.ready &= !bit;
        if self.throttled & bit != 0 {
            self.throttled &= !bit;
            self.find_refill();
        }
    }

    /// Gives their budgets to the throttled servers whose time has come.
    pub(super) fn refill(&mut self, now_ns: u64) {
        if !self.is_refill_due(now_ns) {
            return;
        }
        let mut refill_ns = NEVER_NS;
        for index in bits(self.throttled) {
            let Some(account) = self.account_mut(index) else { continue };
            account.refill(now_ns);
            match account.funds {
                Funds::Left { .. } => {
                    self.throttled &= !(1 << index);
                    self.ready |= 1 << index;
                }
                Funds::Spent { until_ns, .. } => refill_ns = refill_ns.min(until_ns),
            }
        }
        self.refill_ns = refill_ns;
    }

    /// The ready server that goes first.
    pub(super) fn earliest(&self) -> Option<Earliest> {
        bits(self.ready).filter_map(|index| self.funded(index)).min_by_key(|one| one.deadline_ns)
    }

    /// The server, if it is ready and has budget.
    pub(super) fn ready_one(&self, index: u8) -> Option<Earliest> {
        let bit = 1_u64.checked_shl(u32::from(index)).unwrap_or(0);
        if self.ready & bit == 0 { None } else { self.funded(index) }
    }

    /// Whether the server is in one of the sets, and in which: (ready, throttled).
    pub(super) fn sets(&self, index: u8) -> (bool, bool) {
        let bit = 1_u64.checked_shl(u32::from(index)).unwrap_or(0);
        (self.ready & bit != 0, self.throttled & bit != 0)
    }

    /// What holds between any two calls, but for what the tasks' slots say.
    pub(super) fn check_invariants(&self, now_ns: u64) -> Result<(), Epitaph> {
        let mut admitted_ppm = 0_u32;
        let mut refill_ns = NEVER_NS;
        let mut known = 0_u64;
        for (server, index) in self.storage.as_ref().iter().take(SERVERS_MAX).zip(0_u8..) {
            let Some(Reservation { share_ppm, account, .. }) = &server.0 else { continue };
            known |= 1 << index;
            admitted_ppm = admitted_ppm.saturating_add(*share_ppm);
            let (budget_ns, period_ns) = (account.budget_ns, account.period_ns);
            invariant!(budget_ns <= period_ns, "server {index}: budget over period");
            let (ready, throttled) = self.sets(index);
            invariant!(!(ready && throttled), "server {index}: ready and throttled");
            match account.funds {
                Funds::Left { left_ns, deadline_ns } => {
                    let fits = 0 < left_ns && left_ns <= budget_ns;
                    invariant!(fits, "server {index}: {left_ns} of {budget_ns} ns left");
                    let latest_ns = now_ns.saturating_add(period_ns);
                    invariant!(deadline_ns <= latest_ns, "server {index}: deadline too far");
                    invariant!(!throttled, "server {index}: throttled with budget");
                }
                Funds::Spent { until_ns, refill_ns: next_ns } => {
                    let fits = 0 < next_ns && next_ns <= budget_ns;
                    invariant!(fits, "server {index}: refill of {next_ns}");
                    invariant!(!ready, "server {index}: ready without budget");
                    refill_ns = if throttled { refill_ns.min(until_ns) } else { refill_ns };
                }
            }
        }
        let stray = (self.ready | self.throttled) & !known;
        invariant!(stray == 0, "no servers {stray:x}");
        let wrong_ppm = self.admitted_ppm;
        invariant!(admitted_ppm == wrong_ppm, "{admitted_ppm} ppm admitted, {wrong_ppm} counted");
        invariant!(admitted_ppm <= self.share_max.ppm(), "{admitted_ppm} ppm are too many");
        invariant!(refill_ns == self.refill_ns, "the next refill is wrong");
        Ok(())
    }

    fn funded(&self, index: u8) -> Option<Earliest> {
        let Reservation { task, account, .. } = *self.get(index)?;
        match account.funds {
            Funds::Left { left_ns, deadline_ns } => {
                Some(Earliest { index, task, deadline_ns, left_ns })
            }
            Funds::Spent { .. } => None,
        }
    }

    fn account_mut(&mut self, index: u8) -> Option<&mut Account> {
        let server = self.storage.as_mut().get_mut(usize::from(index))?;
        server.0.as_mut().map(|reservation| &mut reservation.account)
    }

    /// Puts a server into the set in which it belongs.
    fn queue(&mut self, index: u8) {
        let bit = 1_u64.checked_shl(u32::from(index)).unwrap_or(0);
        match self.get(index).map(|reservation| reservation.account.funds) {
            Some(Funds::Left { .. }) => self.ready |= bit,
            Some(Funds::Spent { until_ns, .. }) => {
                self.throttled |= bit;
                self.refill_ns = self.refill_ns.min(until_ns);
            }
            None => {}
        }
    }

    fn find_refill(&mut self) {
        let refills =
            bits(self.throttled).filter_map(|index| match self.get(index)?.account.funds {
                Funds::Spent { until_ns, .. } => Some(until_ns),
                Funds::Left { .. } => None,
            });
        self.refill_ns = refills.min().unwrap_or(NEVER_NS);
    }
}

/// The bits of a set, from the lowest on.
fn bits(mut set: u64) -> impl Iterator<Item = u8> {
    core::iter::from_fn(move || {
        let index = u8::try_from(set.trailing_zeros()).ok().filter(|index| *index < 64)?;
        set &= set.wrapping_sub(1);
        Some(index)
    })
}
