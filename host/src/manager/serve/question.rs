//! What the command line asks: as verbs for the machine, and its answers as responses.
//!
//! What only shows something is answered from what the machine and the monitor know. A reload first
//! reads the fleet's file again: of it only the table `config` of the named daemons is taken; whatever
//! else changed needs a restart of the fleet, and is told to whoever asks what is not in force. A file that
//! is not valid changes nothing.

use std::sync::Arc;

use duende_core::wire::link::LogLevel;
use tokio::sync::mpsc;

use super::{
    super::{
        control_server::Question,
        decide::{Answer, Event, Outcome, QuestionId, Verb},
    },
    Manager,
};
use crate::{
    config::{
        self, NAME_BYTES_MAX, Overrides,
        suggest::{did_you_mean, listed},
    },
    control::protocol::{
        CONTROL_VERSION, CONTROL_VERSION_MIN, ConfigChange, ErrorCode, ManagerInfo, Request,
        Response, TakesEffect, daemons_responses,
    },
    platform::Surroundings,
};

/// Most changes of the file that are told of.
const CHANGES_MAX: usize = 1_000;
/// Most of them that are told in the fleet's log.
const CHANGES_SAID_MAX: usize = 10;

/// A question that the machine has.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) reply: mpsc::Sender<Response>,
    /// How many daemons it named: of one alone the answer is its own.
    pub(super) named: usize,
}

/// The responses, none if the question waits, or the refusal.
pub(super) type Answered = Result<Option<Vec<Response>>, Response>;

impl Manager {
    pub(super) fn take_question(&mut self, question: Question) {
        let Question { request, reply } = question;
        let answered = match request {
            Request::Hello { .. } => {
                let fleet = Box::new(self.info());
                Ok(Some(vec![Response::Hello { min: CONTROL_VERSION_MIN, fleet }]))
            }
            Request::Ps => {
                let mut responses = daemons_responses(self.rows());
                responses.push(Response::Done);
                Ok(Some(responses))
            }
            Request::Status { name } => {
                let verb = self.slot(&name).map(Verb::Figures);
                verb.map(|verb| self.ask(verb, 1, &reply))
            }
            Request::History { name, last_ms } => self.history(&name, last_ms),
            Request::Changes => self.changes().map(|changes| {
                let changes = changes.into_iter().map(|change| Response::Change { change });
                Some(changes.chain([Response::Done]).collect())
            }),
            Request::Start { names } => self.ask_for(&names, Verb::Start, &reply),
            Request::Stop { names } => self.ask_for(&names, Verb::Stop, &reply),
            Request::Restart { names } => self.ask_for(&names, Verb::Restart, &reply),
            Request::Pause { names } => self.ask_for(&names, Verb::Pause, &reply),
            Request::Resume { names } => self.ask_for(&names, Verb::Resume, &reply),
            Request::Reload { names } => self.reload(&names, &reply),
            Request::Settled => Ok(self.ask(Verb::Settled, 0, &reply)),
            Request::Events { follow } => {
                self.events(reply, follow);
                return;
            }
            Request::Export { name } => {
                self.export(name, reply);
                return;
            }
            Request::Down => {
                self.events_from_now(reply);
                let question = self.next_question();
                self.handle(Event::Asked { question, verb: Verb::Down });
                return;
            }
        };
        match answered {
            Ok(Some(responses)) => send_all(reply, responses),
            Ok(None) => {}
            Err(error) => send_all(reply, vec![error]),
        }
    }

    fn ask_for(
        &mut self,
        names: &[String],
        verb: fn(Vec<u32>) -> Verb,
        reply: &mpsc::Sender<Response>,
    ) -> Answered {
        let slots = self.slots(names)?;
        Ok(self.ask(verb(slots), names.len(), reply))
    }

    fn ask(
        &mut self,
        verb: Verb,
        named: usize,
        reply: &mpsc::Sender<Response>,
    ) -> Option<Vec<Response>> {
        self.forget_questions();
        let question = self.next_question();
        self.questions.insert(question, Asked { reply: reply.clone(), named });
        self.handle(Event::Asked { question, verb });
        None
    }

