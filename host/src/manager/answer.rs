//! Answers what the command line asks. A question that has to wait — for a start, a stop, a
//! daemon's own figures — is put aside; it is looked at again after each event.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant as WallInstant},
};

use duende_core::{
    lifecycle::State,
    supervise::{DaemonId, Input},
    wire::link::{Address, Command},
};
use tokio::sync::mpsc;

use super::{Manager, control_server::Question, reason::failure_text};
use crate::control::protocol::{
    CONTROL_VERSION, ErrorCode, ManagerInfo, Request, Response, daemons_responses,
};

/// How long a daemon may take to tell its own figures; without them the answer has the others.
const FIGURES_TIMEOUT: Duration = Duration::from_secs(2);

/// A question that waits.
pub(super) struct Waiter {
    reply: mpsc::Sender<Response>,
    goal: Goal,
}

enum Goal {
    /// All of these are ready.
    Ready(Vec<DaemonId>),
    /// None of these has a process.
    Stopped(Vec<DaemonId>),
    /// None of these is reading its configuration.
    Reloaded(Vec<DaemonId>),
    /// One daemon's own figures.
    Figures {
        at: Address,
        token: u64,
        since: WallInstant,
        figures: BTreeMap<String, f64>,
        done: bool,
    },
}

impl Waiter {
    /// Answers it without its goal.
    pub(super) fn refuse(self, responses: Vec<Response>) {
        send_all(self.reply, responses);
    }
}

impl Manager {
    pub(super) fn take_question(&mut self, question: Question) {
        let Question { request, reply } = question;
        let answered = match request {
            Request::Hello { .. } => Ok(Some(vec![Response::Hello(Box::new(self.info()))])),
            Request::Ps => {
                let mut responses = daemons_responses(self.rows());
                responses.push(Response::Done);
                Ok(Some(responses))
            }
            Request::Status { name } => self.status(&name, &reply),
            Request::History { name, last_ms } => self.history(&name, last_ms),
            Request::Start { names } => self.start(&names, &reply),
            Request::Stop { names } => self.stop(&names, &reply),
            Request::Restart { names } => self.restart(&names, &reply),
            Request::Pause { names } => self.pause(&names),
            Request::Resume { names } => self.resume(&names),
            Request::Reload { names } => self.ask_reload(&names, &reply),
            Request::Settled => self.settled(&reply),
            Request::Events { follow } => {
                self.events(reply, follow);
                return;
            }
            Request::Down => {
                self.events_from_now(reply);
                self.stop_all();
                return;
            }
        };
        match answered {
            Ok(Some(responses)) => send_all(reply, responses),
            Ok(None) => {}
            Err(error) => send_all(reply, vec![error]),
        }
    }

    /// Looks at every question that waits.
    pub(super) fn answer_waiters(&mut self) {
        let waiters = std::mem::take(&mut self.waiters);
        for waiter in waiters {
            match self.answer(&waiter) {
                Some(responses) => send_all(waiter.reply, responses),
                None if waiter.reply.is_closed() => {}
                None => self.waiters.push(waiter),
            }
        }
    }

    /// When a waiter wants to be looked at although nothing happens.
    pub(super) fn waiter_deadline(&self) -> Option<WallInstant> {
        let deadline = |waiter: &Waiter| match &waiter.goal {
            Goal::Figures { since, .. } => since.checked_add(FIGURES_TIMEOUT),
            Goal::Ready(_) | Goal::Stopped(_) | Goal::Reloaded(_) => None,
        };
        self.waiters.iter().filter_map(deadline).min()
    }

    /// A daemon told one of its figures, or that there are no more.
    pub(super) fn take_figure(
        &mut self,
        of: Address,
        of_token: u64,
        figure: Option<&(String, f64)>,
    ) {
        for waiter in &mut self.waiters {
            if let Goal::Figures { at, token, figures, done, .. } = &mut waiter.goal
                && (*at, *token) == (of, of_token)
            {
                match figure {
                    Some((name, value)) => {
                        figures.insert(name.clone(), *value);
                    }
                    None => *done = true,
                }
            }
        }
    }

