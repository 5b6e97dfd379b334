//! What is released stays as it is, byte for byte.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::*;

const AT: Address = Address { daemon: 300, incarnation: 2, process: 1 };

/// The bytes of every variant of every released version. A file is added with a version, and none is
/// changed: whoever adds a variant adds a line to the newest.
const RELEASED: [(u16, &str); 1] = [(3, include_str!("../golden/v3.txt"))];

/// One of each command, in the order of their tags.
fn commands() -> Vec<Command<'static>> {
    let at = AT;
    let required = true;
    let payloads = Payloads::new(b"\x03\0\0\0one\0\0\0\0");
    let mut all = std::vec![
        Command::Create { at, name: "name", image: "image", level: 7 },
        Command::Setting { at, name: "memory", value: 1 << 40, required },
        Command::Grant { at, capability: "log", required },
        Command::ConfigEntry { at, key: "key", value: "1", kind: ValueKind::Text },
        Command::StateEntry { at, key: "key", value: b"value" },
        Command::ChannelOpen { at, name: "name", granted: true, window: 512 },
        Command::Start { at },
        Command::Messages { at, channel: 3, sequence: 400, attempt: 2, payloads },
        Command::Pause { at },
        Command::Resume { at },
        Command::Reload { at },
        Command::Shutdown { at, grace_ns: 1_000 },
        Command::Kill { at },
        Command::HealthCheck { at, token: 9 },
        Command::Metrics { at, token: 9 },
    ];
    for kind in [ValueKind::Integer, ValueKind::Number, ValueKind::Boolean, ValueKind::Array] {
        all.push(Command::ConfigEntry { at, key: "key", value: "1", kind });
    }
    all
}

/// One of each event, in the order of their tags, and then one of each word within them.
fn events() -> Vec<Event<'static>> {
    let at = AT;
    let mut all = std::vec![
        Event::Running { at, pid: 77 },
        Event::Log { at, level: LogLevel::Info, text: "text" },
        Event::StateSet { at, key: "key", value: b"value" },
        Event::StateDelete { at, key: "key" },
        Event::Consumed { at, channel: 3, sequence: 400 },
        Event::CounterAdd { at, name: "name", delta: 400 },
        Event::GaugeSet { at, name: "name", value: 1.5 },
        Event::SliceEnd { at, slice: 400, memory_bytes: 65_536 },
        Event::Health { at, token: 9, report: HealthReport::Healthy, memory_bytes: 65_536 },
        Event::Sample { at, token: 9, name: "name", counter: true, value: 1.5 },
        Event::SamplesEnd { at, token: 9 },
        Event::Pressure { at, held: Held::Memory, pressure: Pressure::Calm },
        Event::Reloaded { at },
        Event::Exited { at, outcome: Outcome::Graceful, code: 75, reason: "reason" },
        Event::ReloadRefused { at, reason: "reason" },
        Event::Rejected { at, channel: 3, sequence: 400, reason: "reason" },
    ];
    use LogLevel::{Critical, Debug, Error, Trace, Warn};
    for level in [Trace, Debug, Warn, Error, Critical] {
        all.push(Event::Log { at, level, text: "text" });
    }
    for report in [
        HealthReport::Degraded("why"),
        HealthReport::Unhealthy("why"),
        HealthReport::Busy { slice_ns: 400 },
        HealthReport::Paused,
    ] {
        all.push(Event::Health { at, token: 9, report, memory_bytes: 0 });
    }
    for pressure in [Pressure::Elevated, Pressure::Critical] {
        all.push(Event::Pressure { at, held: Held::State, pressure });
    }
    use Outcome::{Killed, Refused, SliceBudget, Trap};
    for outcome in [Outcome::Error, Trap, SliceBudget, Killed, Refused] {
        all.push(Event::Exited { at, outcome, code: 0, reason: "" });
    }
    all
}

fn encoded<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = [0; 256];
    postcard::to_slice(message, &mut bytes).unwrap().to_vec()
}

/// What stands in a golden file, for this build.
fn written() -> String {
    fn line<T: Serialize + core::fmt::Debug>(message: &T, text: &mut String) {
        let bytes = encoded(message);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("{hex} {message:?}\n"));
    }
    let mut text = String::new();
    commands().iter().for_each(|command| line(command, &mut text));
    events().iter().for_each(|event| line(event, &mut text));
    text
}

/// Each line of each golden file is what this build writes for the same message, and reads from the bytes.
#[test]
fn released_variants_keep_their_bytes() {
    let written = written();
    for (version, golden) in RELEASED {
        let ours: Vec<&str> = written.lines().collect();
        for line in golden.lines() {
            assert!(ours.contains(&line), "version {version} had: {line}\n\nnow:\n{written}");
        }
    }
    let (newest, golden) = RELEASED[RELEASED.len() - 1];
    assert_eq!(newest, LINK_VERSION, "a version that is spoken has its golden file");
    let missing: Vec<&str> =
        written.lines().filter(|line| !golden.lines().any(|known| known == *line)).collect();
    assert!(missing.is_empty(), "add to golden/v{newest}.txt:\n{}", missing.join("\n"));
}

/// Every variant has its line: the tags of what is listed are all that there are.
#[test]
fn the_golden_messages_are_complete() {
    let tag = |bytes: Vec<u8>| usize::from(bytes[0]);
    let command_tags: Vec<usize> = commands().iter().map(|one| tag(encoded(one))).collect();
    let event_tags: Vec<usize> = events().iter().map(|one| tag(encoded(one))).collect();
    // One further is no message.
    let (commands, events) = (15, 16);
    assert_eq!(command_tags[..commands], (0..commands).collect::<Vec<_>>());
    assert_eq!(event_tags[..events], (0..events).collect::<Vec<_>>());
    let noise = [0; 64];
    for (variants, is_command) in [(commands, true), (events, false)] {
        for number in 0..=variants {
            let mut bytes = noise;
            bytes[0] = u8::try_from(number).unwrap();
            let is_read = if is_command {
                postcard::take_from_bytes::<Command<'_>>(&bytes).is_ok()
            } else {
                postcard::take_from_bytes::<Event<'_>>(&bytes).is_ok()
            };
            assert_eq!(is_read, number < variants, "tag {number}, command: {is_command}");
        }
    }
}
