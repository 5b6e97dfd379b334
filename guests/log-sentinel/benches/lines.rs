//! What reading a line costs, by its shape: `cargo bench -p log-sentinel`. The best of many short rounds counts, as what
//! else happens on a machine only ever adds.

use std::hint::black_box;
use std::time::Instant;

use log_sentinel::{Format, Reader, Reading};

const LINES: u32 = 1_000;
const ROUNDS: u32 = 2_000;

const SHAPES: &[(&str, &str, &str)] = &[
    (
        "combined",
        "auto",
        r#"192.0.2.7 - - [21/Nov/2026:09:15:15 +0000] "GET /assets/app.4f2c1.js?v=17 HTTP/1.1" 200 48213 "https://www.example.net/products/list?page=3" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36""#,
    ),
    (
        "combined, short",
        "auto",
        r#"192.0.2.7 - - [21/Nov/2026:09:15:15 +0000] "GET / HTTP/1.1" 200 612 "-" "curl/8.0""#,
    ),
    (
        "with request time",
        "auto",
        r#"127.0.0.1 - - [21/Nov/2026:09:15:15 +0000] "GET /index.html HTTP/1.1" 200 1234 "-" "curl/8.0" 0.000123"#,
    ),
    (
        "ingress-nginx in CRI",
        "auto",
        r#"2026-11-21T09:15:15.123456789Z stdout F 192.0.2.7 - - [21/Nov/2026:09:15:15 +0000] "GET /api/v1/items HTTP/2.0" 200 5312 "-" "curl/8.0" 421 0.005 [default-web-80] [] 192.0.2.40:8080 5312 0.004 200 4b8f0c3a9d1e"#,
    ),
    (
        "combined in Docker's",
        "auto",
        r#"{"log":"192.0.2.7 - - [21/Nov/2026:09:15:15 +0000] \"GET / HTTP/1.1\" 200 612 \"-\" \"curl/8.0\"\n","stream":"stdout","time":"2026-11-21T09:15:15.123456789Z"}"#,
    ),
    (
        "Caddy",
        "auto",
        r#"{"level":"info","ts":1795252515.123,"logger":"http.log.access.log0","msg":"handled request","request":{"remote_ip":"192.0.2.7","remote_port":"40000","client_ip":"192.0.2.7","proto":"HTTP/2.0","method":"GET","host":"www.example.net","uri":"/","headers":{"User-Agent":["curl/8.0"],"Accept":["*/*"]}},"bytes_read":0,"user_id":"","duration":0.000412,"size":1234,"status":200,"resp_headers":{"Server":["Caddy"],"Content-Type":["text/html; charset=utf-8"]}}"#,
    ),
    (
        "combined, as a pattern",
        r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#,
        r#"192.0.2.7 - - [21/Nov/2026:09:15:15 +0000] "GET /assets/app.4f2c1.js?v=17 HTTP/1.1" 200 48213 "https://www.example.net/products/list?page=3" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36""#,
    ),
    (
        "no line at all",
        "auto",
        "2026/11/21 09:15:15 [error] 7#7: *1 open() \"/srv/favicon.ico\" failed (2: No such file)",
    ),
];

fn main() {
    for (name, format, line) in SHAPES {
        let Ok(format) = format.parse::<Format>() else { continue };
        let mut reader = Reader::new(format, None);
        let mut best_ns = f64::MAX;
        let mut is_read = false;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            for _ in 0..LINES {
                let reading = reader.read(black_box(line.as_bytes()));
                is_read = matches!(black_box(reading), Reading::Request(_));
            }
            best_ns = best_ns.min(began.elapsed().as_secs_f64() * 1e9 / f64::from(LINES));
        }
        let read = if is_read { "read" } else { "malformed" };
        println!("{best_ns:7.1} ns a line of {:3} bytes, {read}: {name}", line.len());
    }
}
