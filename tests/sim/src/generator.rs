//! The environment, played by chance: processes that spawn, get ready, crash, hang, exit late or never;
//! operators, clients, clocks, and bytes from outside.
//!
//! What the world asks of its environment is answered after a while, by a list of what is due: unless
//! this world's [`Swarm`] has its processes disobey. In between anything may happen.

use duende_core::supervise::Effect;
use duende_world::{
    CHUNK_BYTES_MAX, Chunk, DAEMONS, End, GROUPS, HANDLES, Input, LISTENERS, OWN,
    PAYLOAD_BYTES_MAX, PERMITS, Process, REMOVED, Seen, Step, TEMPLATES, World,
};

use crate::bytes;
use crate::draw::Draw;
use crate::oracle::Oracles;
use crate::swarm::{Clock, Entropy, Swarm};

/// How many kinds of inputs chance has to choose from: those of [`Generator::any`].
const KINDS: usize = 48;

const ENDS: [End; 12] = [
    End::Code(0),
    End::Code(1),
    End::Code(-1),
    End::Signal(15),
    End::Signal(11),
    End::Error,
    End::Trap,
    End::SliceBudget,
    End::Refused,
    End::Lost,
    End::Unavailable,
    End::Unavailable,
];

/// Makes the steps of one world.
#[derive(Debug)]
pub struct Generator {
    draw: Draw,
    swarm: Swarm,
    /// What the environment does, and when.
    due: Vec<(u64, Input)>,
    made: u64,
    incarnations: [u32; DAEMONS],
    /// The stream of frames, so that it is not cut at random everywhere.
    frames: bytes::Frames,
}

impl Generator {
    /// Of a world of a run.
    #[must_use]
    pub fn new(seed: u64, world: u64) -> Self {
        let mut draw = Draw::new(seed, world);
        let swarm = Swarm::new(&mut draw, KINDS);
        Self {
            draw,
            swarm,
            due: Vec::new(),
            made: 0,
            incarnations: [0; DAEMONS],
            frames: bytes::Frames::default(),
        }
    }

    /// The next step; `None` when the world is over.
    pub fn next(&mut self, world: &World, oracles: &Oracles) -> Option<Step> {
        self.made += 1;
        if self.made == 1 {
            let begin = Input::Begin(self.swarm.setup);
            let elapsed_ns = match self.swarm.clock {
                Clock::End => i64::MAX,
                _ => 0,
            };
            return Some(Step { elapsed_ns, entropy: 0, input: begin });
        }
        if self.made == 2 && self.swarm.clock == Clock::End {
            // Up to a few seconds before the end.
            let short_of_end = i64::try_from(self.draw.below(3_000_000_000)).unwrap_or(0);
            let elapsed_ns = i64::MAX - short_of_end;
            return Some(Step { elapsed_ns, entropy: 0, input: Input::Tick });
        }
        if self.made > self.swarm.steps {
            return None;
        }
        let now_ns = world.now().as_ns();
        let due = self.due.iter().position(|(at, _)| *at <= now_ns);
        if let Some(index) = due
            && self.draw.per_mille(self.swarm.prompt)
        {
            let (_, input) = self.due.swap_remove(index);
            if let Input::Alive(of) = input
                && oracles.daemons.is_current(of)
                && !self.draw.per_mille(self.swarm.disobeys)
            {
                self.later(now_ns, 5_000_000, Input::Alive(of));
            }
            return Some(self.step(0, input));
        }
        if self.draw.per_mille(self.swarm.prompt / 2) {
            // The next thing to be done: time passes until then.
            let next = self.due.iter().map(|(at, _)| *at).min();
            let tick = world.next_deadline().map(duende_core::time::Instant::as_ns);
            if let Some(at) = [next, tick].into_iter().flatten().min() {
                let elapsed_ns = i64::try_from(at.saturating_sub(now_ns)).unwrap_or(i64::MAX);
                return Some(self.step(elapsed_ns, Input::Tick));
            }
        }
        let elapsed_ns = self.elapsed_ns();
        let kind = self.swarm.kind(&mut self.draw);
        let input = self.any(kind, oracles);
        Some(self.step(elapsed_ns, input))
    }

