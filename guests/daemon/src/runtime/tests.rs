//! A manager that is played by the test, at the other end of a real socket pair.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use duende_core::wire::link::{
    Address, Command, Description, Event, Grants, HealthReport, Limits, ValueKind,
};
use duende_core::wire::{Decoder, FRAME_BYTES_MAX, Hello, Role, encode};
use tokio::sync::Notify;

use super::*;
use crate::notify::Notifier;
use crate::{CheckResult, DaemonId, DaemonMetrics, HealthCheck, HealthStatus};

const AT: Address = Address::of(3, 7);

/// How long the test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(20);

struct Manager {
    stream: UnixStream,
    decoder: Decoder<Vec<u8>>,
}

impl Manager {
    /// Hears what versions the daemon speaks, and says the manager's.
    fn greet(&mut self) {
        let ours = Hello::of(Role::MANAGER);
        let mut frame = [0; 128];
        let bytes = encode(&ours, &mut frame).unwrap();
        self.stream.write_all(&frame[..bytes]).unwrap();
        while ours.hear(&mut self.decoder).unwrap().is_none() {
            let bytes = self.stream.read(self.decoder.spare()).unwrap();
            assert!(bytes > 0);
            self.decoder.filled(bytes);
        }
    }

    fn send(&mut self, command: Command<'_>) {
        let mut frame = vec![0; FRAME_BYTES_MAX];
        let bytes = encode(&command, &mut frame).unwrap();
        self.stream.write_all(&frame[..bytes]).unwrap();
    }

    fn create(&mut self) {
        let (limits, grants) = (Limits { state_bytes_max: 0, ..Limits::NONE }, Grants::LOG);
        let said = Description { at: AT, name: "web", image: "", level: 4, limits, grants };
        said.commands().for_each(|command| self.send(command));
    }

    fn start(&mut self) {
        self.greet();
        self.create();
        let (key, value) = ("mode", "test");
        self.send(Command::ConfigEntry { at: AT, key, value, kind: ValueKind::Text });
        self.send(Command::Start { at: AT });
    }

    /// Takes the next event and gives it to `look`; `None` is the end of the stream.
    fn next<T>(&mut self, look: impl Fn(Option<&Event<'_>>) -> T) -> T {
        loop {
            if let Some(event) = self.decoder.next::<Event<'_>>().unwrap() {
                return look(Some(&event));
            }
            let bytes = self.stream.read(self.decoder.spare()).unwrap();
            if bytes == 0 {
                return look(None);
            }
            self.decoder.filled(bytes);
        }
    }

    fn expect(&mut self, expected: &Event<'_>) {
        self.next(|event| assert_eq!(event, Some(expected)));
    }

    fn expect_running(&mut self) {
        let pid = std::process::id();
        self.expect(&Event::Running { at: AT, pid });
    }

