//! What a daemon sees of a pause and of a reload.

use super::*;
use crate::{Context, Wake, WakeReasons};

/// Says when it was woken and why, and asks for its next slice a second later.
struct Clock {
    unit: String,
}

fn unit(context: &mut Context<'_>) -> String {
    context.config().get("unit").unwrap_or_default()
}

impl Daemon for Clock {
    fn init(context: &mut Context<'_>) -> Result<Self, String> {
        Ok(Self { unit: unit(context) })
    }

    fn run(&mut self, wake: &Wake, context: &mut Context<'_>) -> Result<Next, String> {
        if wake.reasons.contains(WakeReasons::RELOAD) {
            self.unit = unit(context);
        }
        let seconds = wake.now.nanoseconds / 1_000_000_000;
        assert_eq!(context.monotonic(), wake.now, "a test's clock stands during a slice");
        context.log(Level::Info, &format!("{seconds} {}", self.unit))?;
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
