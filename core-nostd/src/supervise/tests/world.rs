//! A supervisor with the processes that its effects would have made; every effect is held against what
//! is allowed, and the invariants are checked after every input.

use super::*;

/// A process, and what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) incarnation: u32,
    pub(super) asked: bool,
    pub(super) kills: u8,
}

/// A supervisor and the processes that its effects would have made.
pub(super) struct World {
    pub(super) supervisor: Supervisor<Vec<Slot>, Vec<GroupSlot>>,
    pub(super) now: Instant,
    /// By slot.
    pub(super) processes: BTreeMap<u32, Process>,
    /// The incarnations that were given up and are still there.
    pub(super) abandoned: BTreeMap<DaemonId, u32>,
    /// For whom each daemon waits in vain, as was told.
    pub(super) blocked: BTreeMap<DaemonId, DaemonId>,
    /// The daemons whose processes are held still.
    pub(super) paused: BTreeSet<u32>,
    pub(super) groups: Vec<GroupId>,
    pub(super) states: BTreeMap<u32, State>,
    pub(super) last: Vec<Effect>,
}

impl World {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            supervisor: Supervisor::with_groups(
                vec![Slot::default(); slots],
                vec![GroupSlot::default(); 4],
            ),
            now: Instant::ZERO,
            processes: BTreeMap::new(),
            abandoned: BTreeMap::new(),
            blocked: BTreeMap::new(),
            paused: BTreeSet::new(),
            groups: Vec::new(),
            states: BTreeMap::new(),
            last: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, spec: Spec) -> DaemonId {
        let id = self.supervisor.add(spec).unwrap();
        self.states.insert(id.slot, State::Created);
        id
    }

    /// Gives one input, holds every effect against what is allowed, and checks the invariants.
    pub(super) fn give(&mut self, entropy: u64, input: Input) -> Result<(), InputError> {
        if let Input::Exited { id, incarnation, .. } = input
            && self
                .processes
                .get(&id.slot)
                .is_some_and(|process| process.incarnation == incarnation)
            && self.supervisor.view(id).is_some()
        {
            self.processes.remove(&id.slot);
            self.paused.remove(&id.slot);
        }
        if let Input::Exited { id, incarnation, .. } = input
            && self.abandoned.get(&id) == Some(&incarnation)
        {
            self.abandoned.remove(&id);
        }
        let since = match input {
            Input::Extend { id, .. } => self.supervisor.view(id).map(|view| view.since),
            _ => None,
        };
        let mut effects = Vec::new();
        let result =
            self.supervisor.handle(self.now, entropy, input, &mut |effect| effects.push(effect));
        for effect in &effects {
            match effect {
                Effect::Changed { id, from, to } => {
                    assert_eq!(self.states.insert(id.slot, *to), Some(*from), "{input:?}");
                    assert_ne!(from, to);
                    if *to == State::Failed(FailureReason::Unkillable) {
                        let process = self.processes.remove(&id.slot).unwrap();
                        assert_eq!(process.kills, KILL_ATTEMPTS_MAX, "{input:?}");
                        self.abandoned.insert(*id, process.incarnation);
                    }
                }
                Effect::Spawn { id, incarnation } => {
                    let process = Process { incarnation: *incarnation, asked: false, kills: 0 };
                    let before = self.processes.insert(id.slot, process);
                    assert_eq!(before, None, "two processes at once: {input:?}");
                    let stayed = self.abandoned.get(id);
                    assert_eq!(stayed, None, "beside one that stayed: {input:?}");
                }
                Effect::Terminate { id, incarnation, .. } => {
                    let process = self.process_mut(*id, *incarnation);
                    assert!(!process.asked && process.kills == 0, "asked late: {input:?}");
                    process.asked = true;
                    assert!(!self.paused.contains(&id.slot), "what is paused can't answer");
                }
                Effect::Kill { id, incarnation } => {
                    let process = self.process_mut(*id, *incarnation);
                    process.kills += 1;
                    let may = process.asked || process.kills > 1 || input == Input::KillAll;
                    assert!(may, "killed without being asked: {input:?}");
                    assert!(process.kills <= KILL_ATTEMPTS_MAX, "{input:?}");
                }
                Effect::KillTimedOut { id, incarnation, attempt } => {
                    assert_eq!(self.process_mut(*id, *incarnation).kills, *attempt, "{input:?}");
                }
                Effect::Blocked { id, on } => {
                    let before = self.blocked.insert(*id, *on);
                    assert_ne!(before, Some(*on), "told twice: {input:?}");
                }
                Effect::Probe { id, incarnation, .. } => {
                    assert_eq!(self.process_of(*id), Some(*incarnation), "{input:?}");
                }
                Effect::Pause { id, incarnation } => {
                    assert_eq!(self.process_of(*id), Some(*incarnation), "{input:?}");
                    assert!(self.paused.insert(id.slot), "paused twice: {input:?}");
                }
                Effect::Resume { id, incarnation } => {
                    assert_eq!(self.process_of(*id), Some(*incarnation), "{input:?}");
                    assert!(self.paused.remove(&id.slot), "resumed without a pause: {input:?}");
                }
                Effect::Reload { id, incarnation } | Effect::ReloadTimedOut { id, incarnation } => {
                    assert_eq!(self.process_of(*id), Some(*incarnation), "{input:?}");
                }
                Effect::Halt(epitaph) => panic!("{epitaph} on {input:?}"),
            }
        }
        if let (Some(since), Input::Extend { id, .. }) = (since, input) {
            self.extended(id, since, &effects);
        }
        self.last = effects;
        assert_eq!(self.supervisor.check_invariants(), Ok(()), "after {input:?}");
        for id in self.supervisor.ids() {
            let view = self.supervisor.view(id).unwrap();
            assert_eq!(Some(&view.state), self.states.get(&id.slot));
            assert_eq!(view.state.has_process(), self.processes.contains_key(&id.slot));
            let waits = view.state == State::Starting(Starting::Waiting);
            assert_eq!(view.waits_for.is_some(), waits);
            assert_eq!(view.unkillable, self.abandoned.contains_key(&id));
            if view.blocked_by.is_none() {
                self.blocked.remove(&id);
            }
            assert_eq!(view.blocked_by, self.blocked.get(&id).copied(), "{id} is told: {input:?}");
            let culprits = self.culprits(id);
            let named = view.blocked_by.map_or(culprits.is_empty(), |on| culprits.contains(&on));
            assert!(named, "{id} waits in vain for {culprits:?}: {view:?}");
        }
        result
    }

    /// More time moves a deadline later, and nothing else: it is no other state, and none younger.
    fn extended(&mut self, id: DaemonId, since: Instant, effects: &[Effect]) {
        let view = self.supervisor.view(id).unwrap();
        let before = self.states.insert(id.slot, view.state).unwrap();
        assert_eq!(core::mem::discriminant(&before), core::mem::discriminant(&view.state));
        assert!(before.deadline() <= view.state.deadline(), "{before:?} → {:?}", view.state);
        assert_eq!(view.since, since, "{:?}", view.state);
        assert_eq!(effects, []);
    }

    /// Whom a daemon that waits in vain may name: of what it depends on itself, what does not come; else
    /// what those that it waits for may name.
    fn culprits(&self, id: DaemonId) -> BTreeSet<DaemonId> {
        if self.state(id) != State::Starting(Starting::Waiting) {
            return BTreeSet::new();
        }
        let depends_on = &self.supervisor.daemon(id).unwrap().spec.depends_on;
        let stays = |on: &DaemonId| {
            matches!(
                self.state(*on),
                State::Created | State::Stopped(_) | State::Failed(_) | State::Paused
            )
        };
        let direct: BTreeSet<_> = depends_on.iter().copied().filter(stays).collect();
        if !direct.is_empty() {
            return direct;
        }
        depends_on.iter().flat_map(|on| self.culprits(*on)).collect()
    }

    fn process_mut(&mut self, id: DaemonId, incarnation: u32) -> &mut Process {
        let process = self.processes.get_mut(&id.slot).expect("a process");
        assert_eq!(process.incarnation, incarnation, "{id}");
        process
    }

    /// Where a daemon is that is asked to end for this failure from now on.
    pub(super) fn condemned(&self, id: DaemonId, reason: FailureReason) -> State {
        let grace = self.supervisor.daemon(id).unwrap().spec.stop_grace;
        let deadline = self.now.saturating_add(grace);
        State::Stopping(Stopping::Condemned { reason, deadline })
    }

    /// Lets a process that was asked to end be killed in vain until it is given up.
    pub(super) fn never_ends(&mut self, id: DaemonId) {
        let spec = self.supervisor.daemon(id).unwrap().spec.clone();
        self.pass(spec.stop_grace);
        for _ in 0..KILL_ATTEMPTS_MAX {
            self.pass(spec.kill_timeout);
        }
        assert_eq!(self.state(id), State::Failed(FailureReason::Unkillable));
    }

    pub(super) fn must(&mut self, input: Input) {
        assert_eq!(self.give(u64::MAX, input), Ok(()), "{input:?}");
    }

    pub(super) fn state(&self, id: DaemonId) -> State {
        self.supervisor.view(id).unwrap().state
    }

    pub(super) fn group(&self, index: Index) -> Option<GroupId> {
        (!self.groups.is_empty()).then(|| *index.get(&self.groups))
    }

    pub(super) fn process_of(&self, id: DaemonId) -> Option<u32> {
        self.processes.get(&id.slot).map(|process| process.incarnation)
    }

    pub(super) fn incarnation(&self, id: DaemonId) -> u32 {
        self.supervisor.view(id).unwrap().incarnation
    }

    pub(super) fn run(&mut self, id: DaemonId) {
        self.must(Input::Start(id));
        self.ready(id);
    }

    pub(super) fn ready(&mut self, id: DaemonId) {
        let incarnation = self.incarnation(id);
        self.must(Input::Ready { id, incarnation });
    }

    pub(super) fn exit(&mut self, id: DaemonId, exit: Exit) {
        let incarnation = self.incarnation(id);
        self.must(Input::Exited { id, incarnation, exit });
    }

    pub(super) fn pass(&mut self, length: Duration) {
        self.now = self.now.saturating_add(length);
        self.must(Input::Tick);
    }

    pub(super) fn spawned(&self) -> bool {
        self.last.iter().any(|effect| matches!(effect, Effect::Spawn { .. }))
    }

    /// Ends all faults: every process becomes ready, is healthy, and ends when told. Returns when
    /// nothing is on its way any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..1000 {
            let mut quiet = true;
            for id in self.supervisor.ids().collect::<Vec<_>>() {
                let view = self.supervisor.view(id).unwrap();
                match view.state {
                    State::Starting(Starting::Spawning { .. } | Starting::Initialising { .. }) => {
                        self.ready(id);
                    }
                    State::Stopping(_) => self.exit(id, Exit::Code(0)),
                    State::Paused => self.must(Input::Resume(id)),
                    State::Reloading { .. } => {
                        let incarnation = self.incarnation(id);
                        self.must(Input::Reloaded { id, incarnation });
                    }
                    State::Backoff { .. } => {}
                    _ => continue,
                }
                quiet = false;
            }
            if quiet {
                return;
            }
            if let Some(deadline) = self.supervisor.next_deadline() {
                self.now = self.now.max(deadline);
                self.give_signs_of_life();
                self.must(Input::Tick);
                self.answer_probes();
            }
        }
        panic!("never at rest: {:?}", self.states);
    }

    /// Who owes none need not mind. Two that are silent, and are started again later than their limit
    /// looks back, would never rest both at once.
    fn give_signs_of_life(&mut self) {
        for id in self.supervisor.ids().collect::<Vec<_>>() {
            let incarnation = self.incarnation(id);
            self.must(Input::Alive { id, incarnation });
        }
    }

    pub(super) fn answer_probes(&mut self) {
        for effect in self.last.clone() {
            if let Effect::Probe { id, incarnation, token, .. } = effect {
                self.must(Input::Probed { id, incarnation, token, healthy: true });
            }
        }
    }
}