    fn expect_health(&mut self, token: u64, is_expected: impl Fn(&HealthReport<'_>) -> bool) {
        self.next(|event| match event {
            Some(Event::Health { at: AT, token: found, report, memory_bytes }) => {
                assert_eq!(*found, token);
                assert!(is_expected(report), "{report:?}");
                assert!(*memory_bytes > 0, "a process has resident memory");
            }
            other => panic!("{other:?}"),
        });
    }
}

/// Behaves as its fields say.
#[derive(Default)]
struct Probe {
    /// `init` waits for this.
    init_gate: Option<&'static Notify>,
    /// `health_check` waits for this.
    health_gate: Option<&'static Notify>,
    fails_init: bool,
    never_stops: bool,
    /// `run` ends as soon as it sees the request to stop, whether `shutdown` was called or not.
    is_prompt: bool,
    was_shut_down: Arc<AtomicBool>,
}

impl Daemon for Probe {
    fn id(&self) -> DaemonId {
        DaemonId::from_bits(1)
    }
    fn name(&self) -> &str {
        "probe"
    }
    async fn init(&mut self, config: &DaemonConfig) -> Result<(), DaemonError> {
        if let Some(gate) = self.init_gate {
            gate.notified().await;
        }
        if self.fails_init {
            return Err(DaemonError::Config("no such mode".to_owned()));
        }
        if config.name() == "web" {
            assert_eq!(config.get("mode"), Some("test"));
        }
        Ok(())
    }
    async fn run(&self, ctx: &DaemonContext) -> Result<ExitReason, DaemonError> {
        ctx.notify_ready();
        ctx.shutdown_requested().await;
        if self.never_stops {
            std::future::pending::<()>().await;
        }
        while !self.is_prompt && !self.was_shut_down.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        Ok(ExitReason::Graceful)
    }
    async fn shutdown(&self, _timeout: Duration) -> Result<(), DaemonError> {
        self.was_shut_down.store(true, Ordering::Relaxed);
        Ok(())
    }
    async fn health_check(&self) -> HealthStatus {
        if let Some(gate) = self.health_gate {
            gate.notified().await;
        }
        let result = CheckResult::Degraded("cold".to_owned());
        let check = HealthCheck { name: "cache", result };
        HealthStatus::from_checks(vec![check], Duration::ZERO)
    }
    fn metrics(&self) -> DaemonMetrics {
        DaemonMetrics::new().counter("requests_total", 5)
    }
}

/// Runs `probe` against a manager that does `play`; both must end in time.
fn with_manager(
    probe: Probe,
    play: impl FnOnce(&mut Manager) + Send + 'static,
) -> Result<ExitReason, DaemonError> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    let manager = std::thread::spawn(move || {
        let mut manager = Manager { stream: ours, decoder: Decoder::new(vec![0; FRAME_BYTES_MAX]) };
        play(&mut manager);
    });
    let ended = block_on(async {
        let ctx = DaemonContext::new(Notifier::default());
        live(probe, &ctx, Some(Link::new(theirs).unwrap())).await
    });
    manager.join().unwrap();
    ended
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(DEADLINE, future).await.unwrap() })
}

const STOP: Command<'_> = Command::Shutdown { at: AT, grace_ns: 10_000_000_000 };

fn expect_exited(manager: &mut Manager, outcome: Outcome, part_of_reason: &str) {
    manager.next(|event| match event {
        Some(Event::Exited { at: _, outcome: found, reason, .. }) => {
            assert_eq!(*found, outcome, "{reason}");
            assert!(reason.contains(part_of_reason), "{reason}");
        }
        other => panic!("{other:?}"),
    });
    manager.next(|event| assert_eq!(event, None, "nothing follows"));
}

#[test]
fn a_whole_life_over_the_link() {
    let ended = with_manager(Probe::default(), |manager| {
        manager.start();
        manager.expect_running();
        manager.send(Command::HealthCheck { at: AT, token: 11 });
        manager.expect_health(11, |report| *report == HealthReport::Degraded("cache: cold"));
        // Of another incarnation: no answer, no effect.
        let at = Address { incarnation: 6, ..AT };
        manager.send(Command::HealthCheck { at, token: 12 });
        manager.send(Command::Kill { at });
        manager.send(Command::Metrics { at: AT, token: 13 });
        let (name, counter, value) = ("requests_total", true, 5.0);
        manager.expect(&Event::Sample { at: AT, token: 13, name, counter, value });
        manager.expect(&Event::SamplesEnd { at: AT, token: 13 });
        manager.send(STOP);
        expect_exited(manager, Outcome::Graceful, "done");
    });
    assert!(matches!(ended, Ok(ExitReason::Graceful)), "{ended:?}");
}

#[test]
fn busy_is_answered_during_init_and_during_a_health_check() {
    static INIT: Notify = Notify::const_new();
    static HEALTH: Notify = Notify::const_new();
    let probe = Probe { init_gate: Some(&INIT), health_gate: Some(&HEALTH), ..Probe::default() };
    let ended = with_manager(probe, |manager| {
        let is_busy = |report: &HealthReport<'_>| matches!(report, HealthReport::Busy { .. });
        manager.start();
        manager.send(Command::HealthCheck { at: AT, token: 1 });
        manager.expect_health(1, is_busy);
        INIT.notify_one();
        manager.expect_running();
        manager.send(Command::HealthCheck { at: AT, token: 2 });
        manager.send(Command::HealthCheck { at: AT, token: 3 });
        manager.expect_health(3, is_busy);
        HEALTH.notify_one();
        manager.expect_health(2, |report| !is_busy(report));
        manager.send(STOP);
        expect_exited(manager, Outcome::Graceful, "done");
    });
    assert!(ended.is_ok(), "{ended:?}");
}

