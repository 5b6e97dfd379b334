//! A request, written as each server writes it, is read back: by the format's name, and recognised.

use proptest::prelude::*;

use crate::time::tests::{clf_text, iso_text};
use crate::{Format, Reader, Reading, Record, Unit};

/// What stands in a line beside what is kept of it.
#[derive(Clone, Debug)]
struct Rest {
    zone: u64,
    user: String,
    request: String,
    agent: String,
}

/// A name, the request time's resolution in microseconds, and how a record is written; the status and the time of day
/// may be missing where the line can do without.
type Written = (&'static str, u64, fn(&Record, &Rest) -> String);

fn status(record: &Record) -> String {
    record.status.map_or("-".to_owned(), |status| status.to_string())
}

/// Seconds with as many digits as the resolution has, or `-`.
fn seconds(record: &Record, digits: usize) -> String {
    record.latency_us.map_or("-".to_owned(), |us| {
        let fraction = format!("{:06}", us % 1_000_000);
        format!("{}.{}", us / 1_000_000, &fraction[..digits])
    })
}

fn combined(record: &Record, rest: &Rest) -> String {
    format!(
        r#"192.0.2.9 - {} [{}] "{}" {} {} "-" "{}""#,
        rest.user,
        clf_text(record.second.unwrap_or(0), rest.zone),
        rest.request,
        status(record),
        record.bytes,
        rest.agent
    )
}

const FORMATS: &[Written] = &[
    ("common", 1_000, |record, rest| {
        let line = combined(record, rest);
        let (line, _) = line.rsplit_once(" \"-\" \"").unwrap();
        format!("{line} {}", seconds(record, 3))
    }),
    ("combined", 1_000, |record, rest| {
        format!(
            "{} \"203.0.113.9, 198.51.100.7\" rt={}",
            combined(record, rest),
            seconds(record, 3)
        )
    }),
    ("combined", 1, |record, rest| format!("{} {}", combined(record, rest), seconds(record, 6))),
    ("vhost_combined", 1_000, |record, rest| {
        format!("www.example.net:443 {} {}", combined(record, rest), seconds(record, 3))
    }),
    ("traefik", 1_000, |record, rest| {
        let ms = record.latency_us.unwrap_or(0) / 1_000;
        format!(r#"{} 7 "web@docker" "http://192.0.2.40:80" {ms}ms"#, combined(record, rest))
    }),
    ("traefik", 1, |record, rest| {
        format!(
            r#"{{"DownstreamContentSize":{},"DownstreamStatus":{},"Duration":{},"RequestPath":"{}","StartUTC":"{}"}}"#,
            record.bytes,
            record.status.unwrap_or(0),
            record.latency_us.unwrap_or(0) * 1_000,
            rest.request,
            iso_text(record.second.unwrap_or(0), rest.zone)
        )
    }),
    ("caddy", 1, |record, rest| {
        format!(
            r#"{{"level":"info","ts":{}.25,"request":{{"uri":"{}","headers":{{"User-Agent":["{}"]}}}},"duration":{},"size":{},"status":{}}}"#,
            record.second.unwrap_or(0) + rest.zone * 3_600,
            rest.request,
            rest.agent,
            seconds(record, 6).trim_start_matches('-'),
            record.bytes,
            record.status.unwrap_or(0)
        )
        .replace(r#""duration":,"#, "")
    }),
    ("json", 1_000, |record, rest| {
        format!(
            r#"{{ "time_iso8601": "{}", "request": "{}", "status": "{}", "body_bytes_sent": "{}", "request_time": "{}" }}"#,
            iso_text(record.second.unwrap_or(0), rest.zone),
            rest.request,
            status(record),
            record.bytes,
            seconds(record, 3)
        )
    }),
    (
        r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $request_time"#,
        1_000,
        |record, rest| format!("{} {}", combined(record, rest), seconds(record, 3)),
    ),
    (r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i" %D"#, 1, |record, rest| {
        let us = record.latency_us.map_or("-".to_owned(), |us| us.to_string());
        format!("{} {us}", combined(record, rest))
    }),
];

proptest! {
    #[test]
    fn what_a_server_writes_is_read_back(
        which in 0..FORMATS.len(),
        second in 0_u64..1 << 32,
        status in proptest::option::of(100_u16..1_000),
        bytes: u64,
        latency_us in proptest::option::of(0_u64..1 << 39),
        zone in 0_u64..24,
        user in "-|[a-z][a-z ]{0,8}|[a-z]\\[[0-9]",
        request in r#"([^"\\\p{C}]|\\"|\\\\|\\x22){0,30}"#,
        agent in r#"([^"\\\p{C}]|\\"|\\\\){0,30}"#,
    ) {
        let (name, resolution_us, write) = FORMATS[which];
        let is_json = matches!(name, "caddy" | "json") || name == "traefik" && resolution_us == 1;
        // In JSON, `\x` is no escape.
        let request = if is_json { request.replace("\\x22", "") } else { request };
        let rest = Rest { zone, user, request, agent };
        let latency_us = match latency_us {
            // Traefik always says one.
            None if name == "traefik" => Some(0),
            latency_us => latency_us.map(|us| us / resolution_us * resolution_us),
        };
        let record = Record { second: Some(second), status, bytes, latency_us };
        let line = write(&record, &rest);
        let expected = Record { second: Some(second + zone * 3_600), ..record };
        let format: Format = name.parse().unwrap();
        prop_assert_eq!(format.read(line.as_bytes(), None), Ok(expected), "{}", line);
        if !name.contains('%') {
            prop_assert_eq!(Format::Auto.read(line.as_bytes(), None), Ok(expected), "{}", line);
        } else if latency_us.is_some() {
            let read = Format::Auto.read(line.as_bytes(), Some(Unit::Microseconds));
            prop_assert_eq!(read, Ok(expected), "{}", line);
        }
        let mut reader = Reader::new(format, None);
        let cri = format!("2026-11-21T09:15:15Z stdout F {line}");
        prop_assert_eq!(reader.read(cri.as_bytes()), Reading::Request(expected), "{}", line);
    }
}