    /// Tells the machine of those who do not wait any more.
    fn forget_questions(&mut self) {
        let gone: Vec<QuestionId> = self
            .questions
            .iter()
            .filter(|(_, asked)| asked.reply.is_closed())
            .map(|(question, _)| *question)
            .collect();
        for question in gone {
            self.questions.remove(&question);
            self.handle(Event::Forgotten(question));
        }
    }

    fn next_question(&mut self) -> QuestionId {
        self.last_question = self.last_question.wrapping_add(1);
        QuestionId(self.last_question)
    }

    fn reload(&mut self, names: &[String], reply: &mpsc::Sender<Response>) -> Answered {
        let slots = self.slots(names)?;
        self.read_configs(&slots)?;
        Ok(self.ask(Verb::Reload(slots), names.len(), reply))
    }

    /// Makes every daemon that runs read its configuration: what SIGHUP means to a detached manager.
    pub(super) fn reload_all(&mut self) {
        let slots = self.running_slots();
        if let Err(Response::Error { message, .. }) = self.read_configs(&slots) {
            self.journal.say(LogLevel::Error, &message);
            return;
        }
        let question = self.next_question();
        if !slots.is_empty() {
            self.handle(Event::Asked { question, verb: Verb::Reload(slots) });
        }
        self.say_what_is_not_in_force();
    }

    /// What of the file a reload did not take, in the fleet's log: nobody waits for the answer to a signal.
    fn say_what_is_not_in_force(&mut self) {
        let (Ok(changes), Some(file)) = (self.changes(), &self.fleet.file) else { return };
        let file = file.display().to_string();
        for change in changes.iter().take(CHANGES_SAID_MAX) {
            self.journal.say(LogLevel::Warn, &change.in_words(&file));
        }
        if let Some(more) = changes.len().checked_sub(CHANGES_SAID_MAX).filter(|more| *more > 0) {
            self.journal.say(LogLevel::Warn, &format!("{file}: and {more} more changes"));
        }
    }

    /// What the file says now and the fleet does not do.
    fn changes(&self) -> Result<Vec<ConfigChange>, Response> {
        let Some(file) = &self.fleet.file else { return Ok(Vec::new()) };
        let checked = config::check(file, &Overrides::default(), &Surroundings::current());
        let now = checked.map_err(|error| Response::Error {
            code: ErrorCode::InvalidState,
            message: format!("the file is not valid now, and its changes take no effect: {error}"),
        })?;
        let running = |name: &str| {
            let slot = usize::try_from(self.decider.find(name)?).ok()?;
            self.configs.get(slot).map(AsRef::as_ref)
        };
        let changes = self.options.written.changes(&self.fleet, running, &now);
        let words = changes.into_iter().map(|change| ConfigChange {
            daemon: change.daemon.unwrap_or_default(),
            key: change.key,
            line: change.line.and_then(|line| u64::try_from(line).ok()),
            takes_effect: match change.takes_effect {
                config::TakesEffect::Reload => TakesEffect::Reload,
                config::TakesEffect::Up => TakesEffect::Up,
            },
        });
        Ok(words.take(CHANGES_MAX).collect())
    }

    /// Takes the tables of these daemons from the fleet's file.
    fn read_configs(&mut self, slots: &[u32]) -> Result<(), Response> {
        let Some(file) = self.fleet.file.clone() else { return Ok(()) };
        let surroundings = Surroundings::current();
        let fleet = config::load(&file, &Overrides::default(), &surroundings).map_err(|error| {
            let message = format!("nothing was reloaded: {error}");
            Response::Error { code: ErrorCode::InvalidState, message }
        })?;
        let mut changed = Vec::new();
        for (slot, config) in (0_u32..).zip(&mut self.configs) {
            if !slots.is_empty() && !slots.contains(&slot) {
                continue;
            }
            let Some(new) = fleet.daemon(&config.name) else { continue };
            if new.config != config.config {
                self.refusable.entry(slot).or_insert_with(|| config.config.clone());
                Arc::make_mut(config).config.clone_from(&new.config);
                changed.push(config.name.clone());
            }
        }
        if !changed.is_empty() {
            self.config_version = self.config_version.saturating_add(1);
            let detail = format!("version {}: {}", self.config_version, changed.join(", "));
            self.journal.record_config(self.config_version, &detail);
        }
        Ok(())
    }