    /// Takes note of what the world asks for.
    pub fn watch(&mut self, world_ns: u64, seen: &Seen<'_>) {
        let Seen::Effect(effect) = seen else { return };
        let process = |id: duende_core::supervise::DaemonId, incarnation| Process {
            slot: u8::try_from(id.slot()).unwrap_or(u8::MAX),
            incarnation,
        };
        let disobeys = self.draw.per_mille(self.swarm.disobeys);
        match **effect {
            Effect::Spawn { id, incarnation } => {
                let of = process(id, incarnation);
                self.incarnations[usize::from(of.slot)] = incarnation;
                if disobeys {
                    let end = self.draw.pick(&ENDS);
                    match self.draw.below(3) {
                        0 => drop(self.later(world_ns, 3_000_000, Input::Exited { of, end })),
                        1 => drop(self.later(world_ns, 100_000_000, Input::Ready(of))),
                        _ => {} // It hangs.
                    }
                    return;
                }
                let at = self.later(world_ns, 500_000, Input::Spawned(of));
                let at = self.later(at, 3_000_000, Input::Ready(of));
                if self.draw.per_mille(300) {
                    let end = self.draw.pick(&ENDS);
                    self.later(at, 80_000_000, Input::Exited { of, end });
                }
            }
            Effect::Terminate { id, incarnation, .. } => {
                let of = process(id, incarnation);
                if self.draw.per_mille(100) {
                    self.later(world_ns, 6_000_000, Input::Extend { of, by_us: 8_000 });
                }
                if !disobeys {
                    let end = self.draw.pick(&[End::Code(0), End::Signal(15), End::Code(1)]);
                    self.later(world_ns, 8_000_000, Input::Exited { of, end });
                }
            }
            Effect::Kill { id, incarnation } => {
                let of = process(id, incarnation);
                let within = match self.draw.below(3) {
                    _ if !disobeys => 1_000_000,
                    0 => return, // It stays, for this kill and perhaps for ever.
                    1 => 6_000_000,
                    _ => 500_000_000,
                };
                self.later(world_ns, within, Input::Exited { of, end: End::Signal(9) });
            }
            Effect::Changed { id, from, to } if to.is_up() && !from.is_up() => {
                let slot = u8::try_from(id.slot()).unwrap_or(u8::MAX);
                let of = Process { slot, incarnation: self.incarnations[usize::from(slot)] };
                self.later(world_ns, 5_000_000, Input::Alive(of));
            }
            Effect::Reload { id, incarnation } => {
                let of = process(id, incarnation);
                if !disobeys {
                    let refused = self.draw.per_mille(200);
                    let input =
                        if refused { Input::ReloadRefused(of) } else { Input::Reloaded(of) };
                    self.later(world_ns, 7_000_000, input);
                }
            }
            Effect::Probe { id, incarnation, token, .. } => {
                let of = process(id, incarnation);
                let healthy = !disobeys;
                if !disobeys || self.draw.per_mille(500) {
                    self.later(world_ns, 1_200_000, Input::Probed { of, token, healthy });
                }
            }
            _ => {}
        }
    }

    fn later(&mut self, from_ns: u64, within_ns: u64, input: Input) -> u64 {
        let mut at = from_ns.saturating_add(self.draw.below(within_ns));
        if self.swarm.clock == Clock::Coarse {
            at = at.div_ceil(1_000_000).saturating_mul(1_000_000);
        }
        if self.due.len() < 64 {
            self.due.push((at, input));
        }
        at
    }

    fn step(&mut self, elapsed_ns: i64, input: Input) -> Step {
        let decides = matches!(
            input,
            Input::Exited { .. } | Input::Parent(_) | Input::Tick | Input::Ready(_)
        );
        let entropy = match self.swarm.entropy {
            Entropy::Random if decides => self.draw.word(),
            Entropy::Ones if decides => u64::MAX,
            _ => 0,
        };
        Step { elapsed_ns, entropy, input }
    }

    fn elapsed_ns(&mut self) -> i64 {
        let upto = match self.swarm.clock {
            Clock::Steady | Clock::End => 20_000,
            Clock::Fast => 2_000_000,
            Clock::Coarse => {
                let ms = self.draw.pick(&[0, 0, 0, 1, 1, 2, 5, 10]);
                return ms * 1_000_000;
            }
            Clock::Stalled if self.draw.per_mille(950) => return 0,
            Clock::Stalled => 5_000_000,
            Clock::Wild => {
                let far = self.draw.pick(&[1_000, 1_000_000, 1_000_000_000, 3_600_000_000_000]);
                let ns = i64::try_from(self.draw.below(far)).unwrap_or(0);
                return if self.draw.per_mille(300) { -ns } else { ns };
            }
        };
        i64::try_from(self.draw.below(upto)).unwrap_or(0)
    }

