use super::*;
use proptest::prelude::*;

const COMBINED: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#;
const AT: u64 = 1_795_252_515;

fn record(status: u16, bytes: u64, latency_us: Option<u64>) -> Record {
    Record { second: Some(AT), status: Some(status), bytes, latency_us }
}

#[track_caller]
fn check(pattern: &str, line: &str, expected: Option<Record>) {
    let compiled = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    assert_eq!(compiled.read(line.as_bytes()).ok(), expected, "{pattern}\n{line}");
}

#[test]
fn lines_of_patterns() {
    let combined = r#"192.0.2.1 - John Smith [21/Nov/2026:09:15:15 +0000] "GET / HTTP/1.1" 200 12 "-" "a \"b\"""#;
    check(COMBINED, combined, Some(record(200, 12, None)));
    check(COMBINED, &format!("{combined} 0.005 more"), Some(record(200, 12, None)));
    check(COMBINED, &format!("{combined}x"), None);
    check(COMBINED, &combined.replace("200", "99"), None);
    check(COMBINED, &combined.replace("Smith", "[x] [Smith"), Some(record(200, 12, None)));
    let nginx = r#"[$time_iso8601] $host ${status} $upstream_response_time $request_time $bytes_sent $pipe"#;
    let line = "[2026-11-21T09:15:15+00:00] www.example.net 404 0.001, 0.002 0.005 7 .";
    check(nginx, line, Some(record(404, 7, Some(5_000))));
    check(nginx, &line.replace("2 0.005", "2 : 0.003 0.005"), Some(record(404, 7, Some(5_000))));
    check(nginx, &line.replace(" 0.005 7", " - -"), Some(record(404, 0, None)));
    check(
        "$msec $status",
        "1795252515.123 000",
        Some(Record { second: Some(AT), ..Record::default() }),
    );

    let apache = r#"%h %l %u %t "%r" %>s %b %D"#;
    let line = r#"192.0.2.1 - - [21/Nov/2026:09:15:15 +0000] "GET /\" HTTP/1.1" 200 - 12345"#;
    check(apache, line, Some(record(200, 0, Some(12_345))));
    check(&apache.replace('"', "\\\""), line, Some(record(200, 0, Some(12_345))));
    check(&apache.replace("%D", "%T"), line, Some(record(200, 0, Some(12_345_000_000))));
    check(&apache.replace("%D", "%{ms}T"), line, Some(record(200, 0, Some(12_345_000))));
    check(
        r"%T/%D %s %>s %t",
        "0/512 301 200 [21/Nov/2026:09:15:15 +0000]",
        Some(record(200, 0, Some(512))),
    );
    check(
        r#"%v:%p %{X-Forwarded-For}i %{%d/%b/%Y %T}t.%{msec_frac}t %{%z}t %!200{User-agent}i %>s %O %%"#,
        "www.example.net:443 192.0.2.1, 192.0.2.2 21/Nov/2026 09:15:15.123 +0000 - 500 99 %",
        Some(record(500, 99, None)),
    );
    check("%{sec}t %>s", "1795252515 200", Some(record(200, 0, None)));
}

#[test]
fn a_pattern_that_cannot_work_is_refused_with_the_column() {
    for (pattern, column, part) in [
        ("$remote_addr [$time_local]", 27, "no status (`$status`)"),
        ("%h %t", 6, "no status (`%>s`)"),
        ("$status $", 9, "no name"),
        ("$status ${x", 9, "not closed"),
        ("é $statsu", 3, "`$status` meant"),
        ("$status $request_tme", 9, "`$request_time` meant"),
        ("$status $host$uri", 14, "where `$host` ends"),
        ("%>s %", 5, "no letter"),
        ("%>s %y", 5, "no directive `%y`"),
        ("%>s %i", 5, "lacks its argument"),
        ("%>s %{Referer i", 5, "not closed"),
        ("%>s %{min}T", 5, "`s`, `ms` or `us`"),
        ("%>s %{%c}t", 5, "can't be read"),
        ("%>s %^xx", 5, "no such directive"),
        ("a name", 7, "no status"),
    ] {
        let error = Pattern::parse(pattern).expect_err(pattern);
        assert_eq!(error.column, column, "{pattern}: {error}");
        assert!(error.problem.contains(part), "{pattern}: {error}");
    }
    assert!(Pattern::parse(&format!("$status{}", " ".repeat(PATTERN_BYTES_MAX))).is_err());
}

#[test]
fn slips_are_one_letter() {
    for (text, is_slip) in [
        ("status", false),
        ("statu", true),
        ("statuss", true),
        ("sttus", true),
        ("statsu", true),
        ("stxtus", true),
        ("stxxus", false),
        ("upstream_status", false),
        ("", false),
    ] {
        assert_eq!(is_slip_of(text, "status"), is_slip, "{text}");
    }
}

/// Fields that stand in for any: their text has no blank, quote or bracket.
const OTHERS: &[&str] =
    &["$remote_addr", "$host", "$upstream_addr", "$ssl_protocol", "$request_id"];

proptest! {
    /// A line that was written by a pattern is read by it, whatever the order of its fields.
    #[test]
    fn what_a_pattern_writes_it_reads(
        order in Just(vec![0_usize, 1, 2, 3, 4, 5]).prop_shuffle(),
        others in proptest::collection::vec((0..OTHERS.len(), "[a-z0-9.:/-]{1,12}"), 3),
        user in "[a-z\\[\\] ]{0,12}",
        status in 100_u16..1_000,
        bytes: u64,
        latency_us in proptest::option::of(0_u64..1 << 40),
        separator in prop_oneof![Just(" "), Just("\t"), Just(" | ")],
    ) {
        let latency = latency_us.map_or("-".to_owned(), |us| format!("{}.{:06}", us / 1_000_000, us % 1_000_000));
        let other = |index: usize| (OTHERS[others[index].0].to_owned(), others[index].1.clone());
        let fields = [
            ("$status".to_owned(), status.to_string()),
            ("$body_bytes_sent".to_owned(), bytes.to_string()),
            ("$request_time".to_owned(), latency),
            ("$remote_user [$time_local]".to_owned(), format!("{user} [21/Nov/2026:09:15:15 +0000]")),
            other(0),
            (format!("\"{}\" <{}>", other(1).0, other(2).0), format!("\"{}\\\"\" <{}>", other(1).1, other(2).1)),
        ];
        let joined = |part: fn(&(String, String)) -> &String| {
            let parts: Vec<&str> = order.iter().map(|index| part(&fields[*index]).as_str()).collect();
            parts.join(separator)
        };
        let (pattern, line) = (joined(|field| &field.0), joined(|field| &field.1));
        let pattern = Pattern::parse(&pattern).unwrap();
        prop_assert_eq!(pattern.read(line.as_bytes()), Ok(record(status, bytes, latency_us)), "{}", line);
    }
}
