//! The lines of access logs, as `log-sentinel` reads them. The input's first line is a format (none: recognised), its
//! second one a line.
//!
//! What is promised:
//! 1. A format is taken, or refused at a column that it has.
//! 2. A line's end, and what a container's log puts around it, make no difference, in parts or whole.
//! 3. What is read is possible: a status has three digits.
//! 4. A format that is said to read a line reads it.
//! 5. What is shown of a line is printable, and short.
//! 6. A request whose text is the input comes back as it was written: in the combined format, as servers escape it, and
//!    in JSON.

use log_sentinel::{
    Format, FormatError, Misread, Reader, Reading, Record, SAMPLE_BYTES_MAX, nearest, sample,
};

/// 2026-11-21T09:15:15Z.
const AT: u64 = 1_795_252_515;
/// Longest input of which a request is made: a server writes no longer one.
const REQUEST_BYTES_MAX: usize = 8_192;

/// Checks one input.
pub fn check(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let (format, line) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let format = str::from_utf8(format).ok().and_then(check_format).unwrap_or_default();
    check_line(&format, line);
    check_request(input);
}

fn check_format(text: &str) -> Option<Format> {
    match text.parse() {
        Ok(format) => Some(format),
        Err(FormatError::Unknown(name)) => {
            assert_eq!(name, text);
            None
        }
        Err(FormatError::Pattern(error)) => {
            assert!((1..=text.chars().count() + 1).contains(&error.column), "{error}");
            assert!(!error.problem.is_empty());
            None
        }
    }
}

fn check_line(format: &Format, line: &[u8]) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let fresh = || Reader::new(format.clone(), None);
    let mut reader = fresh();
    let reading = reader.read(line);
    if !line.ends_with(b"\r") {
        for end in ["\n", "\r\n"] {
            assert_eq!(fresh().read(&[line, end.as_bytes()].concat()), reading);
        }
    }
    if let Reading::Request(record) = reading {
        assert!(record.status.is_none_or(|status| (100..1_000).contains(&status)), "{record:?}");
    }

    // A line that is wrapped already would be unwrapped once: it is its own only after that.
    let own = match format.read(line, None) {
        Ok(record) => Ok(Record { second: record.second.or(Some(AT)), ..record }),
        Err(misread) => Err(misread),
    };
    let cri = |tag: &str, text: &[u8]| {
        [b"2026-11-21T09:15:15.5Z stdout ", tag.as_bytes(), b" ", text].concat()
    };
    if !line.ends_with(b"\r") {
        assert_eq!(outcome(fresh().read(&cri("F", line))), own);
        let cut = line.len() / 2;
        let mut reader = fresh();
        assert_eq!(reader.read(&cri("P", &line[..cut])), Reading::Part);
        assert_eq!(outcome(reader.read(&cri("F", &line[cut..]))), own);
    }
    if let Ok(text) = str::from_utf8(line)
        && !line.ends_with(b"\r")
        && line.len() < REQUEST_BYTES_MAX
    {
        let log = serde_json::Value::from(format!("{text}\n"));
        let wrapped = format!(r#"{{"log":{log},"stream":"stdout","time":"2026-11-21T09:15:15Z"}}"#);
        assert_eq!(outcome(fresh().read(wrapped.as_bytes())), own);
    }

    if let Some((name, None)) = nearest(line) {
        let Ok(named) = name.parse::<Format>() else { panic!("{name} is no format") };
        assert!(named.read(line, None).is_ok(), "{name}");
    }
    let shown = sample(line);
    assert!(shown.chars().all(|shown| shown == '…' || (' '..='~').contains(&shown)), "{shown}");
    // Each byte takes four characters at most.
    assert!(shown.chars().count() <= 4 * SAMPLE_BYTES_MAX + 1);
}

fn outcome(reading: Reading<'_>) -> Result<Record, Misread> {
    match reading {
        Reading::Request(record) => Ok(record),
        Reading::Malformed(_, misread) => Err(misread),
        Reading::Part => panic!("a part"),
    }
}

/// A request whose line, agent and user are the input.
fn check_request(input: &[u8]) {
    if input.len() > REQUEST_BYTES_MAX {
        return;
    }
    let nginx: String = input
        .iter()
        .map(|byte| match byte {
            b'"' | b'\\' | ..b' ' | 0x7f.. => format!("\\x{byte:02X}"),
            byte => char::from(*byte).to_string(),
        })
        .collect();
    let apache = String::from_utf8_lossy(input).replace('\\', "\\\\").replace('"', "\\\"");
    let apache: String = apache.chars().filter(|character| !character.is_control()).collect();
    let expected =
        Record { second: Some(AT), status: Some(404), bytes: 77, latency_us: Some(5_000) };
    for text in [&nginx, &apache] {
        let line = format!(
            "192.0.2.9 - {nginx} [21/Nov/2026:09:15:15 +0000] \"GET {text} HTTP/1.1\" 404 77 \"-\" \"x{text}\" 0.005",
        );
        assert_eq!(Format::Auto.read(line.as_bytes(), None), Ok(expected), "{line}");
    }
    let text = String::from_utf8_lossy(input);
    let json = serde_json::json!({
        "@timestamp": "2026-11-21T09:15:15Z",
        "uri": text,
        "request": { &*text: [text, { "status": 500 }] },
        "status": 404,
        "bytes_sent": 77,
        "request_time": 0.005,
        "zz": text,
    });
    assert_eq!(Format::Auto.read(json.to_string().as_bytes(), None), Ok(expected), "{json}");
}