    fn slot(&mut self) -> u8 {
        if self.draw.per_mille(self.swarm.stale) {
            return self.draw.pick(&[REMOVED, 8, 100]);
        }
        self.draw.byte(len(DAEMONS))
    }

    fn pocket(&mut self) -> u8 {
        if self.draw.per_mille(200) { OWN } else { self.draw.byte(len(HANDLES)) }
    }

    /// The process of some daemon, or one that was before it or will be after it.
    fn process(&mut self, oracles: &Oracles) -> Process {
        let slot = self.slot();
        let daemon = oracles.daemons.slots.get(usize::from(slot)).and_then(Option::as_ref);
        let current = daemon.and_then(|d| d.process).map_or(0, |process| process.incarnation);
        let incarnation = if self.draw.per_mille(self.swarm.stale) {
            self.draw.pick(&[current.wrapping_sub(1), current.wrapping_add(1), 0, u32::MAX])
        } else {
            current
        };
        Process { slot, incarnation }
    }

    fn rights(&mut self) -> u8 {
        self.draw.pick(&[0x40, 0x60, 0x60, 0x20, 0x61, 0xff, 0, 0x41])
    }

    fn length(&mut self) -> u8 {
        self.draw.byte(PAYLOAD_BYTES_MAX + 2)
    }

