//! The runtime against a manager in a second thread, over a socket pair.

use std::io::Write as _;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use duende_core::wire::link::{
    Address, Command, Description, Event, Grants, HealthReport, Limits, Part, Payloads, ValueKind,
    payload_prefix,
};
use duende_core::wire::{Decoder, FRAME_BYTES_MAX, Hello, Role, encode};

use super::*;
use crate::{Context, Failure, Health, Instant, Level, Next, Sample, Wake};

const AT: Address = Address::of(7, 2);

/// While a test has it locked, a daemon that was told `hold` stays in its slice.
static HELD: Mutex<()> = Mutex::new(());

/// Keeps the last line in `state` and obeys some.
struct Keeper {
    greeting: String,
}

impl Daemon for Keeper {
    fn init(context: &mut Context<'_>) -> Result<Self, Failure> {
        let greeting = context.config().text("greeting").ok_or(Failure::config("no greeting"))?;
        context.state().set("born", b"")?;
        Ok(Self { greeting })
    }

    fn run(&mut self, wake: &Wake, context: &mut Context<'_>) -> Result<Next, Failure> {
        for message in context.receive("lines", 1)? {
            context.state().set("last", &message.payload)?;
            context.metric().counter_add("lines_total", 1)?;
            match &*message.payload {
                b"fail" => return Err(Failure::new("told to")),
                b"hold" => {
                    context.log(Level::Info, "in the slice");
                    drop(HELD.lock());
                }
                b"exit" => return Ok(Next::done()),
                b"nap" => return Ok(Next::Until(wake.now + Duration::from_millis(1))),
                _ => {}
            }
        }
        if wake.reasons.contains(crate::WakeReasons::RELOAD) {
            self.greeting =
                context.config().text("greeting").ok_or(Failure::config("no greeting any more"))?;
        }
        if wake.reasons.contains(crate::WakeReasons::RESUMED) {
            context.log(Level::Info, "it goes on");
        }
        if wake.reasons.contains(crate::WakeReasons::TIMER) {
            context.log(Level::Info, "the timer rang");
        }
        Ok(Next::Wait)
    }

    fn shutdown(&mut self, _: Instant, context: &mut Context<'_>) -> Result<Next, Failure> {
        context.state().delete("born")?;
        Ok(Next::done())
    }

    fn health_check(&self) -> Health {
        Health::degraded(self.greeting.clone())
    }

    fn metrics(&self) -> Vec<Sample> {
        vec![Sample::counter("not a name", 1.5), Sample::counter("figure_total", 1.5)]
    }
}

fn described(at: Address) -> impl Iterator<Item = Command<'static>> {
    let limits = Limits { state_bytes_max: 1_000, ..Limits::NONE };
    let grants = Grants::LOG.union(Grants::STATE).union(Grants::METRIC);
    Description { at, name: "keeper", image: "", level: 4, limits, grants }.commands()
}

/// The manager's end of the link.
struct Manager {
    link: UnixStream,
    signals: UnixStream,
    decoder: Decoder<Vec<u8>>,
    served: thread::JoinHandle<Result<(Outcome, u8), NativeError>>,
}

impl Manager {
    fn new() -> Self {
        let (link, peer) = UnixStream::pair().unwrap();
        let (signals, on_signal) = UnixStream::pair().unwrap();
        link.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let served = thread::spawn(move || Driver::<Keeper>::new(peer, on_signal)?.drive());
        let mut manager =
            Self { link, signals, decoder: Decoder::new(vec![0; FRAME_BYTES_MAX]), served };
        manager.greet();
        manager
    }

    fn started() -> Self {
        let mut manager = Self::new();
        let at = AT;
        described(AT).for_each(|command| manager.tell(&command));
        for command in [
            Command::ConfigEntry { at, key: "greeting", value: "good day", kind: ValueKind::Text },
            Command::StateEntry { at, key: "last", value: b"old" },
            Command::ChannelOpen { at, name: "lines", granted: true, window: 512 },
            Command::Start { at },
        ] {
            manager.tell(&command);
        }
        manager.hear(&["StateSet born", "SliceEnd 1", "Running"]);
        manager
    }

    /// Says the manager's hello, and hears the daemon's.
    fn greet(&mut self) {
        let ours = Hello::of(Role::MANAGER);
        let mut frame = [0; 128];
        let bytes = encode(&ours, &mut frame).unwrap();
        self.link.write_all(&frame[..bytes]).unwrap();
        while ours.hear(&mut self.decoder).unwrap().is_none() {
            let bytes = io::Read::read(&mut self.link, self.decoder.spare()).unwrap();
            assert!(bytes > 0);
            self.decoder.filled(bytes);
        }
    }

