//! What the manager says: each command, and what of it waits for a slice boundary.

use alloc::{boxed::Box, format, string::String, vec::Vec};
use duende_core::{
    epitaph::Epitaph,
    sched::Level,
    wire::link::{
        Address, CHANNEL_MESSAGES_MAX, CHANNELS_MAX, Command, Event, HealthReport, Outcome,
        Payloads,
    },
};

use super::{Emit, Kernel, ProtocolError, ends::no_room, record::Entry};
use crate::{
    context::Context,
    executor::{Ending, Executor, ImageState, WakeReasons},
    inbox::Message,
    process::{Phase, Questions},
};

impl<E: Executor> Kernel<E> {
    /// Takes a command. A kernel that has halted takes none: see [`step`](Self::step).
    ///
    /// # Errors
    /// The command breaks the protocol.
    pub fn command(&mut self, command: Command<'_>, emit: Emit<'_>) -> Result<(), ProtocolError> {
        if self.halted.is_some() {
            return Ok(());
        }
        if let Some(entry) = Entry::of(&command) {
            self.record(self.shared.machine.monotonic_ns(), entry);
        }
        match command {
            Command::Create { at, name, image, level } => {
                if self.table.row_of(at).is_some() {
                    return Err(ProtocolError::AddressInUse(at));
                }
                let level = Level::new(level).ok_or(ProtocolError::NoSuchLevel(level))?;
                self.create(at, name, image, level, emit);
            }
            Command::Setting { at, name, value, required } => {
                if let Some(context) = self.described(at)?
                    && !context.set_limit(name, value)
                    && required
                {
                    self.refuse(at, format!("this WOS does not know the limit {name}"));
                }
            }
            Command::Grant { at, capability, required } => {
                if let Some(context) = self.described(at)?
                    && !context.grant(capability)
                    && required
                {
                    self.refuse(at, format!("this WOS does not know the capability {capability}"));
                }
            }
            Command::ConfigEntry { at, key, value, kind } => {
                if let Some(row) = self.table.row_of(at)
                    && let Some(process) = self.table.get_mut(row)
                    && !process.configure(key, value, kind)
                {
                    return Err(ProtocolError::TooMany(at));
                }
            }
            Command::StateEntry { at, key, value } => {
                if let Some(context) = self.described(at)?
                    && !context.load_state(key, value)
                {
                    let ending = no_room("this WOS has no memory left for its state".into());
                    if let Some(row) = self.table.row_of(at) {
                        self.end_as_said(row, ending);
                    }
                }
            }
            Command::ChannelOpen { at, name, granted, window } => {
                let window = usize::try_from(window).unwrap_or(usize::MAX);
                if let Some(context) = self.described(at)?
                    && !context.open_channel(name, granted, window)
                {
                    return Err(ProtocolError::TooMany(at));
                }
            }
            Command::Start { at } => {
                let pid = self.table.row_of(at).and_then(|row| self.table.get(row)).map(|p| p.pid);
                if let (Some(context), Some(pid)) = (self.described(at)?, pid) {
                    context.begin(pid);
                }
                if let Some(row) = self.table.row_of(at) {
                    self.load(row);
                }
            }
            Command::Messages { at, channel, sequence, attempt, payloads } => {
                self.deliver(at, channel, sequence, attempt, payloads)?;
            }
            Command::Pause { at } => self.pause(at, emit),
            Command::Resume { at } => self.resume(at),
            Command::Reload { at } => self.reload(at)?,
            Command::Shutdown { at, grace_ns } => {
                self.shut_down(at, grace_ns);
            }
            Command::Kill { at } => {
                if let Some(row) = self.table.row_of(at) {
                    self.end(row, Outcome::Killed, "killed".into());
                }
            }
            Command::HealthCheck { at, token } => self.check_health(at, token, emit),
            Command::Metrics { at, token } => self.ask_metrics(at, token, emit),
        }
        self.reap(emit);
        self.tell_pressure(emit);
        Ok(())
    }

    /// The executor has made an image ready, or found it unusable: whoever waits for it goes on.
    pub fn image_settled(&mut self, image: &str, emit: Emit<'_>) {
        let waiting: Vec<u32> = self
            .table
            .rows()
            .filter(|(_, process)| {
                matches!(&process.phase, Phase::Loading { image: wanted, .. } if wanted == image)
            })
            .map(|(row, _)| row)
            .collect();
        for row in waiting {
            self.load(row);
        }
        self.reap(emit);
    }

    fn create(&mut self, at: Address, name: &str, image: &str, level: Level, emit: Emit<'_>) {
        let row = self.quotas.open().and_then(|accounts| {
            let groups = accounts.groups();
            let context = Context::new(at, name, accounts, self.shared.clone());
            self.table.insert(at, name, image, Box::new(context), groups)
        });
        let Some(row) = row else {
            let mut text = format!(
                "this WOS is full: it has room for {} processes, and all of it is taken",
                self.table.rows_max()
            );
            if let Some(why) = self.shared.machine.room() {
                text = format!("{text}; {why}");
            }
            let Ending { code, text } = no_room(text);
            return emit(Event::Exited { at, outcome: Outcome::Error, code, reason: &text });
        };
        if let Some(process) = self.table.get_mut(row) {
            process.level = level;
        }
        // The scheduler has a slot for each row.
        if let Err(error) = self.scheduler.add(row, level) {
            self.halt(Epitaph::new(format_args!("{error}")));
        }
    }

    /// Ends a process that can't be what its description says.
    fn refuse(&mut self, at: Address, reason: String) {
        if let Some(row) = self.table.row_of(at) {
            self.end(row, Outcome::Refused, reason);
        }
    }

