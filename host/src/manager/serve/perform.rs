//! Performs what the machine decided. What comes of it are further events.
//!
//! Nothing here decides: a failure is an event, or a line of the fleet's log.

use std::sync::Arc;

use duende_core::{
    epitaph::Epitaph,
    wire::link::{Address, LogLevel},
};

use super::{
    super::{
        decide::{Answer, Effect, Event, QuestionId},
        link::prepare::prepare,
    },
    Manager, Preparation,
};
use crate::{
    backend::{Heard, News},
    daemon_log::LogOrigin,
    image::{GoesOn, Progress},
    own_file,
};

/// The name of the flight recorder's dump, in the fleet's state directory.
const DUMP: &str = "flight-recorder.txt";

impl Manager {
    /// Gives the machine an event and performs what follows.
    pub(super) fn handle(&mut self, event: Event) {
        let (now, entropy) = (self.now(), super::entropy());
        for effect in self.decider.handle(now, entropy, event) {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Prepare(at) => self.prepare(at),
            Effect::Start(at) => self.start(at),
            Effect::Ask(at, ask) => {
                if let Some(config) = self.config(at.daemon) {
                    self.backends.ask(at, ask, &config);
                }
            }
            Effect::AskPlace(place) => self.backends.ask_place(place),
            Effect::EndPlace(place) => self.backends.end_place(place),
            Effect::CloseLink(at) | Effect::LetGo(at) => {
                if let Some(task) = self.preparing.remove(&at) {
                    task.abort();
                }
                self.prepared.remove(&at);
                self.backends.let_go(at);
            }
            Effect::Answer(question, answer) => self.answer(question, answer),
            Effect::Record { slot, incarnation, kind, detail, crash } => {
                let name =
                    slot.and_then(|slot| self.config(slot)).map(|config| config.name.clone());
                let name = name.unwrap_or_default();
                match crash {
                    Some(why) => {
                        self.journal.record_crash(&name, incarnation, kind, &detail, &why);
                    }
                    None => self.journal.record(&name, incarnation, kind, &detail),
                }
            }
            Effect::Say(level, line) => self.journal.say(level, &line),
            Effect::Log { at, level, own, text } => self.log(at, level, own, &text),
            Effect::Watch(at, pid) => {
                if let Ok(slot) = usize::try_from(at.daemon) {
                    self.sampler.watch(slot, pid);
                }
            }
            Effect::Dump(epitaph) => self.dump(&epitaph),
            Effect::End => self.is_over = true,
        }
    }

    /// Makes a daemon's image, and opens its state and sources. What its last incarnation committed is in the store first.
    fn prepare(&mut self, at: Address) {
        let Some(config) = self.config(at.daemon) else { return };
        let settled = self.settling.remove(&at.daemon);
        let channels = config.channels.iter().map(|channel| &channel.name);
        let deliveries =
            channels.map(|channel| self.deliveries.of(&config.name, channel)).collect();
        let (store, standard_input) = (self.store.clone(), self.standard_input.clone());
        let sender = self.prepared_sender.clone();
        let progress = sender.clone();
        let goes_on: GoesOn = Arc::new(move |how: Progress| {
            // The manager may be gone.
            let _ = progress.send((at, Preparation::Compiles(how)));
        });
        let images = (self.images.clone(), goes_on);
        let ready = prepare(images, store, config, deliveries, standard_input);
        let task = tokio::spawn(async move {
            if let Some(settled) = settled {
                settled.wait().await;
            }
            let prepared = ready.await;
            // The manager may be gone.
            let _ = sender.send((at, Preparation::Over(prepared.map(Box::new))));
        });
        self.preparing.insert(at, task.abort_handle());
    }

    pub(super) fn take_prepared(&mut self, at: Address, preparation: Preparation) {
        let prepared = match preparation {
            Preparation::Over(prepared) => prepared,
            Preparation::Compiles(how) if self.preparing.contains_key(&at) => {
                let words = how.to_string();
                return self.handle(Event::Heard(Heard::Of(at, News::Compiles { words })));
            }
            Preparation::Compiles(_) => return,
        };
        // Aborted too late: nobody waits for it.
        if self.preparing.remove(&at).is_none() {
            return;
        }
        let result = prepared.map(|prepared| {
            let loaded = &prepared.loaded;
            self.decider.go_on_from(at, loaded.counters.clone(), loaded.gauges.clone());
            self.prepared.insert(at, prepared);
        });
        self.handle(Event::Heard(Heard::Of(at, News::Prepared(result))));
    }

    fn start(&mut self, at: Address) {
        let Some(config) = self.config(at.daemon) else { return };
        let prepared = self.prepared.remove(&at).map(|prepared| *prepared);
        let settled = self.backends.start(at, &config, self.config_version, prepared);
        if let Some(settled) = settled {
            self.settling.insert(at.daemon, settled);
        }
    }

    fn log(&mut self, at: Address, level: LogLevel, own: bool, text: &str) {
        let origin = if own { LogOrigin::Log } else { LogOrigin::Duende };
        if let Some(log) = usize::try_from(at.daemon).ok().and_then(|slot| self.logs.get(slot)) {
            log.append(level, origin, text.as_bytes());
        }
    }

    /// What was logged and recorded is written, once everything that belongs to one event is done. A
    /// disk that keeps up is waited for, another one is not.
    pub(super) fn flush_logs(&mut self) {
        self.journal.flush();
        self.scribe.settle();
    }

    /// Writes what led to a halt, before anything else is done about it. Failing to write it is said
    /// and changes nothing.
    fn dump(&mut self, epitaph: &Epitaph) {
        let text = self.decider.dump(epitaph);
        let path = self.fleet.state_dir.join(DUMP);
        let line = match own_file::write(&path, text.as_bytes()) {
            Ok(()) => format!("what led to it is in {}", path.display()),
            Err(error) => format!("what led to it can't be written to {}: {error}", path.display()),
        };
        self.journal.say(LogLevel::Error, &line);
    }

    fn answer(&mut self, question: QuestionId, answer: Answer) {
        let Some(asked) = self.questions.remove(&question) else { return };
        let responses = self.responses(answer, asked.named);
        super::question::send_all(asked.reply, responses);
    }
}
