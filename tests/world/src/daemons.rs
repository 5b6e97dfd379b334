//! The owner of the supervisor: what its effects lead to in the other machines.

use core::time::Duration;

use duende_core::backoff::Backoff;
use duende_core::caps::{Handle, Rights};
use duende_core::epitaph::Epitaph;
use duende_core::health::Status;
use duende_core::ipc::SenderId;
use duende_core::lifecycle::State;
use duende_core::limiter::{RestartLimit, Window};
use duende_core::probe::{ProbeSpec, Probes};
use duende_core::restart::RestartPolicy;
use duende_core::sched::{self, Level, Outcome, Rules, Scheduler, Server};
use duende_core::supervise::{
    self, Effect, GroupId, GroupSlot, GroupSpec, Spec, Strategy, Supervisor,
};
use duende_core::time::Instant;

use crate::input::{DAEMONS, OWN, Process, Setup};
use crate::mail::Mail;
use crate::news::{News, Newsroom};
use crate::policies::Policies;
use crate::powers::Powers;
use crate::seen::{Out, Seen};
use crate::wires::Wires;

/// How many templates there are.
pub const TEMPLATES: u8 = 12;

/// How many groups of daemons there are: one that restarts all its children when one fails, below it
/// one that restarts those behind it, and below that one that restarts the one alone.
pub const GROUPS_OF_DAEMONS: usize = 3;

/// How the daemons of a template are supervised. All times are short, so that a run of a few seconds
/// sees what a fleet sees in months.
#[must_use]
pub fn template(number: u8) -> Spec {
    let ms = Duration::from_millis;
    let base = Spec {
        restart: RestartPolicy::OnFailure,
        max_retries: None,
        backoff: Backoff::exponential(ms(1), ms(8)),
        limit: RestartLimit { intensity: 5, period: ms(60), window: Window::Sliding },
        start_timeout: ms(20),
        stop_grace: ms(5),
        kill_timeout: ms(3),
        reload_timeout: ms(6),
        stable_after: ms(40),
        ..Spec::default()
    };
    let probe = ProbeSpec {
        initial_delay: ms(4),
        period: ms(4),
        timeout: ms(1),
        failure_threshold: 2,
        success_threshold: 1,
    };
    match number % TEMPLATES {
        0 => base,
        1 => Spec { restart: RestartPolicy::Always, ..base },
        2 => Spec { probes: Probes::liveness(probe), ..base },
        3 => Spec { max_retries: Some(3), limit: RestartLimit::UNLIMITED, ..base },
        4 => Spec {
            restart: RestartPolicy::Never,
            backoff: Backoff::exponential(ms(60), ms(400)),
            ..base
        },
        5 => Spec { backoff: Backoff::exponential(Duration::ZERO, ms(8)), ..base },
        6 => Spec {
            restart: RestartPolicy::UnlessStopped,
            probes: Probes::liveness(ProbeSpec { failure_threshold: 1, ..probe }),
            ..base
        },
        7 => Spec { limit: RestartLimit { intensity: 1, period: ms(10), ..base.limit }, ..base },
        8 => Spec { watchdog: Some(ms(6)), ..base },
        9 => Spec {
            probes: Probes {
                startup: Some(ProbeSpec { initial_delay: ms(1), ..probe }),
                ..Probes::NONE
            },
            ..base
        },
        10 => Spec {
            probes: Probes {
                readiness: Some(ProbeSpec { initial_delay: Duration::ZERO, ..probe }),
                ..Probes::NONE
            },
            ..base
        },
        _ => Spec {
            restart: RestartPolicy::Always,
            limit: RestartLimit { intensity: 1, period: ms(10), window: Window::Fixed },
            ..base
        },
    }
}

/// A supervisor without daemons, and the groups that they may belong to.
pub(crate) fn supervisor() -> (Daemons, [Option<GroupId>; GROUPS_OF_DAEMONS]) {
    let slots = [const { supervise::Slot::EMPTY }; DAEMONS];
    let mut supervisor =
        Supervisor::with_groups(slots, [const { GroupSlot::EMPTY }; GROUPS_OF_DAEMONS]);
    let limit =
        RestartLimit { intensity: 3, period: Duration::from_millis(30), window: Window::Sliding };
    let mut groups = [None; GROUPS_OF_DAEMONS];
    let mut parent = None;
    let strategies = [Strategy::OneForAll, Strategy::RestForOne, Strategy::OneForOne];
    for (place, strategy) in groups.iter_mut().zip(strategies) {
        // There is a slot for each of them.
        parent = supervisor.add_group(GroupSpec { strategy, limit, parent }).ok();
        *place = parent;
    }
    (supervisor, groups)
}

/// The supervisor of a world.
pub(crate) type Daemons = Supervisor<[supervise::Slot; DAEMONS], [GroupSlot; GROUPS_OF_DAEMONS]>;

