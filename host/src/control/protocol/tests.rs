//! What was published is held, and what is large still fits.

use serde_json::Value;

use super::*;
use crate::control::message::{encode, next_response, parse_request};

/// `docs/control-messages.json`: one of each message, and all words.
fn published() -> Value {
    serde_json::from_str(include_str!("../../../../docs/control-messages.json")).unwrap()
}

/// Whether all that is in `published` is in `said` too, with the same values.
fn contains(said: &Value, published: &Value) -> bool {
    match (said, published) {
        (Value::Object(said), Value::Object(published)) => published
            .iter()
            .all(|(name, value)| said.get(name).is_some_and(|said| contains(said, value))),
        (Value::Array(said), Value::Array(published)) => {
            said.len() == published.len()
                && said.iter().zip(published).all(|(said, value)| contains(said, value))
        }
        (said, published) => said == published,
    }
}

/// What a response is called. A new one is added here and to the published messages.
fn name_of(response: &Response) -> &'static str {
    match response {
        Response::Hello { .. } => "hello",
        Response::Ok => "ok",
        Response::Error { .. } => "error",
        Response::Outcome { .. } => "outcome",
        Response::Daemons { .. } => "daemons",
        Response::Event { .. } => "event",
        Response::Done => "done",
        Response::Sampling { .. } => "sampling",
        Response::History(_) => "history",
        Response::Change { .. } => "change",
        Response::Export { .. } => "export",
        Response::Other => "other",
    }
}

/// A field or variant that was renamed or removed, a value that is written otherwise: each fails here. What
/// was added is added to the file.
#[test]
fn what_was_published_is_still_said() {
    let published = published();
    let requests = published["requests"].as_array().unwrap();
    for request in requests {
        let read = parse_request(request.to_string().as_bytes()).unwrap();
        let said = serde_json::to_value(&read).unwrap();
        assert!(contains(&said, request), "{request} is said as {said}");
        assert_eq!(said["request"], read.name().as_str());
    }
    let names: Vec<_> = requests.iter().map(|one| one["request"].as_str().unwrap()).collect();
    let known = [
        "hello", "ps", "status", "start", "stop", "restart", "pause", "resume", "reload",
        "settled", "down", "events", "history", "changes", "export",
    ];
    assert_eq!(names, known);
    assert_eq!(names, RequestName::WORDS, "each request is published");

    let mut names = Vec::new();
    for response in published["responses"].as_array().unwrap() {
        let read: Response = serde_json::from_value(response.clone()).unwrap();
        let said = serde_json::to_value(&read).unwrap();
        assert!(contains(&said, response), "{response} is said as {said}");
        assert_eq!(said["response"], name_of(&read));
        names.push(name_of(&read));
        if let Response::Daemons { daemons } = read {
            let fields = serde_json::to_value(&daemons[0]).unwrap();
            let known = published["responses"][4]["daemons"][0].as_object().unwrap().len();
            assert_eq!(fields.as_object().unwrap().len(), known, "each field is published");
        }
    }
    let known = [
        "hello", "ok", "error", "outcome", "daemons", "event", "done", "sampling", "history",
        "change", "export",
    ];
    assert_eq!(names, known, "each response is published");
}

#[test]
fn the_words_that_were_published_are_those_that_are_said() {
    #[track_caller]
    fn check(what: &str, words: &[&str]) {
        let published = &published()["words"][what];
        let published: Vec<_> =
            published.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!(published, words, "{what}");
    }
    check("state", DaemonState::WORDS);
    check("health", HealthState::WORDS);
    check("unit", RateUnit::WORDS);
    check("kind", EventKind::WORDS);
    check("takes_effect", TakesEffect::WORDS);
    check("code", ErrorCode::WORDS);
}

/// `docs/control.md` speaks of each request, response and code.
#[test]
fn nothing_that_is_said_is_undocumented() {
    let text = include_str!("../../../../docs/control.md");
    let published = published();
    let messages = |which: &str, tag: &str| -> Vec<String> {
        let messages = published[which].as_array().unwrap();
        messages.iter().map(|one| one[tag].as_str().unwrap().to_owned()).collect()
    };
    let codes = ErrorCode::WORDS.iter().map(|code| (*code).to_owned());
    let all = messages("requests", "request").into_iter().chain(messages("responses", "response"));
    for word in all.chain(codes) {
        assert!(text.contains(&format!("`{word}`")), "{word}");
    }
}

