//! A supervisor with the processes that its effects would have made; every effect is held against what
//! is allowed, and the invariants are checked after every input.

use super::*;

/// A supervisor and the processes that its effects would have made.
pub(super) struct World {
    pub(super) supervisor: Supervisor<Vec<Slot>, Vec<GroupSlot>>,
    pub(super) now: Instant,
    /// The incarnation of each daemon that has a process, and whether it was told to end.
    pub(super) processes: BTreeMap<u32, (u32, bool)>,
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
            && self.processes.get(&id.slot).is_some_and(|process| process.0 == incarnation)
            && self.supervisor.view(id).is_some()
        {
            self.processes.remove(&id.slot);
            self.paused.remove(&id.slot);
        }
        let mut effects = Vec::new();
        let result =
            self.supervisor.handle(self.now, entropy, input, &mut |effect| effects.push(effect));
        for effect in &effects {
            match effect {
                Effect::Changed { id, from, to } => {
                    assert_eq!(self.states.insert(id.slot, *to), Some(*from), "{input:?}");
                    assert_ne!(from, to);
                }
                Effect::Spawn { id, incarnation } => {
                    let before = self.processes.insert(id.slot, (*incarnation, false));
                    assert_eq!(before, None, "two processes at once: {input:?}");
                }
                Effect::Terminate { id, incarnation, .. } => {
                    let process = self.processes.get_mut(&id.slot);
                    assert_eq!(process, Some(&mut (*incarnation, false)), "{input:?}");
                    self.processes.insert(id.slot, (*incarnation, true));
                    assert!(!self.paused.contains(&id.slot), "what is paused can't answer");
                }
                Effect::Kill { id, incarnation } | Effect::Probe { id, incarnation, .. } => {
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
        self.last = effects;
        assert_eq!(self.supervisor.check_invariants(), Ok(()), "after {input:?}");
        for id in self.supervisor.ids() {
            let view = self.supervisor.view(id).unwrap();
            assert_eq!(Some(&view.state), self.states.get(&id.slot));
            assert_eq!(view.state.has_process(), self.processes.contains_key(&id.slot));
            let waits = view.state == State::Starting(Starting::Waiting);
            assert_eq!(view.waits_for.is_some(), waits);
        }
        result
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
        self.processes.get(&id.slot).map(|process| process.0)
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
                self.must(Input::Tick);
                self.answer_probes();
            }
        }
        panic!("never at rest: {:?}", self.states);
    }

    pub(super) fn answer_probes(&mut self) {
        for effect in self.last.clone() {
            if let Effect::Probe { id, incarnation, token, .. } = effect {
                self.must(Input::Probed { id, incarnation, token, healthy: true });
            }
        }
    }
}
