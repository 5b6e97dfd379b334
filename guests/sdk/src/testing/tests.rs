//! What a daemon sees of a pause and of a reload.

use super::*;
use crate::{Context, Instant, Message, Wake, WakeReasons};

/// Says when it was woken and why, and asks for its next slice a second later.
struct Clock {
    unit: String,
}

fn unit(context: &mut Context<'_>) -> String {
    context.config().text("unit").unwrap_or_default()
}

impl Daemon for Clock {
    fn init(context: &mut Context<'_>) -> Result<Self, Failure> {
        Ok(Self { unit: unit(context) })
    }

    fn run(&mut self, wake: &Wake, context: &mut Context<'_>) -> Result<Next, Failure> {
        if wake.reasons.contains(WakeReasons::RELOAD) {
            self.unit = unit(context);
        }
        let seconds = wake.now.nanoseconds / 1_000_000_000;
        assert_eq!(context.monotonic(), wake.now, "a test's clock stands during a slice");
        context.log(Level::Info, format!("{seconds} {}", self.unit));
        Ok(Next::Until(wake.now + Duration::from_secs(1)))
    }
}

#[test]
fn a_pause_is_not_in_its_time_and_a_reload_is_seen_at_once() {
    let mut manager = Manager::new().with_config("unit", "s");
    let mut incarnation = manager.start::<Clock>().unwrap();
    let lines = |manager: &mut Manager| {
        manager.take_lines().into_iter().map(|(_, line)| line).collect::<Vec<_>>()
    };
    manager.slice(&mut incarnation).unwrap();
    manager.slice(&mut incarnation).unwrap();
    assert_eq!(lines(&mut manager), ["0 s", "1 s"]);

    manager.pause(&mut incarnation);
    manager.advance(Duration::from_secs(100));
    assert!(manager.slice(&mut incarnation).is_err(), "it is paused");
    assert!(manager.reload(&mut incarnation).is_err(), "it is paused");
    assert!(manager.health(&mut incarnation).is_err(), "it is paused");
    manager.resume(&mut incarnation).unwrap();
    assert!(manager.resume(&mut incarnation).is_err(), "it is not paused any more");
    manager.slice(&mut incarnation).unwrap();
    assert_eq!(lines(&mut manager), ["1 s", "2 s"]);

    manager.configure("unit", "seconds");
    manager.reload(&mut incarnation).unwrap();
    assert_eq!(lines(&mut manager), ["2 seconds"]);
}

/// Takes one message in a slice: fails on `fail`, gives up `bad`, wants three slices to stop, and takes
/// no unit but `s`.
struct Picky {
    slices_left: u32,
}

impl Daemon for Picky {
    fn init(_: &mut Context<'_>) -> Result<Self, Failure> {
        Ok(Self { slices_left: 3 })
    }

    fn run(&mut self, wake: &Wake, context: &mut Context<'_>) -> Result<Next, Failure> {
        if wake.reasons.contains(WakeReasons::RELOAD) && unit(context) != "s" {
            context.config().refuse("only s");
        }
        for message in context.receive("lines", 1)? {
            let Message { sequence, attempt, payload, .. } = message;
            context.log(Level::Info, format!("{sequence} for the {attempt}th time"));
            match &*payload {
                b"fail" => return Err(Failure::later("told to")),
                b"bad" => context.reject("lines", sequence, "it is bad")?,
                _ => {}
            }
        }
        if !wake.reasons.contains(WakeReasons::STOPPING) {
            return Ok(Next::Wait);
        }
        self.slices_left -= 1;
        Ok(if self.slices_left == 0 { Next::done() } else { Next::Again })
    }

    fn shutdown(&mut self, _: Instant, _: &mut Context<'_>) -> Result<Next, Failure> {
        Ok(Next::Again)
    }
}

#[test]
fn numbers_stay_attempts_grow_and_what_is_given_up_is_told() {
    let mut manager = Manager::new().with_channel("lines");
    for payload in ["x", "fail", "y"] {
        manager.send("lines", payload.as_bytes());
    }
    for _ in 0..2 {
        let mut incarnation = manager.start::<Picky>().unwrap();
        let failure = manager.run_until_idle(&mut incarnation).unwrap_err();
        assert_eq!((failure.code(), failure.to_string().as_str()), (75, "told to"));
    }
    let lines = manager.take_lines().into_iter().map(|(_, line)| line).collect::<Vec<_>>();
    assert_eq!(lines, ["1 for the 1th time", "2 for the 1th time", "2 for the 2th time"]);
    manager.channels[0].queue[0] = b"bad".to_vec();
    let mut incarnation = manager.start::<Picky>().unwrap();
    manager.run_until_idle(&mut incarnation).unwrap();
    assert_eq!(manager.take_rejected(), [("lines".to_owned(), 2, "it is bad".to_owned())]);
    assert_eq!(manager.waiting("lines"), 0);
}

#[test]
fn a_stop_takes_several_slices_and_a_configuration_is_refused() {
    let mut manager = Manager::new().with_config("unit", "s").with_channel("lines");
    let mut incarnation = manager.start::<Picky>().unwrap();
    manager.run_until_idle(&mut incarnation).unwrap();
    manager.configure("unit", "h");
    manager.reload(&mut incarnation).unwrap();
    assert_eq!(manager.take_refusal().as_deref(), Some("only s"));
    let ended = manager.shutdown(incarnation, Duration::from_secs(1)).unwrap();
    assert_eq!(ended, Outcome::done());
}

#[test]
fn logging_fails_no_slice() {
    struct Loud;
    impl Daemon for Loud {
        fn init(context: &mut Context<'_>) -> Result<Self, Failure> {
            context.log(Level::Info, "a".repeat(20_000));
            context.event(Level::Info, "n", &[("n", 3_u64.into()), ("ok", true.into())]);
            context.event(Level::Warn, "odd", &[("no name", "x".into())]);
            assert!(context.try_log(Level::Info, &"a".repeat(8_193)).is_err());
            Ok(Self)
        }
        fn run(&mut self, _: &Wake, _: &mut Context<'_>) -> Result<Next, Failure> {
            Ok(Next::Wait)
        }
    }
    let mut manager = Manager::new();
    manager.start::<Loud>().unwrap();
    let lines = manager.take_lines();
    let lengths = lines.iter().map(|(_, line)| line.len()).collect::<Vec<_>>();
    assert_eq!(lengths[..3], [8_192, 8_192, 3_616]);
    assert_eq!(lines[3].1, "n n=3 ok=true");
    assert_eq!(lines[4].1, "odd");
}
