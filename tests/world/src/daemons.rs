//! The owner of the supervisor: what its effects lead to in the other machines.

use core::time::Duration;

use duende_core::backoff::Backoff;
use duende_core::caps::{Handle, Rights};
use duende_core::epitaph::Epitaph;
use duende_core::health::Status;
use duende_core::ipc::SenderId;
use duende_core::lifecycle::State;
use duende_core::limiter::RestartLimit;
use duende_core::probe::{ProbeSpec, Probes};
use duende_core::restart::RestartPolicy;
use duende_core::sched::{Level, Link, RunQueue};
use duende_core::supervise::{Effect, Spec};
use duende_core::time::Instant;

use crate::input::{DAEMONS, OWN, Process, Setup};
use crate::mail::Mail;
use crate::news::{News, Newsroom};
use crate::policies::Policies;
use crate::powers::Powers;
use crate::seen::{Out, Seen};
use crate::wires::Wires;

/// How many templates there are.
pub const TEMPLATES: u8 = 8;

/// How the daemons of a template are supervised. All times are short, so that a run of a few seconds
/// sees what a fleet sees in months.
#[must_use]
pub fn template(number: u8) -> Spec {
    let ms = Duration::from_millis;
    let base = Spec {
        restart: RestartPolicy::OnFailure,
        max_retries: None,
        backoff: Backoff::exponential(ms(1), ms(8)),
        limit: RestartLimit { period: ms(60), ..RestartLimit::default() },
        start_timeout: ms(20),
        stop_grace: ms(5),
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
        4 => Spec { restart: RestartPolicy::Never, ..base },
        5 => Spec { backoff: Backoff::exponential(Duration::ZERO, ms(8)), ..base },
        6 => Spec {
            restart: RestartPolicy::UnlessStopped,
            probes: Probes::liveness(ProbeSpec { failure_threshold: 1, ..probe }),
            ..base
        },
        _ => Spec { limit: RestartLimit { period: ms(10), ..RestartLimit::OTP }, ..base },
    }
}

/// What belongs to the process that a slot has, or had last.
#[derive(Clone, Copy, Debug)]
struct Life {
    incarnation: u32,
    /// Whether it was Running and has not ended.
    runs: bool,
    sender: Option<SenderId>,
    handle: Option<Handle>,
}

/// Every machine but the supervisor, which tells them what to do.
#[derive(Debug)]
pub(crate) struct Surroundings {
    tasks: RunQueue<[Link; DAEMONS]>,
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
            tasks: RunQueue::new([Link::default(); DAEMONS]),
            lives: [Life { incarnation: 0, runs: false, sender: None, handle: None }; DAEMONS],
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
                if to == State::Running {
                    self.arrived(now, process, out);
                }
                if from.has_process() && !to.has_process() {
                    self.gone(now, process, to, out);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn wake(&mut self, slot: u8, out: &mut Out<'_>) {
        let task = u32::from(slot);
        if !self.lives.get(usize::from(slot)).is_some_and(|life| life.runs) {
            return out.tell(&Seen::Nothing);
        }
        let queued = self.tasks.push(task, level(task)).is_ok();
        out.tell(&Seen::Woken { task, queued });
    }

    pub(crate) fn run(&mut self, waits: bool, out: &mut Out<'_>) {
        let ran = self.tasks.pop();
        out.tell(&Seen::Ran(ran));
        if let Some((task, level)) = ran.filter(|_| !waits) {
            let queued = self.tasks.push(task, level).is_ok();
            out.tell(&Seen::Woken { task, queued });
        }
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
            Ok(_) => self.mail.send(now, slot, sender, (tag, length), out),
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

    /// Whether a daemon's task waits for its turn.
    pub(crate) fn is_queued(&self, slot: u32) -> bool {
        self.tasks.contains(slot)
    }

    fn arrived(&mut self, now: Instant, process: Process, out: &mut Out<'_>) {
        let handle = self.powers.welcome(now, process, out);
        let sender = self.mail.open(process.slot, out);
        if let Some(life) = self.life_mut(u32::from(process.slot)) {
            (life.runs, life.handle, life.sender) = (true, handle, sender);
        }
        let task = u32::from(process.slot);
        let queued = self.tasks.push(task, level(task)).is_ok();
        out.tell(&Seen::Woken { task, queued });
        self.news.report(process, Status::Healthy);
    }

    fn gone(&mut self, now: Instant, process: Process, to: State, out: &mut Out<'_>) {
        let task = u32::from(process.slot);
        let queued = self.tasks.remove(task);
        out.tell(&Seen::Withdrawn { task, queued });
        if let Some(life) = self.life_mut(task) {
            life.runs = false;
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

/// Daemons take all levels in turn.
fn level(task: u32) -> Level {
    u8::try_from(task).ok().and_then(Level::new).unwrap_or_default()
}