/// Tasks of these slots are of the deadline class: 2 ms in each 10 ms.
const DEADLINE_TASKS: [u32; 2] = [6, 7];
const BUDGET_NS: u64 = 2_000_000;
const PERIOD_NS: u64 = 10_000_000;

/// What belongs to the process that a slot has, or had last.
#[derive(Clone, Copy, Debug)]
struct Life {
    incarnation: u32,
    /// Whether it was Running and has not ended.
    runs: bool,
    /// Whether it is held still.
    held: bool,
    sender: Option<SenderId>,
    handle: Option<Handle>,
}

/// Every machine but the supervisor, which tells them what to do.
#[derive(Debug)]
pub(crate) struct Surroundings {
    tasks: Scheduler<[sched::Slot; DAEMONS], [Server; 2]>,
    lives: [Life; DAEMONS],
    pub(crate) powers: Powers,
    pub(crate) mail: Mail,
    pub(crate) news: Newsroom,
    pub(crate) policies: Policies,
    pub(crate) wires: Wires,
}

impl Surroundings {
    pub(crate) fn new(now: Instant, setup: Setup) -> Result<Self, Epitaph> {
        Ok(Self {
            tasks: Scheduler::with_servers(
                [sched::Slot::EMPTY; DAEMONS],
                [Server::EMPTY; 2],
                Rules::default(),
            ),
            lives: [Life { incarnation: 0, runs: false, held: false, sender: None, handle: None };
                DAEMONS],
            powers: Powers::new()?,
            mail: Mail::new(setup)?,
            news: Newsroom::new()?,
            policies: Policies::new(now, setup)?,
            wires: Wires::new(),
        })
    }

    /// Performs one effect of the supervisor, as far as that is done here and not by the environment.
    pub(crate) fn perform(&mut self, now: Instant, effect: &Effect, out: &mut Out<'_>) {
        out.tell(&Seen::Effect(effect));
        match *effect {
            Effect::Spawn { id, incarnation } => {
                if let Some(life) = self.life_mut(id.slot()) {
                    life.incarnation = incarnation;
                }
            }
            Effect::Changed { id, from, to } => {
                let Some(process) = self.process(id.slot()) else { return };
                if to.is_up() && !from.is_up() {
                    self.arrived(now, process, out);
                }
                if from.has_process() && !to.has_process() {
                    self.gone(now, process, to, out);
                }
            }
            Effect::Pause { id, .. } => self.hold(now, id.slot(), true, out),
            Effect::Resume { id, .. } => self.hold(now, id.slot(), false, out),
            _ => {}
        }
    }

    pub(crate) fn wake(&mut self, now: Instant, slot: u8, out: &mut Out<'_>) {
        let life = self.lives.get(usize::from(slot));
        if !life.is_some_and(|life| life.runs && !life.held) {
            return out.tell(&Seen::Nothing);
        }
        self.task_ready(now, u32::from(slot), out);
    }

    /// Runs the task whose turn it is, and tells when it is done.
    pub(crate) fn run(
        &mut self,
        now: Instant,
        ran_us: u16,
        waits: bool,
        out: &mut Out<'_>,
    ) -> Instant {
        let picked = self.tasks.pick(now);
        out.tell(&Seen::Picked(picked));
        let Some(pick) = picked else { return now };
        let used_ns = (u64::from(ran_us) * 1_000).min(pick.run_for_ns);
        let now = now.saturating_add(Duration::from_nanos(used_ns));
        let held = usize::try_from(pick.task).ok().and_then(|task| self.lives.get(task));
        // Who was held still during its turn waits until it may go on.
        let waits = waits || held.is_some_and(|life| life.held);
        let outcome = if waits { Outcome::Waits } else { Outcome::Again };
        // It is picked.
        let _ = self.tasks.ran(pick.task, now, used_ns, outcome);
        out.tell(&Seen::Ran { task: pick.task, used_ns, outcome });
        now
    }

    pub(crate) fn reserve(&mut self, now: Instant, slot: u8, cancel: bool, out: &mut Out<'_>) {
        let Some(sender) = self.last_sender(slot) else { return out.tell(&Seen::Nothing) };
        if cancel {
            self.mail.cancel(sender, out);
        } else {
            self.mail.reserve(sender, out);
        }
        self.settle_inheritance(now, slot, sender, out);
    }

    pub(crate) fn send(
        &mut self,
        now: Instant,
        slot: u8,
        pocket: u8,
        (tag, length): (u8, u8),
        out: &mut Out<'_>,
    ) {
        let (Some(of), Some(handle), Some(sender)) =
            (self.process(u32::from(slot)), self.handle(slot, pocket), self.last_sender(slot))
        else {
            return out.tell(&Seen::Nothing);
        };
        match self.powers.check(now, of, handle, Rights::SEND, out) {
            Ok(_) => {
                self.mail.send(now, slot, sender, (tag, length), out);
                self.settle_inheritance(now, slot, sender, out);
            }
            Err(refusal) => {
                out.tell(&Seen::Denied(refusal));
                self.news.announce(now, News::Refused(slot, refusal), out);
            }
        }
    }

