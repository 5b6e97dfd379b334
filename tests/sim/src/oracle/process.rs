//! Of one process: what it was told, and when it may be told the next thing. It is asked once, then killed
//! three times at most, each time after it had its time; only an operator's word has it killed at once.

use duende_core::probe::ProbeKind;

use crate::failure::{Failure, hold};

const GRACE_NS: u64 = 5_000_000;
const KILL_TIMEOUT_NS: u64 = 3_000_000;
const KILLS_MAX: u8 = 3;

/// The most that a process may ask for at a time.
const EXTENSION_NS_MAX: u128 = 86_400_000_000_000;

/// What a process was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing: it may run.
    Nothing,
    /// To end.
    Terminate,
    /// It is killed.
    Kill,
}

/// A process that was asked for and whose exit was not told to the supervisor.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Which of its daemon's starts.
    pub incarnation: u32,
    /// What it was told.
    pub told: Told,
    /// The question about its health that it has not answered, and when it was asked.
    pub probe: Option<(u64, ProbeKind, u64)>,
    /// Whether a tick judges that question.
    pub(super) is_judged: bool,
    /// Until when it may take for what it was told.
    due: u64,
    kills: u8,
}

impl Process {
    /// A new one.
    pub const fn new(incarnation: u32) -> Self {
        Self {
            incarnation,
            told: Told::Nothing,
            probe: None,
            is_judged: true,
            due: u64::MAX,
            kills: 0,
        }
    }

    /// It is asked to end.
    pub fn asked(&mut self, now: u64, grace_ns: u128) -> Result<(), Failure> {
        hold!(self.told == Told::Nothing, "supervisor: a process is asked to end once", "{self:?}");
        (self.told, self.due) = (Told::Terminate, now.saturating_add(GRACE_NS));
        let expected = u128::from(self.due - now);
        hold!(
            grace_ns == expected,
            "supervisor: a process has its grace, whatever the reason",
            "{grace_ns} ns for {expected}"
        );
        Ok(())
    }

    /// It is killed, perhaps by an operator who has all killed.
    pub fn killed(&mut self, now: u64, by_operator: bool) -> Result<(), Failure> {
        let at_once = by_operator && self.kills == 0;
        hold!(
            at_once || (self.told != Told::Nothing && self.due <= now),
            "supervisor: killed before its time is over",
            "{self:?} at {now}"
        );
        hold!(self.kills < KILLS_MAX, "supervisor: killed too often", "{self:?}");
        self.kills += 1;
        (self.told, self.due) = (Told::Kill, now.saturating_add(KILL_TIMEOUT_NS));
        Ok(())
    }

    /// The supervisor says that a kill was in vain.
    pub fn outlived(&self, now: u64, attempt: u8) -> Result<(), Failure> {
        hold!(
            self.told == Told::Kill && self.kills == attempt && self.due <= now,
            "supervisor: a kill is late when its time is over",
            "{self:?} at {now}, {attempt}"
        );
        Ok(())
    }

    /// Its daemon is given up.
    pub fn given_up(&self, now: u64) -> Result<(), Failure> {
        hold!(self.kills == KILLS_MAX, "supervisor: given up after three kills", "{self:?}");
        self.outlived(now, KILLS_MAX)
    }

    /// It wants more time.
    pub fn extended(&mut self, now: u64, by_us: u64) {
        if self.told == Told::Terminate {
            self.due = self.due.max(extension(now, by_us));
        }
    }

    /// Who is late was judged.
    pub fn in_time(&self, now: u64) -> Result<(), Failure> {
        hold!(
            self.told == Told::Nothing || self.due > now || now == u64::MAX,
            "supervisor: who does not end is killed, once more, or given up",
            "{self:?} at {now}"
        );
        Ok(())
    }
}

/// Until when somebody may take who wants so much more time.
pub(super) fn extension(now: u64, by_us: u64) -> u64 {
    let by_ns = (u128::from(by_us) * 1_000).min(EXTENSION_NS_MAX);
    now.saturating_add(u64::try_from(by_ns).unwrap_or(u64::MAX))
}
