//! The world: which machine is told what.

use core::time::Duration;

use duende_core::epitaph::Epitaph;
use duende_core::lifecycle::State;
use duende_core::sched::Level;
use duende_core::supervise::{self, DaemonId, GroupId, View};
use duende_core::time::Instant;

use crate::Digest;
use crate::daemons::{self, Daemons, GROUPS_OF_DAEMONS, Surroundings};
use crate::input::{Input, Process, REMOVED, Setup, Step};
use crate::seen::{Out, Seen};
use crate::wires::Wires;

/// A machine of every kind, and the hash of all that they answered.
#[derive(Debug)]
pub struct World {
    now: Instant,
    digest: Digest,
    supervisor: Daemons,
    groups: [Option<GroupId>; GROUPS_OF_DAEMONS],
    /// The daemon that was removed last: its identifier is stale.
    removed: Option<DaemonId>,
    surroundings: Surroundings,
}

impl World {
    /// A world at the clock's zero, without daemons.
    ///
    /// # Errors
    /// An [`Epitaph`], if a machine can't be made as it is made here: a mistake of this crate.
    pub fn new(setup: Setup) -> Result<Self, Epitaph> {
        let now = Instant::ZERO;
        let (supervisor, groups) = daemons::supervisor();
        Ok(Self {
            now,
            digest: Digest::EMPTY,
            supervisor,
            groups,
            removed: None,
            surroundings: Surroundings::new(now, setup)?,
        })
    }

    /// Does one step.
    pub fn apply(&mut self, step: &Step) {
        self.apply_watched(step, &mut |_| {});
    }

    /// Does one step and shows each thing that comes of it, in order.
    pub fn apply_watched(&mut self, step: &Step, watcher: &mut dyn FnMut(&Seen<'_>)) {
        self.now = Instant::from_ns(self.now.as_ns().saturating_add_signed(step.elapsed_ns));
        let mut digest = self.digest;
        let mut out = Out { digest: &mut digest, watcher };
        match step.input {
            Input::Begin(setup) => self.begin(setup, step.elapsed_ns, &mut out),
            _ => self.handle(step.entropy, &step.input, &mut out),
        }
        self.digest = digest;
    }

    /// The hash of all effects and answers so far.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.digest.get()
    }

    /// The clock.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// What the supervisor knows of a daemon.
    #[must_use]
    pub fn view(&self, slot: u8) -> Option<View> {
        self.supervisor.view(self.supervisor.id_of_slot(u32::from(slot))?)
    }

    /// The longest that a task of a level waits if the processor is never idle, in nanoseconds.
    #[must_use]
    pub fn waiting_ns_max(&self, level: Level) -> u64 {
        self.surroundings.waiting_ns_max(level)
    }