    fn answer(&mut self, waiter: &Waiter) -> Option<Vec<Response>> {
        match &waiter.goal {
            Goal::Ready(ids) => {
                let states: Vec<(DaemonId, State)> = ids
                    .iter()
                    .filter_map(|id| Some((*id, self.supervisor.view(*id)?.state)))
                    .collect();
                if let Some((id, failure)) = states.iter().find_map(|(id, state)| match state {
                    State::Failed(failure) => Some((*id, *failure)),
                    _ => None,
                }) {
                    let message = self.failure_message(id, &failure_text(failure));
                    return Some(vec![Response::Error { code: ErrorCode::Failed, message }]);
                }
                let settled = |state: &State| matches!(state, State::Running | State::Stopped(_));
                states.iter().all(|(_, state)| settled(state)).then(|| vec![Response::Ok])
            }
            Goal::Stopped(ids) => {
                let over = self.inputs.is_empty() && !ids.iter().any(|id| self.has_process(*id));
                over.then(|| vec![Response::Ok])
            }
            Goal::Reloaded(ids) => {
                let answer = if self.inputs.is_empty() { self.reloaded(ids) } else { None };
                answer.map(|answer| vec![answer])
            }
            Goal::Figures { at, since, figures, done, .. } => {
                let gone = self.daemon_mut(*at).is_none_or(|daemon| daemon.current(*at).is_none());
                if !done && !gone && since.elapsed() < FIGURES_TIMEOUT {
                    return None;
                }
                let slot = usize::try_from(at.daemon).ok()?;
                let mut row = self.row(slot)?;
                row.metrics.extend(figures.clone());
                Some(vec![Response::Daemons(vec![row]), Response::Done])
            }
        }
    }

    fn failure_message(&mut self, id: DaemonId, failure: &str) -> String {
        let slot = usize::try_from(id.slot()).unwrap_or(usize::MAX);
        let Some(row) = self.row(slot) else { return failure.to_owned() };
        let last = row.last_exit.map(|last| format!(" (last: {last})")).unwrap_or_default();
        format!("{} failed: {failure}{last}; see `duende logs {}`", row.name, row.name)
    }