    /// The process that a slot has, or had last.
    pub(crate) fn process(&self, slot: u32) -> Option<Process> {
        let life = self.lives.get(usize::try_from(slot).ok()?)?;
        Some(Process { slot: u8::try_from(slot).ok()?, incarnation: life.incarnation })
    }

    /// The capability in a pocket, or the daemon's own.
    pub(crate) fn handle(&self, slot: u8, pocket: u8) -> Option<Handle> {
        if pocket == OWN {
            return self.lives.get(usize::from(slot))?.handle;
        }
        self.powers.handle(pocket)
    }

    /// The seat that a daemon has, or had last: then it is stale, and the channel refuses it.
    pub(crate) fn last_sender(&self, slot: u8) -> Option<SenderId> {
        self.lives.get(usize::from(slot))?.sender
    }

    pub(crate) fn check_invariants(&self) -> Result<(), Epitaph> {
        self.tasks.check_invariants()?;
        self.powers.check_invariants()?;
        self.mail.check_invariants()?;
        self.news.check_invariants()?;
        self.policies.check_invariants()
    }

    /// Whether a daemon is a task.
    pub(crate) fn is_task(&self, slot: u32) -> bool {
        self.tasks.view(slot).is_some()
    }

    /// The longest that a task of a level waits if the processor is never idle.
    pub(crate) fn waiting_ns_max(&self, level: Level) -> u64 {
        self.tasks.waiting_ns_max(level)
    }

    fn task_ready(&mut self, now: Instant, task: u32, out: &mut Out<'_>) {
        if self.tasks.ready(task, now).is_ok() {
            out.tell(&Seen::TaskReady(task));
        }
    }

    /// Holds a task still, or lets it go on.
    fn hold(&mut self, now: Instant, task: u32, held: bool, out: &mut Out<'_>) {
        if let Some(life) = self.life_mut(task) {
            life.held = held;
        }
        if !held {
            self.task_ready(now, task, out);
        } else if self.tasks.unready(task).is_ok() {
            out.tell(&Seen::TaskHeld(task));
        }
    }

    /// A sender that holds a reserved place inherits the level of the receiver.
    fn settle_inheritance(&mut self, now: Instant, slot: u8, sender: SenderId, out: &mut Out<'_>) {
        let task = u32::from(slot);
        let Some(level) = self.mail.inherited_level(sender) else { return };
        let inherits = match level {
            Some(level) => self.tasks.inherit(task, now, level),
            None => self.tasks.disinherit(task),
        };
        if inherits.is_ok() {
            out.tell(&Seen::TaskInherits { task, level });
        }
    }

    fn arrived(&mut self, now: Instant, process: Process, out: &mut Out<'_>) {
        let handle = self.powers.welcome(now, process, out);
        let sender = self.mail.open(process.slot, out);
        if let Some(life) = self.life_mut(u32::from(process.slot)) {
            (life.runs, life.handle, life.sender) = (true, handle, sender);
        }
        let task = u32::from(process.slot);
        let added = if DEADLINE_TASKS.contains(&task) {
            self.tasks.add_deadline(task, BUDGET_NS, PERIOD_NS)
        } else {
            self.tasks.add(task, level(task))
        };
        out.tell(&Seen::TaskAdded { task, added });
        self.task_ready(now, task, out);
        self.news.report(process, Status::Healthy);
    }

    fn gone(&mut self, now: Instant, process: Process, to: State, out: &mut Out<'_>) {
        let task = u32::from(process.slot);
        let removed = self.tasks.remove(task);
        out.tell(&Seen::TaskRemoved { task, removed });
        if let Some(life) = self.life_mut(task) {
            (life.runs, life.held) = (false, false);
        }
        self.powers.part(now, process, out);
        if let Some(sender) = self.last_sender(process.slot) {
            self.mail.close(process.slot, sender, out);
        }
        let failed = matches!(to, State::Failed(_) | State::Backoff { failure: Some(_), .. });
        let status = if failed { Status::Unhealthy } else { Status::Unknown };
        self.news.report(process, status);
        if failed {
            let news = News::Crashed(process.slot, process.incarnation);
            self.news.announce(now, news, out);
        }
    }

    fn life_mut(&mut self, slot: u32) -> Option<&mut Life> {
        self.lives.get_mut(usize::try_from(slot).ok()?)
    }
}

/// The levels of the tasks that are of no deadline class.
const LEVELS: [u8; DAEMONS] = [0, 1, 2, 4, 4, 7, 0, 0];

fn level(task: u32) -> Level {
    let number = usize::try_from(task).ok().and_then(|task| LEVELS.get(task));
    number.copied().and_then(Level::new).unwrap_or_default()
}