    /// When the supervisor wants to be called again.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.supervisor.next_deadline()
    }

    /// What holds between any two steps: in each machine, and between them.
    ///
    /// # Errors
    /// An [`Epitaph`] that names what does not.
    pub fn check_invariants(&self) -> Result<(), Epitaph> {
        self.supervisor.check_invariants()?;
        self.surroundings.check_invariants()?;
        let components = self.surroundings.news.health().iter();
        for (slot, (name, _, status)) in (0_u32..).zip(components) {
            let id = self.supervisor.id_of_slot(slot);
            let state = id.and_then(|id| self.supervisor.view(id)).map(|view| view.state);
            let alive = state.is_some_and(State::has_process);
            if !alive && self.surroundings.is_task(slot) {
                return Err(Epitaph::new(format_args!("{name} is a task without a process")));
            }
            let healthy = status == duende_core::health::Status::Healthy;
            if healthy && !alive {
                return Err(Epitaph::new(format_args!("{name} is healthy without a process")));
            }
        }
        Ok(())
    }

    fn handle(&mut self, entropy: u64, input: &Input, out: &mut Out<'_>) {
        let now = self.now;
        let around = &mut self.surroundings;
        match *input {
            Input::Begin(setup) => self.begin(setup, 0, out),
            Input::Tick => self.tick(entropy, out),
            Input::Add { template, depends_on, group } => {
                self.add(template, depends_on, group, out);
            }
            Input::Remove { slot } => self.remove(slot, out),
            Input::Start { slot } => self.operate(entropy, slot, supervise::Input::Start, out),
            Input::Stop { slot } => self.operate(entropy, slot, supervise::Input::Stop, out),
            Input::Restart { slot } => self.operate(entropy, slot, supervise::Input::Restart, out),
            Input::StartChain { slot } => {
                self.operate(entropy, slot, supervise::Input::StartWithDependencies, out);
            }
            Input::StopChain { slot } => {
                self.operate(entropy, slot, supervise::Input::StopWithDependents, out);
            }
            Input::RestartChain { slot } => {
                self.operate(entropy, slot, supervise::Input::RestartWithDependencies, out);
            }
            Input::Forgive { slot } => self.operate(entropy, slot, supervise::Input::Forgive, out),
            Input::Pause { slot } => self.operate(entropy, slot, supervise::Input::Pause, out),
            Input::Resume { slot } => self.operate(entropy, slot, supervise::Input::Resume, out),
            Input::Reload { slot } => self.operate(entropy, slot, supervise::Input::Reload, out),
            Input::Reloaded(of) => {
                self.hear(entropy, of, out, |id, incarnation| supervise::Input::Reloaded {
                    id,
                    incarnation,
                });
            }
            Input::ReloadRefused(of) => {
                self.hear(entropy, of, out, |id, incarnation| supervise::Input::ReloadRefused {
                    id,
                    incarnation,
                });
            }
            Input::Extend { of, by_us } => {
                self.hear(entropy, of, out, |id, incarnation| supervise::Input::Extend {
                    id,
                    incarnation,
                    by: Duration::from_micros(by_us),
                });
            }
            Input::Alive(of) => {
                self.hear(entropy, of, out, |id, incarnation| supervise::Input::Alive {
                    id,
                    incarnation,
                });
            }
            Input::StopAll => self.supervise(entropy, supervise::Input::StopAll, out),
            Input::KillAll => self.supervise(entropy, supervise::Input::KillAll, out),
            Input::Spawned(of) => {
                self.hear(entropy, of, out, |id, incarnation| supervise::Input::Spawned {
                    id,
                    incarnation,
                });
            }
            Input::Ready(of) => {
                self.hear(entropy, of, out, |id, incarnation| supervise::Input::Ready {
                    id,
                    incarnation,
                });
            }
            Input::Exited { of, end } => {
                self.hear(entropy, of, out, |id, incarnation| supervise::Input::Exited {
                    id,
                    incarnation,
                    exit: end.into(),
                });
            }
            Input::Probed { of, token, healthy } => {
                self.hear(entropy, of, out, |id, incarnation| supervise::Input::Probed {
                    id,
                    incarnation,
                    token,
                    healthy,
                });
            }
            Input::Wake { slot } => around.wake(now, slot, out),
            Input::Run { ran_us, waits } => self.now = around.run(now, ran_us, waits, out),
            Input::Send { slot, handle, tag, length } => {
                around.send(now, slot, handle, (tag, length), out);
            }
            Input::Reserve { slot } => around.reserve(now, slot, false, out),
            Input::Cancel { slot } => around.reserve(now, slot, true, out),
            Input::Receive => around.mail.receive(now, out),
            Input::Abandon => around.mail.abandon(out),
            Input::Join { into, level } => around.mail.join(into, level, out),
            Input::Leave { from } => around.mail.leave(now, from, out),
            Input::Broadcast { length } => around.mail.broadcast(now, length, out),
            Input::Take { from } => around.mail.take(now, from, out),
            Input::Subscribe { into } => around.news.subscribe(into, out),
            Input::Unsubscribe { from } => around.news.unsubscribe(from, out),
            Input::Listen { from } => around.news.listen(from, out),
            Input::Grant { slot, into, rights, label, valid_us, scoped } => {
                let Some(of) = around.process(u32::from(slot)) else {
                    return out.tell(&Seen::Nothing);
                };
                around.powers.grant(now, of, into, rights, label, valid_us, scoped, out);
            }
            Input::Delegate { from, handle, to, into, rights, scoped } => {
                let (Some(giver), Some(taker)) =
                    (around.process(u32::from(from)), around.process(u32::from(to)))
                else {
                    return out.tell(&Seen::Nothing);
                };
                let handle = around.handle(from, handle);
                around.powers.delegate(now, (giver, handle), (taker, into), (rights, scoped), out);
            }
            Input::Use { slot, handle, rights } => {
                let Some(of) = around.process(u32::from(slot)) else {
                    return out.tell(&Seen::Nothing);
                };
                let handle = around.handle(slot, handle);
                around.powers.use_up(now, of, handle, rights, out);
            }
            Input::Revoke { handle } => {
                let handle = around.powers.handle(handle);
                around.powers.revoke(now, None, handle, out);
            }
            Input::RevokeBy { slot, handle } => {
                let by = around.process(u32::from(slot));
                let handle = by.and_then(|_| around.handle(slot, handle));
                around.powers.revoke(now, by, handle, out);
            }
            Input::RevokeLabel { label } => around.powers.revoke_label(now, label, out),
            Input::Reclaim { budget } => around.powers.reclaim(budget, out),
            Input::Audit => around.powers.audit(out),
            Input::Call { into } => around.policies.call(now, into, out),
            Input::Answer { from, success } => around.policies.answer(now, from, success, out),
            Input::CloseBreaker => around.policies.close_breaker(out),
            Input::Admit { cost } => around.policies.admit(now, cost, out),
            Input::SetRate { tokens, burst } => around.policies.set_rate(now, tokens, burst, out),
            Input::Offer { bytes } => around.policies.offer(now, bytes, out),
            Input::Accept => around.policies.accept(now, out),
            Input::AddGroup { into, parent, limit } => {
                around.policies.add_group(into, parent, limit, out);
            }
            Input::RemoveGroup { from } => around.policies.remove_group(now, from, out),
            Input::Charge { group, resource, amount } => {
                around.policies.charge(now, (group, resource, amount), out);
            }
            Input::Refund { group, resource, amount } => {
                around.policies.refund(now, (group, resource, amount), out);
            }
            Input::SetQuota { group, limit } => around.policies.set_quota(now, group, limit, out),
            Input::Observe { memory, tenths } => {
                if let Some(alert) = around.policies.observe(now, memory, tenths, out) {
                    around.news.announce(now, crate::News::Alert(alert), out);
                }
            }
            Input::Measure { value_ns } => around.policies.measure(now, value_ns, out),
            Input::Connect => around.wires.connect(),
            Input::Frame(ref bytes) => around.wires.frame(bytes, out),
            Input::Parent(ref bytes) => around.wires.parent(bytes, entropy, out),
            Input::Members(ref bytes) => Wires::members(bytes, out),
            Input::Dump => around.news.dump(out),
        }
    }

    fn begin(&mut self, setup: Setup, elapsed_ns: i64, out: &mut Out<'_>) {
        self.now = Instant::from_ns(0_u64.saturating_add_signed(elapsed_ns));
        // `new` could make the same machines, so this can't fail.
        if let Ok(surroundings) = Surroundings::new(self.now, setup) {
            self.surroundings = surroundings;
        }
        (self.supervisor, self.groups) = daemons::supervisor();
        self.removed = None;
        out.tell(&Seen::Begun);
    }

    fn tick(&mut self, entropy: u64, out: &mut Out<'_>) {
        self.supervise(entropy, supervise::Input::Tick, out);
        out.tell(&Seen::NextTick(self.supervisor.next_deadline()));
        self.surroundings.mail.tick(self.now, out);
        self.surroundings.policies.tick(self.now, out);
    }

    fn add(&mut self, template: u8, depends_on: u8, group: u8, out: &mut Out<'_>) {
        let mut spec = daemons::template(template);
        spec.group = self.groups.get(usize::from(group)).copied().flatten();
        for slot in (0..8_u8).filter(|slot| depends_on & (1 << slot) != 0) {
            if let Some(id) = self.daemon(slot) {
                // There are as many places as slots.
                let _ = spec.depends_on.push(id);
            }
        }
        out.tell(&Seen::Added(self.supervisor.add(spec)));
    }

    fn remove(&mut self, slot: u8, out: &mut Out<'_>) {
        let Some(id) = self.daemon(slot) else { return out.tell(&Seen::Nothing) };
        let removed = self.supervisor.remove(id);
        if removed.is_ok() {
            self.removed = Some(id);
        }
        out.tell(&Seen::Removed(removed));
    }

    /// What an operator asks for.
    fn operate(
        &mut self,
        entropy: u64,
        slot: u8,
        input: fn(DaemonId) -> supervise::Input,
        out: &mut Out<'_>,
    ) {
        match self.daemon(slot) {
            Some(id) => self.supervise(entropy, input(id), out),
            None => out.tell(&Seen::Nothing),
        }
    }

    /// News of a process.
    fn hear(
        &mut self,
        entropy: u64,
        of: Process,
        out: &mut Out<'_>,
        input: impl FnOnce(DaemonId, u32) -> supervise::Input,
    ) {
        match self.daemon(of.slot) {
            Some(id) => self.supervise(entropy, input(id, of.incarnation), out),
            None => out.tell(&Seen::Nothing),
        }
    }

    fn supervise(&mut self, entropy: u64, input: supervise::Input, out: &mut Out<'_>) {
        let (now, around) = (self.now, &mut self.surroundings);
        let handled = self.supervisor.handle(now, entropy, input, &mut |effect| {
            around.perform(now, &effect, out);
        });
        out.tell(&Seen::Supervised(handled));
    }

    fn daemon(&self, slot: u8) -> Option<DaemonId> {
        if slot == REMOVED {
            return self.removed;
        }
        self.supervisor.id_of_slot(u32::from(slot))
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use super::*;
    use crate::input::{End, OWN};

    /// Plays inputs a microsecond apart, and returns what was seen and the hash.
    fn play(inputs: &[Input]) -> (String, u64) {
        let mut world = World::new(Setup::default()).unwrap();
        let mut log = String::new();
        for input in inputs {
            let step = Step { elapsed_ns: 1_000, entropy: 9, input: input.clone() };
            world.apply_watched(&step, &mut |seen| log.push_str(&format!("{seen:?}\n")));
            assert_eq!(world.check_invariants(), Ok(()), "{input:?}");
        }
        (log, world.hash())
    }

    const RUNNING: [Input; 4] = [
        Input::Add { template: 0, depends_on: 0, group: u8::MAX },
        Input::Start { slot: 0 },
        Input::Spawned(Process { slot: 0, incarnation: 1 }),
        Input::Ready(Process { slot: 0, incarnation: 1 }),
    ];
    const SEND: Input = Input::Send { slot: 0, handle: OWN, tag: 1, length: 3 };

    #[test]
    fn a_running_daemon_sends_and_a_dead_one_does_not() {
        let (log, _) = play(&[RUNNING.as_slice(), &[SEND, Input::Receive]].concat());
        assert!(log.contains("Received(Some("), "{log}");
        let crash = Input::Exited { of: Process { slot: 0, incarnation: 1 }, end: End::Trap };
        let (log, _) = play(&[RUNNING.as_slice(), &[crash, SEND]].concat());
        assert!(log.contains("Crashed(0, 1)"), "{log}");
        assert!(log.contains("Denied(Revoked)"), "{log}");
        assert!(!log.contains("Sent {"), "{log}");
    }

    #[test]
    fn a_label_that_is_revoked_cuts_senders_off() {
        let inputs = [SEND, Input::RevokeLabel { label: 0 }, SEND];
        let (log, _) = play(&[RUNNING.as_slice(), &inputs].concat());
        assert_eq!(log.matches("Sent {").count(), 1, "{log}");
        assert!(log.contains("Denied(Revoked)"), "{log}");
    }

    #[test]
    fn the_hash_tells_runs_apart() {
        let (_, one) = play(&RUNNING);
        let (_, same) = play(&RUNNING);
        let (_, other) = play(&RUNNING[..3]);
        assert_eq!(one, same);
        assert_ne!(one, other);
    }

    /// A Cortex-M runs it from its stack and static memory. Most of it are the daemons, whose limiters
    /// remember 32 restarts each, and the table of capabilities.
    #[test]
    fn a_world_is_small() {
        let bytes = size_of::<World>();
        assert!(bytes <= 26 * 1024, "a world has {bytes} bytes");
    }
}