    /// The context of a process that is still being described; none if there is no such process, or its
    /// description was refused.
    fn described(&mut self, at: Address) -> Result<Option<&mut Context>, ProtocolError> {
        let Some(row) = self.table.row_of(at) else { return Ok(None) };
        match self.table.get_mut(row).map(|process| &mut process.phase) {
            Some(Phase::Created { context, .. }) => Ok(Some(context)),
            Some(Phase::Zombie { .. }) => Ok(None),
            Some(_) => Err(ProtocolError::AlreadyStarted(at)),
            None => Ok(None),
        }
    }

    fn load(&mut self, row: u32) {
        let Some(process) = self.table.get_mut(row) else { return };
        let (Phase::Created { image, context } | Phase::Loading { image, context }) =
            process.take_phase()
        else {
            return self.halt(Epitaph::new(format_args!("row {row} is loaded twice")));
        };
        match self.executor.image(&image) {
            ImageState::Ready(ready) => {
                process.phase = Phase::Boundary(self.executor.create(ready, context));
                self.enqueue(row);
            }
            ImageState::Pending => process.phase = Phase::Loading { image, context },
            ImageState::Unusable(reason) => self.end(row, Outcome::Refused, reason),
            ImageState::Unavailable(reason) => self.end(row, Outcome::Unavailable, reason),
        }
    }

    fn deliver(
        &mut self,
        at: Address,
        channel: u8,
        sequence: u64,
        attempt: u32,
        payloads: Payloads<'_>,
    ) -> Result<(), ProtocolError> {
        let Some(row) = self.table.row_of(at) else { return Ok(()) };
        let Some(process) = self.table.get_mut(row) else { return Ok(()) };
        let count = payloads.count().ok_or(ProtocolError::Malformed(at))?;
        let numbers = sequence..=u64::MAX;
        let messages = numbers.zip(payloads.iter()).map(|(sequence, (part, payload))| Message {
            sequence,
            attempt,
            part,
            payload: payload.into(),
        });
        let in_window = match &mut process.phase {
            Phase::Created { context, .. } | Phase::Loading { context, .. } => {
                context.deliver(channel, messages)
            }
            Phase::Boundary(instance) => self
                .executor
                .context(instance)
                .is_some_and(|context| context.deliver(channel, messages)),
            Phase::Open { .. } => {
                // What one slice may find beside what it found at its beginning; each channel's own
                // window is checked when the slice is over.
                let has_room = process.arrived.len().saturating_add(count)
                    <= CHANNELS_MAX * CHANNEL_MESSAGES_MAX;
                if has_room {
                    process.arrived.extend(messages.map(|message| (channel, message)));
                }
                has_room
            }
            Phase::Zombie { .. } => return Ok(()),
        };
        if !in_window {
            return Err(ProtocolError::OutsideWindow(at));
        }
        process.reasons.insert(WakeReasons::MESSAGE);
        self.enqueue(row);
        Ok(())
    }

    fn reload(&mut self, at: Address) -> Result<(), ProtocolError> {
        let Some(row) = self.table.row_of(at) else { return Ok(()) };
        let Some(process) = self.table.get_mut(row) else { return Ok(()) };
        if matches!(process.phase, Phase::Created { .. }) {
            return Err(ProtocolError::NotStarted(at));
        }
        process.reload();
        self.enqueue(row);
        Ok(())
    }

    fn shut_down(&mut self, at: Address, grace_ns: u64) {
        let Some(row) = self.table.row_of(at) else { return };
        if let Some(Phase::Created { .. } | Phase::Loading { .. }) =
            self.table.get(row).map(|process| &process.phase)
        {
            // There is nothing yet that could be asked.
            let reason = "it was asked to stop before its start";
            return self.end(row, Outcome::Graceful, reason.into());
        }
        if self.table.get(row).is_some_and(|process| process.stop_deadline_ns.is_some()) {
            // It was asked, and goes on until it is done.
            return;
        }
        // A pause must not keep anybody from being stopped.
        self.resume(at);
        let deadline_ns = self.shared.machine.monotonic_ns().saturating_add(grace_ns);
        self.ask(at, |questions| {
            questions.shutdown_deadline_ns.get_or_insert(deadline_ns);
        });
    }

    fn ask(&mut self, at: Address, ask: impl FnOnce(&mut Questions)) {
        if let Some(row) = self.table.row_of(at)
            && let Some(process) = self.table.get_mut(row)
        {
            ask(&mut process.questions);
            self.enqueue(row);
        }
    }

    fn check_health(&mut self, at: Address, token: u64, emit: Emit<'_>) {
        let Some(process) = self.table.row_of(at).and_then(|row| self.table.get(row)) else {
            return;
        };
        let memory_bytes = process.memory_bytes;
        let report = if process.hold.is_still() {
            HealthReport::Paused
        } else if let Phase::Open { .. } = process.phase {
            let slice_ns =
                self.shared.machine.monotonic_ns().saturating_sub(process.slice_began_ns);
            HealthReport::Busy { slice_ns }
        } else {
            self.ask(at, |questions| Questions::ask(&mut questions.health, token));
            if let Some(row) = self.table.row_of(at) {
                self.hurry(row);
            }
            return;
        };
        emit(Event::Health { at, token, report, memory_bytes });
    }

    fn ask_metrics(&mut self, at: Address, token: u64, emit: Emit<'_>) {
        let row = self.table.row_of(at);
        if row.and_then(|row| self.table.get(row)).is_some_and(|process| process.hold.is_still()) {
            emit(Event::SamplesEnd { at, token });
        } else {
            self.ask(at, |questions| Questions::ask(&mut questions.metrics, token));
        }
    }
}