    #[expect(clippy::too_many_lines, reason = "a row for each kind of input")]
    fn any(&mut self, kind: usize, oracles: &Oracles) -> Input {
        match kind {
            0 => Input::Tick,
            1 => {
                let depends_on = if self.draw.per_mille(500) { 0 } else { self.draw.byte(255) };
                let group = self.draw.byte(6);
                Input::Add { template: self.draw.byte(TEMPLATES), depends_on, group }
            }
            2 => Input::Remove { slot: self.slot() },
            3 | 4 => Input::Start { slot: self.slot() },
            5 => Input::Stop { slot: self.slot() },
            6 => Input::Restart { slot: self.slot() },
            7 if self.draw.per_mille(200) => Input::StopAll,
            7 if self.draw.per_mille(100) => Input::KillAll,
            7 | 8 => Input::Spawned(self.process(oracles)),
            9 => Input::Ready(self.process(oracles)),
            10 => Input::Exited { of: self.process(oracles), end: self.draw.pick(&ENDS) },
            11 => Input::Probed {
                of: self.process(oracles),
                token: self.draw.below(6),
                healthy: self.draw.per_mille(500),
            },
            12 => Input::Wake { slot: self.slot() },
            13 => Input::Run {
                ran_us: match self.swarm.clock {
                    Clock::Coarse => self.draw.pick(&[0, 1_000, 2_000, 8_000]),
                    _ => u16::try_from(self.draw.below(12_000)).unwrap_or(0),
                },
                waits: self.draw.per_mille(500),
            },
            14 | 15 => {
                Input::Send { slot: self.slot(), handle: OWN, tag: 1, length: self.length() }
            }
            16 => Input::Send {
                slot: self.slot(),
                handle: self.pocket(),
                tag: self.draw.byte(3),
                length: self.length(),
            },
            17 => Input::Reserve { slot: self.slot() },
            18 => Input::Cancel { slot: self.slot() },
            19 => Input::Receive,
            20 if self.draw.per_mille(100) => Input::Abandon,
            20 => Input::Receive,
            21 => Input::Join { into: self.listener(), level: self.draw.byte(9) },
            22 => Input::Leave { from: self.listener() },
            23 => Input::Broadcast { length: self.length() },
            24 => Input::Take { from: self.listener() },
            25 => Input::Subscribe { into: self.listener() },
            26 => Input::Unsubscribe { from: self.listener() },
            27 => Input::Listen { from: self.listener() },
            28 => Input::Grant {
                slot: self.slot(),
                into: self.draw.byte(len(HANDLES)),
                rights: self.rights(),
                label: self.draw.byte(4),
                valid_us: self.draw.pick(&[0, 0, 1, 100, 1_000, 10_000]),
                scoped: self.draw.per_mille(300),
            },
            29 => Input::Delegate {
                from: self.slot(),
                handle: self.pocket(),
                to: self.slot(),
                into: self.draw.byte(len(HANDLES)),
                rights: self.rights(),
                scoped: self.draw.per_mille(300),
            },
            30 => Input::Use { slot: self.slot(), handle: self.pocket(), rights: self.rights() },
            31 => match self.draw.below(4) {
                0 => Input::Revoke { handle: self.draw.byte(len(HANDLES)) },
                1 => Input::RevokeBy { slot: self.slot(), handle: self.pocket() },
                2 => Input::RevokeLabel { label: self.draw.byte(4) },
                _ => Input::Reclaim { budget: self.draw.byte(20) },
            },
            32 => Input::Audit,
            33 => Input::Call { into: self.draw.byte(len(PERMITS)) },
            34 => Input::Answer {
                from: self.draw.byte(len(PERMITS)),
                success: self.draw.per_mille(400),
            },
            35 if self.draw.per_mille(100) => Input::CloseBreaker,
            35 => Input::Admit { cost: self.draw.byte(9) },
            36 => Input::Admit { cost: self.draw.pick(&[0, 1, 1, 2, 255]) },
            37 if self.draw.per_mille(100) => {
                Input::SetRate { tokens: self.draw.byte(5), burst: self.draw.byte(12) }
            }
            37 => Input::Offer { bytes: u16::try_from(self.draw.below(60)).unwrap_or(0) },
            38 => Input::Accept,
            39 => Input::AddGroup {
                into: self.draw.byte(len(GROUPS)),
                parent: self.draw.byte(len(GROUPS) + 1),
                limit: self.draw.pick(&[0, 1, 100, 1000]),
            },
            40 => match self.draw.below(5) {
                0 => Input::RemoveGroup { from: self.draw.byte(len(GROUPS)) },
                1 => Input::SetQuota {
                    group: self.draw.byte(len(GROUPS)),
                    limit: self.draw.pick(&[0, 1, 50, 100, 1000]),
                },
                _ => Input::Refund {
                    group: self.draw.byte(len(GROUPS)),
                    resource: self.draw.byte(5),
                    amount: self.draw.pick(&[0, 1, 10, 80, u16::MAX]),
                },
            },
            41 => Input::Charge {
                group: self.draw.byte(len(GROUPS)),
                resource: self.draw.byte(5),
                amount: self.draw.pick(&[0, 1, 5, 10, 80, u16::MAX]),
            },
            42 => Input::Observe { memory: self.draw.per_mille(500), tenths: self.draw.byte(21) },
            43 => Input::Measure {
                value_ns: u32::try_from(self.draw.word() >> (32 + self.draw.below(32)))
                    .unwrap_or(0),
            },
            44 => match self.draw.below(8) {
                0 => {
                    self.frames = bytes::Frames::default();
                    Input::Connect
                }
                1 => Input::Parent(bytes::parent(&mut self.draw, self.swarm.corrupt)),
                2 => Input::Members(bytes::members(&mut self.draw, self.swarm.corrupt)),
                _ => {
                    let mut chunk = Chunk::new();
                    let bytes = self.draw.below(1 + u64::from(len(CHUNK_BYTES_MAX)));
                    self.frames.fill(&mut self.draw, self.swarm.corrupt, &mut chunk, bytes);
                    Input::Frame(chunk)
                }
            },
            45 => match self.draw.below(6) {
                0 => Input::Reloaded(self.process(oracles)),
                1 => Input::ReloadRefused(self.process(oracles)),
                2 | 3 => Input::Extend {
                    of: self.process(oracles),
                    by_us: self.draw.pick(&[0, 1, 1_000, 5_000, 50_000, u64::MAX]),
                },
                _ => Input::Alive(self.process(oracles)),
            },
            46 => {
                let slot = self.slot();
                match self.draw.below(9) {
                    0 => Input::StartChain { slot },
                    8 => Input::RestartChain { slot },
                    1 => Input::StopChain { slot },
                    2 => Input::Forgive { slot },
                    3 | 4 => Input::Pause { slot },
                    5 | 6 => Input::Resume { slot },
                    _ => Input::Reload { slot },
                }
            }
            _ => Input::Dump,
        }
    }

    fn listener(&mut self) -> u8 {
        self.draw.byte(len(LISTENERS))
    }
}

/// A small number of the world's.
const fn len(count: usize) -> u8 {
    // All of them are below 256.
    #[expect(clippy::cast_possible_truncation, reason = "small")]
    let len = count as u8;
    len
}