    /// A daemon says what it makes of the table that it was told of. One that it refuses is not used by its
    /// next incarnation either.
    pub(super) fn settle_config(&mut self, slot: u32, is_refused: bool) {
        let before = self.refusable.remove(&slot);
        let config = usize::try_from(slot).ok().and_then(|slot| self.configs.get_mut(slot));
        if let (true, Some(before), Some(config)) = (is_refused, before, config) {
            Arc::make_mut(config).config = before;
        }
    }

    fn info(&mut self) -> ManagerInfo {
        ManagerInfo {
            version: CONTROL_VERSION,
            fleet: self.fleet.name.clone(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            log_dir: self.fleet.log_dir.to_string_lossy().into_owned(),
            config_file: self.fleet.file.as_ref().map(|file| file.to_string_lossy().into_owned()),
            health: self.decider.fleet_health(),
        }
    }

    /// The machine's answer in the words of the protocol.
    pub(super) fn responses(&mut self, answer: Answer, named: usize) -> Vec<Response> {
        match answer {
            Answer::Refused { code, message } => vec![Response::Error { code, message }],
            Answer::Figures { slot, figures } => {
                let Some(mut row) = self.row(slot) else { return vec![Response::Done] };
                row.metrics.extend(figures);
                vec![Response::Daemons { daemons: vec![row] }, Response::Done]
            }
            Answer::Outcomes(outcomes) => self.outcomes(&outcomes, named),
        }
    }

    fn outcomes(&self, outcomes: &[Outcome], named: usize) -> Vec<Response> {
        let refused: Vec<&Outcome> =
            outcomes.iter().filter(|outcome| outcome.refused.is_some()).collect();
        let end = match refused.as_slice() {
            [] => Response::Ok,
            [first, others @ ..] => {
                let code = first.refused.unwrap_or(ErrorCode::Failed);
                let message = if others.is_empty() {
                    first.detail.clone()
                } else {
                    let names: Vec<_> = refused.iter().map(|one| self.name(one.slot)).collect();
                    format!("{}; of {}: {}", first.detail, others.len() + 1, names.join(", "))
                };
                Response::Error { code, message }
            }
        };
        if named == 1 {
            return vec![end];
        }
        let rows = outcomes.iter().map(|outcome| Response::Outcome {
            name: self.name(outcome.slot).to_owned(),
            ok: outcome.refused.is_none(),
            detail: outcome.detail.clone(),
        });
        rows.chain([end]).collect()
    }

    fn name(&self, slot: u32) -> &str {
        self.decider.daemon(slot).map_or("", |daemon| daemon.spec().name.as_str())
    }

    pub(super) fn slot(&self, name: &str) -> Result<u32, Response> {
        self.decider.find(name).ok_or_else(|| {
            let mut names: Vec<_> =
                self.configs.iter().map(|config| config.name.as_str()).collect();
            names.sort_unstable();
            let help = did_you_mean(name, names.iter().copied(), || {
                format!("this fleet has {}", listed(names.iter().copied()))
            });
            let name: String = name.chars().take(NAME_BYTES_MAX).collect();
            let message = format!("no daemon is named `{name}`; {help}");
            Response::Error { code: ErrorCode::UnknownDaemon, message }
        })
    }

    /// The slots of these names; none of them are all.
    fn slots(&self, names: &[String]) -> Result<Vec<u32>, Response> {
        names.iter().map(|name| self.slot(name)).collect()
    }
}

/// Sends an answer without holding the manager up: a slow client is waited for elsewhere.
pub(super) fn send_all(reply: mpsc::Sender<Response>, responses: Vec<Response>) {
    tokio::spawn(async move {
        for response in responses {
            if reply.send(response).await.is_err() {
                return;
            }
        }
    });
}