    fn tell(&mut self, command: &Command<'_>) {
        let mut frame = vec![0; FRAME_BYTES_MAX];
        let bytes = encode(command, &mut frame).unwrap();
        self.link.write_all(&frame[..bytes]).unwrap();
    }

    fn message(&mut self, sequence: u64, payload: &[u8]) {
        let joined = [&payload_prefix(Part::Whole, payload.len())[..], payload].concat();
        let payloads = Payloads::new(&joined);
        self.tell(&Command::Messages { at: AT, channel: 0, sequence, attempt: 1, payloads });
    }

    /// The next events must be these.
    fn hear(&mut self, expected: &[&str]) {
        for expected in expected {
            let heard = self.next_event().unwrap_or_else(|| panic!("end, not {expected}"));
            assert_eq!(&heard, expected);
        }
    }

    fn next_event(&mut self) -> Option<String> {
        loop {
            if let Some(event) = self.decoder.next::<Event<'_>>().unwrap() {
                return Some(shown(&event));
            }
            let bytes = io::Read::read(&mut self.link, self.decoder.spare()).unwrap();
            if bytes == 0 {
                return None;
            }
            self.decoder.filled(bytes);
        }
    }

    /// Nothing follows, and this is how it ended.
    fn ended(mut self) -> Result<(Outcome, u8), NativeError> {
        assert_eq!(self.next_event(), None);
        self.served.join().unwrap()
    }
}