#[test]
fn failures_are_told_to_the_manager() {
    let probe = || Probe::default();
    let failing = Probe { fails_init: true, ..probe() };
    let stubborn = Probe { never_stops: true, ..probe() };
    let ended = with_manager(failing, |manager| {
        manager.start();
        expect_exited(manager, Outcome::Error, "no such mode");
    });
    assert!(matches!(ended, Err(DaemonError::Config(_))), "{ended:?}");

    let ended = with_manager(stubborn, |manager| {
        manager.start();
        manager.expect_running();
        manager.send(Command::Shutdown { at: AT, grace_ns: 1 });
        expect_exited(manager, Outcome::Error, "not stopped within");
    });
    assert!(matches!(ended, Err(DaemonError::ShutdownTimeout { .. })), "{ended:?}");

    let ended = with_manager(probe(), |manager| {
        manager.start();
        manager.expect_running();
        manager.send(Command::Kill { at: AT });
        expect_exited(manager, Outcome::Killed, "killed");
    });
    assert!(matches!(ended, Err(DaemonError::Killed)), "{ended:?}");

    let ended = with_manager(probe(), |manager| {
        manager.greet();
        manager.create();
        let (key, value): (_, &[u8]) = ("k", b"v");
        manager.send(Command::StateEntry { at: AT, key, value });
        expect_exited(manager, Outcome::Refused, "durable state");
    });
    assert!(matches!(ended, Err(DaemonError::Config(_))), "{ended:?}");
}

#[test]
fn a_manager_that_dies_does_not_end_the_daemon() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    let ctx = DaemonContext::new(Notifier::default());
    let outside = ctx.clone();
    let (dead, is_dead) = tokio::sync::oneshot::channel();
    let manager = std::thread::spawn(move || {
        let mut manager = Manager { stream: ours, decoder: Decoder::new(vec![0; FRAME_BYTES_MAX]) };
        manager.start();
        manager.expect_running();
        drop(manager);
        dead.send(()).unwrap();
    });
    let ended = block_on(async {
        let link = Link::new(theirs).unwrap();
        let stop = async {
            is_dead.await.unwrap();
            // Gives the daemon time to notice, and to end wrongly.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            outside.request_stop(Stop {
                cause: StopCause::Signal(Signal::Terminate),
                timeout: DEADLINE,
            });
        };
        tokio::join!(live(Probe::default(), &ctx, Some(link)), stop).0
    });
    manager.join().unwrap();
    assert!(matches!(ended, Ok(ExitReason::Graceful)), "{ended:?}");
}

#[test]
fn shutdown_is_called_even_if_run_ends_at_once() {
    let was_shut_down = Arc::new(AtomicBool::new(false));
    let probe = Probe { is_prompt: true, was_shut_down: was_shut_down.clone(), ..Probe::default() };
    let ctx = DaemonContext::new(Notifier::default());
    let ended = block_on(async {
        let signal = async {
            tokio::task::yield_now().await;
            ctx.request_stop(Stop {
                cause: StopCause::Signal(Signal::Interrupt),
                timeout: DEADLINE,
            });
        };
        tokio::join!(live(probe, &ctx, None), signal).0
    });
    assert!(matches!(ended, Ok(ExitReason::Graceful)), "{ended:?}");
    assert!(was_shut_down.load(Ordering::Relaxed));
}

#[test]
fn a_second_signal_does_not_wait() {
    let stop =
        Stop { cause: StopCause::Signal(Signal::Interrupt), timeout: Duration::from_secs(3_600) };
    let ctx = DaemonContext::new(Notifier::default());
    let probe = Probe { never_stops: true, ..Probe::default() };
    let ended = block_on(async {
        let signals = async {
            tokio::task::yield_now().await;
            ctx.request_stop(stop);
            tokio::task::yield_now().await;
            ctx.request_stop(stop);
        };
        tokio::join!(live(probe, &ctx, None), signals).0
    });
    assert!(matches!(ended, Err(DaemonError::Aborted)), "{ended:?}");
}