    fn info(&mut self) -> ManagerInfo {
        ManagerInfo {
            version: CONTROL_VERSION,
            fleet: self.fleet.name.clone(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            log_dir: self.fleet.log_dir.to_string_lossy().into_owned(),
            config_file: self.fleet.file.as_ref().map(|file| file.to_string_lossy().into_owned()),
            health: self.fleet_health(),
        }
    }

    fn status(&mut self, name: &str, reply: &mpsc::Sender<Response>) -> Answered {
        let (slot, _) = self.find(name)?;
        let at = self.daemons.get(slot).and_then(|daemon| Some(daemon.incarnation.as_ref()?.at));
        let is_running = self
            .daemons
            .get(slot)
            .and_then(|daemon| self.supervisor.view(daemon.id))
            .is_some_and(|view| view.state == State::Running);
        if let Some(at) = at
            && is_running
            && let Some(outbox) = self.outbox_of(at)
        {
            self.next_token += 1;
            let token = self.next_token;
            // A fixed-size command always fits.
            let _ = outbox.send(&Command::Metrics { at, token });
            let (since, figures) = (WallInstant::now(), BTreeMap::new());
            let goal = Goal::Figures { at, token, since, figures, done: false };
            self.waiters.push(Waiter { reply: reply.clone(), goal });
            return Ok(None);
        }
        let row = self.row(slot).into_iter().collect();
        Ok(Some(vec![Response::Daemons(row), Response::Done]))
    }

    fn start(&mut self, names: &[String], reply: &mpsc::Sender<Response>) -> Answered {
        self.refuse_when_stopping()?;
        let ids = self.ids(names)?;
        for id in &ids {
            let state = self.supervisor.view(*id).map(|view| view.state);
            let refusal = match state {
                Some(
                    State::Starting(_) | State::Running | State::Reloading { .. } | State::Paused,
                ) => "is started already",
                Some(State::Backoff { .. }) => {
                    "is started already and waits for its next try; `duende restart` tries at once"
                }
                Some(State::Stopping(_)) => "is stopping; `duende restart` starts it afterwards",
                Some(State::Created | State::Stopped(_) | State::Failed(_)) | None => continue,
            };
            // With names, a second start is an error; without, what runs is passed over.
            if !names.is_empty() {
                let name = self.name(*id);
                return Err(invalid_state(format!("{name} {refusal}")));
            }
        }
        for id in &ids {
            self.inputs.push_back(Input::StartWithDependencies(*id));
        }
        self.wait(reply, Goal::Ready(ids))
    }

    fn stop(&mut self, names: &[String], reply: &mpsc::Sender<Response>) -> Answered {
        self.refuse_when_halted()?;
        let ids = self.ids(names)?;
        for id in &ids {
            self.inputs.push_back(Input::StopWithDependents(*id));
        }
        self.wait(reply, Goal::Stopped(ids))
    }

    fn has_process(&self, id: DaemonId) -> bool {
        self.supervisor.view(id).is_some_and(|view| view.state.has_process())
    }

    fn restart(&mut self, names: &[String], reply: &mpsc::Sender<Response>) -> Answered {
        self.refuse_when_stopping()?;
        let ids = self.ids(names)?;
        for id in &ids {
            self.inputs.push_back(Input::Restart(*id));
        }
        self.wait(reply, Goal::Ready(ids))
    }

    fn settled(&mut self, reply: &mpsc::Sender<Response>) -> Answered {
        self.refuse_when_stopping()?;
        let ids = self.ids(&[])?;
        self.wait(reply, Goal::Ready(ids))
    }

    fn pause(&mut self, names: &[String]) -> Answered {
        let ids = self
            .in_states(names, "paused", |state| matches!(state, State::Running | State::Paused))?;
        self.inputs.extend(ids.into_iter().map(Input::Pause));
        self.decide();
        Ok(Some(vec![Response::Ok]))
    }

    fn resume(&mut self, names: &[String]) -> Answered {
        let ids = self.in_states(names, "resumed", |state| matches!(state, State::Paused))?;
        self.inputs.extend(ids.into_iter().map(Input::Resume));
        self.decide();
        Ok(Some(vec![Response::Ok]))
    }

    fn ask_reload(&mut self, names: &[String], reply: &mpsc::Sender<Response>) -> Answered {
        let ids = self.in_states(names, "reloaded", |state| matches!(state, State::Running))?;
        self.read_configs(&ids)?;
        self.inputs.extend(ids.iter().copied().map(Input::Reload));
        self.wait(reply, Goal::Reloaded(ids))
    }

    /// The daemons of these names, if each of them is in one of the states that allow it.
    fn in_states(
        &self,
        names: &[String],
        what: &str,
        allowed: fn(State) -> bool,
    ) -> Result<Vec<DaemonId>, Response> {
        self.refuse_when_stopping()?;
        let ids = self.ids(names)?;
        for id in &ids {
            let state = self.supervisor.view(*id).map(|view| view.state);
            if !state.is_some_and(allowed) {
                let name = self.name(*id);
                let message = format!("{name} can't be {what} now; `duende ps` shows its state");
                return Err(invalid_state(message));
            }
        }
        Ok(ids)
    }

    fn wait(&mut self, reply: &mpsc::Sender<Response>, goal: Goal) -> Answered {
        // Decided before the goal is looked at: what was true before the question does not count.
        self.decide();
        self.waiters.push(Waiter { reply: reply.clone(), goal });
        Ok(None)
    }

    fn refuse_when_stopping(&self) -> Result<(), Response> {
        self.refuse_when_halted()?;
        if self.stopping {
            let message = "the manager is stopping: `duende up` starts the fleet again".to_owned();
            return Err(Response::Error { code: ErrorCode::Stopping, message });
        }
        Ok(())
    }

    pub(super) fn find(&self, name: &str) -> Result<(usize, DaemonId), Response> {
        let found =
            self.by_name.get(name).and_then(|slot| Some((*slot, self.daemons.get(*slot)?.id)));
        found.ok_or_else(|| {
            let mut names: Vec<_> = self.by_name.keys().map(String::as_str).collect();
            names.sort_unstable();
            Response::Error {
                code: ErrorCode::UnknownDaemon,
                message: format!(
                    "no daemon is named `{name}`; this fleet has {}",
                    names.join(", ")
                ),
            }
        })
    }

    /// The daemons of these names; all, if there are none.
    fn ids(&self, names: &[String]) -> Result<Vec<DaemonId>, Response> {
        if names.is_empty() {
            return Ok(self.daemons.iter().map(|daemon| daemon.id).collect());
        }
        names.iter().map(|name| self.find(name).map(|(_, id)| id)).collect()
    }

    fn name(&self, id: DaemonId) -> String {
        usize::try_from(id.slot())
            .ok()
            .and_then(|slot| self.daemons.get(slot))
            .map(|daemon| daemon.config.name.clone())
            .unwrap_or_default()
    }
}

/// The responses, none if the question waits, or the refusal.
pub(super) type Answered = Result<Option<Vec<Response>>, Response>;

fn invalid_state(message: String) -> Response {
    Response::Error { code: ErrorCode::InvalidState, message }
}

/// Sends an answer without holding the manager up: a slow client is waited for elsewhere.
fn send_all(reply: mpsc::Sender<Response>, responses: Vec<Response>) {
    tokio::spawn(async move {
        for response in responses {
            if reply.send(response).await.is_err() {
                return;
            }
        }
    });
}