fn shown(event: &Event<'_>) -> String {
    match event {
        Event::Running { at: AT, .. } => "Running".to_owned(),
        Event::StateSet { at: AT, key, .. } => format!("StateSet {key}"),
        Event::StateDelete { at: AT, key } => format!("StateDelete {key}"),
        Event::Consumed { at: AT, channel, sequence } => format!("Consumed {channel} {sequence}"),
        Event::CounterAdd { at: AT, name, delta } => format!("CounterAdd {name} {delta}"),
        Event::SliceEnd { at: AT, slice, memory_bytes: 0 } => format!("SliceEnd {slice}"),
        Event::Log { at: AT, text, .. } => format!("Log {text}"),
        Event::Health { at: AT, token, report: HealthReport::Degraded(text), memory_bytes: 0 } => {
            format!("Health {token} {text}")
        }
        Event::Sample { at: AT, token, name, counter: true, value } => {
            format!("Sample {token} {name} {value}")
        }
        Event::SamplesEnd { at: AT, token } => format!("SamplesEnd {token}"),
        Event::Health { at: AT, token, report: HealthReport::Paused, .. } => {
            format!("Health {token} paused")
        }
        Event::Reloaded { at: AT } => "Reloaded".to_owned(),
        Event::Exited { at: AT, outcome, reason, .. } => format!("Exited {outcome:?} {reason}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_slice_is_sent_whole_and_a_failed_one_not_at_all() {
    let mut manager = Manager::started();
    // Two messages at once: the daemon takes one in a slice, and is run again for the other.
    manager.message(1, b"x");
    manager.message(2, b"x");
    for slice in 1..=2 {
        manager.hear(&[
            "StateSet last",
            &format!("Consumed 0 {slice}"),
            "CounterAdd lines_total 1",
            &format!("SliceEnd {}", slice + 1),
        ]);
    }
    manager.message(3, b"fail");
    manager.hear(&["Exited Error run: told to"]);
    assert_eq!(manager.ended().unwrap().0, Outcome::Error);
}

#[test]
fn a_line_leaves_in_the_middle_of_its_slice() {
    let mut manager = Manager::started();
    let held = HELD.lock().unwrap();
    manager.message(1, b"hold");
    manager.hear(&["Log in the slice"]);
    drop(held);
    manager.hear(&["StateSet last", "Consumed 0 1", "CounterAdd lines_total 1", "SliceEnd 2"]);
}

#[test]
fn the_timer_wakes_it_and_an_end_of_its_own_is_graceful() {
    let mut manager = Manager::started();
    manager.message(1, b"nap");
    manager.hear(&["StateSet last", "Consumed 0 1", "CounterAdd lines_total 1", "SliceEnd 2"]);
    manager.hear(&["Log the timer rang"]);
    manager.message(2, b"exit");
    manager.hear(&["StateSet last", "Consumed 0 2", "CounterAdd lines_total 1", "SliceEnd 3"]);
    manager.hear(&["Exited Graceful it has done its work"]);
    assert_eq!(manager.ended().unwrap().0, Outcome::Graceful);
}

#[test]
fn questions_are_answered() {
    let mut manager = Manager::started();
    manager.tell(&Command::HealthCheck { at: AT, token: 5 });
    manager.tell(&Command::Metrics { at: AT, token: 6 });
    manager.hear(&["Health 5 good day", "Sample 6 figure_total 1.5", "SamplesEnd 6"]);
    manager.tell(&Command::Kill { at: AT });
    manager.hear(&["Exited Killed killed"]);
    assert_eq!(manager.ended().unwrap().0, Outcome::Killed);
}

#[test]
fn it_is_paused_resumed_and_reloaded_as_on_wos() {
    let mut manager = Manager::started();
    manager.tell(&Command::Pause { at: AT });
    manager.message(1, b"x");
    manager.tell(&Command::HealthCheck { at: AT, token: 1 });
    manager.hear(&["Health 1 paused"]);
    manager.tell(&Command::Resume { at: AT });
    manager.hear(&["Log it goes on"]);
    manager.hear(&["StateSet last", "Consumed 0 1", "CounterAdd lines_total 1", "SliceEnd 2"]);
    manager.tell(&Command::ConfigEntry {
        at: AT,
        key: "greeting",
        value: "good night",
        kind: ValueKind::Text,
    });
    manager.tell(&Command::Reload { at: AT });
    manager.hear(&["Reloaded"]);
    manager.tell(&Command::HealthCheck { at: AT, token: 2 });
    manager.hear(&["Health 2 good night"]);

    // SIGTERM reaches who is paused.
    manager.tell(&Command::Pause { at: AT });
    manager.signals.write_all(b"x").unwrap();
    manager.hear(&["StateDelete born", "SliceEnd 3", "Exited Graceful it was asked to stop"]);
    assert_eq!(manager.ended().unwrap().0, Outcome::Graceful);
}

#[test]
fn a_command_a_signal_and_the_managers_end_all_shut_it_down() {
    let mut manager = Manager::started();
    manager.tell(&Command::Shutdown { at: AT, grace_ns: 1 });
    manager.hear(&["StateDelete born", "SliceEnd 2", "Exited Graceful it was asked to stop"]);
    assert_eq!(manager.ended().unwrap().0, Outcome::Graceful);

    let mut manager = Manager::started();
    manager.signals.write_all(b"x").unwrap();
    manager.hear(&["StateDelete born", "SliceEnd 2", "Exited Graceful it was asked to stop"]);
    assert_eq!(manager.ended().unwrap().0, Outcome::Graceful);

    let manager = Manager::started();
    drop(manager.link);
    assert_eq!(manager.served.join().unwrap().unwrap().0, Outcome::Graceful);
}

#[test]
fn what_breaks_the_protocol_is_named() {
    let (at, payloads) = (AT, Payloads::new(&[0; 4]));
    let not_opened = Command::Messages { at, channel: 1, sequence: 1, attempt: 1, payloads };
    let again = Command::Create { at, name: "keeper", image: "", level: 4 };
    for command in [again, Command::Start { at }, not_opened] {
        let mut manager = Manager::started();
        manager.tell(&command);
        let ended = manager.ended();
        assert!(matches!(ended, Err(NativeError::Protocol(_))), "{command:?}: {ended:?}");
    }
    let mut manager = Manager::new();
    manager.link.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(matches!(manager.ended(), Err(NativeError::Frame(_))));
}

#[test]
fn what_is_told_to_another_is_not_heard() {
    let mut manager = Manager::started();
    let other = Address { daemon: 1, ..AT };
    manager.tell(&Command::Kill { at: other });
    manager.tell(&Command::HealthCheck { at: AT, token: 1 });
    manager.hear(&["Health 1 good day"]);
    described(other).for_each(|command| manager.tell(&command));
    // There is room for one: exit code 75, which waits.
    let refused = manager.next_event().unwrap();
    assert!(refused.contains("code: 75"), "{refused}");
    manager.tell(&Command::HealthCheck { at: AT, token: 2 });
    manager.hear(&["Health 2 good day"]);
}

#[test]
fn before_its_start_it_ends_at_once() {
    let mut manager = Manager::new();
    manager.signals.write_all(b"x").unwrap();
    assert_eq!(manager.ended().unwrap().0, Outcome::Graceful);

    let mut manager = Manager::new();
    described(AT).for_each(|command| manager.tell(&command));
    manager.tell(&Command::Shutdown { at: AT, grace_ns: 1 });
    manager.hear(&["Exited Graceful it was asked to stop before its start"]);
    assert_eq!(manager.ended().unwrap().0, Outcome::Graceful);
}

#[test]
fn an_init_that_fails_says_why() {
    let mut manager = Manager::new();
    described(AT).for_each(|command| manager.tell(&command));
    manager.tell(&Command::Start { at: AT });
    manager.hear(&["Exited Error init: no greeting"]);
    assert_eq!(manager.ended().unwrap().0, Outcome::Error);
}