fn row(name: &str, text: &str) -> DaemonRow {
    DaemonRow {
        name: name.to_owned(),
        isolation: "wos".to_owned(),
        state: DaemonState::Running,
        detail: text.to_owned(),
        pid: Some(u32::MAX),
        worker_pid: Some(u32::MAX),
        incarnation: u32::MAX,
        restarts: u64::MAX,
        health: HealthState::Healthy,
        health_detail: String::new(),
        uptime_ms: Some(u64::MAX),
        memory_bytes: Some(u64::MAX),
        processor_percent: Some(99.5),
        rate: Some(Rate { per_second: 0.5, unit: RateUnit::Messages }),
        metrics: (0..METRICS_MAX).map(|i| (format!("{i:064}"), f64::MIN)).collect(),
        last_exit: Some(text.to_owned()),
        next_restart_ms: Some(u64::MAX),
        log_path: "/z".repeat(100),
        waits_for: (0..64).map(|i| format!("{i:064}")).collect(),
        blocked_by: Some("b".repeat(64)),
        reason: text.to_owned(),
        way_out: text.to_owned(),
        command: text.to_owned(),
        policy: "on-failure".to_owned(),
        since_ms: Some(u64::MAX),
        processes: u32::MAX,
        lost_lines: u64::MAX,
        sources: vec![],
    }
}

/// What arrives of a response.
fn sent(response: &Response) -> Response {
    let mut frame = vec![0; wire::FRAME_BYTES_MAX];
    let bytes = encode(response, &mut frame).expect("fits");
    let mut decoder = wire::Decoder::new(vec![0; wire::FRAME_BYTES_MAX]);
    decoder.spare()[..bytes].copy_from_slice(&frame[..bytes]);
    decoder.filled(bytes);
    next_response(&mut decoder).expect("sound").expect("whole").expect("a response")
}

fn arrived(rows: Vec<DaemonRow>) -> Vec<DaemonRow> {
    let mut seen = Vec::new();
    for response in daemons_responses(rows) {
        match sent(&response) {
            Response::Daemons { daemons } => seen.extend(daemons),
            other => panic!("{other:?}"),
        }
    }
    seen
}

#[test]
fn the_largest_fleet_fits_its_frames_and_arrives_whole() {
    let text = "x".repeat(TEXT_BYTES_MAX);
    let rows: Vec<_> = (0..40).map(|i| row(&format!("d{i}"), &text)).collect();
    assert_eq!(arrived(rows.clone()), rows);
}

/// A daemon whose texts need six bytes for each of theirs, and one with an endless command line, take nobody
/// the sight of the fleet.
#[test]
fn a_row_that_fits_no_frame_is_cut() {
    let hostile = "\x01".repeat(TEXT_BYTES_MAX);
    let endless = DaemonRow { command: "y".repeat(1 << 20), ..row("c", "") };
    let rows = vec![row("a", "short"), row("b", &hostile), endless, row("d", "short")];
    let seen = arrived(rows.clone());
    let names: Vec<_> = seen.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert_eq!((&seen[0], &seen[3]), (&rows[0], &rows[3]));
    assert!(seen[1].reason.starts_with('\x01') && seen[1].reason.ends_with('…'));
    assert!(seen[2].command.starts_with('y') && seen[2].command.ends_with('…'));
}

#[test]
fn the_largest_history_fits_its_frame() {
    let sample = HistorySample { time_unix_us: u64::MAX, value: f64::MIN_POSITIVE };
    let samples = vec![sample; SAMPLES_PER_RESPONSE_MAX];
    let history = Response::History(FigureSamples { figure: "f".repeat(64), samples });
    assert_eq!(sent(&history), history);
}

/// What a daemon counts may be no number; JSON has none for it.
#[test]
fn a_figure_that_is_no_number_arrives_as_none() {
    let metrics = [("a".to_owned(), f64::NAN), ("b".to_owned(), 1.0)].into();
    let rows = arrived(vec![DaemonRow { metrics, ..DaemonRow::default() }]);
    assert!(rows[0].metrics["a"].is_nan());
    assert_eq!(rows[0].metrics["b"], 1.0);
}

#[test]
fn json_and_people_see_the_same_words() {
    for state in [DaemonState::Created, DaemonState::Waiting, DaemonState::Blocked] {
        assert_eq!(serde_json::json!(state), state.as_str());
    }
    for kind in [EventKind::SourceGap, EventKind::WorkerExited, EventKind::Exited] {
        assert_eq!(serde_json::json!(kind), kind.as_str());
    }
}
