//! The real server as a process, driven over real sockets and signals.
//!
//! Nothing here sleeps for time. The server's own promises say when to look: a datagram of sd_notify
//! for readiness, reload and drain; and the end of a closed connection for its line in the log.

// Helpers of tests are tests too, but clippy.toml's exception covers the test functions alone.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use duende_core::wire::link::{self, Address, Event, HealthReport, Outcome};
use duende_core::wire::{Decoder, FRAME_BYTES_MAX, Hello, Role, encode};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long what must happen may take.
const DEADLINE: Duration = Duration::from_secs(30);

const HUGE_BYTES: u64 = 1 << 36;

/// A directory with a root to serve, things outside it, and things that lead outside.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        let root = site.root();
        fs::create_dir_all(root.join("sub/empty")).unwrap();
        fs::write(site.path("secret.txt"), "secret").unwrap();
        fs::write(root.join("index.html"), "hello\n").unwrap();
        fs::write(root.join("sub/index.html"), "in sub\n").unwrap();
        fs::write(root.join("sub/a b.txt"), "0123456789").unwrap();
        fs::write(root.join("big.bin"), pattern(1_000_000)).unwrap();
        let huge = File::create(root.join("huge.bin")).unwrap();
        huge.set_len(HUGE_BYTES).unwrap();
        symlink("index.html", root.join("inside")).unwrap();
        symlink("../secret.txt", root.join("outside")).unwrap();
        symlink(site.path("secret.txt"), root.join("absolute")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn root(&self) -> PathBuf {
        self.path("root")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("access.log")).unwrap()
    }

    fn command(&self, extra: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_webd"));
        command
            .args(["--listen", "127.0.0.1:0", "--diagnostics", "--root"])
            .arg(self.root())
            .arg("--access-log")
            .arg(self.path("access.log"))
            .args(extra)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Starts the server and waits until it says that it is ready.
    fn serve(&self, extra: &[&str]) -> Server {
        let notify = UnixDatagram::bind(self.path("notify")).unwrap();
        notify.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut command = self.command(extra);
        command.env("NOTIFY_SOCKET", self.path("notify"));
        let child = Process(Some(command.spawn().unwrap()));
        let mut server = Server { child, notify, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let status = server.notified();
        let address = status.strip_prefix("STATUS=listening on ").unwrap();
        server.address = address.split(',').next().unwrap().parse().unwrap();
        assert_eq!(server.notified(), "READY=1");
        server
    }
}

/// A child that does not outlive its test.
struct Process(Option<Child>);

impl Process {
    fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.0.as_ref().unwrap()), signal).unwrap();
    }

    fn end(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Server {
    child: Process,
    notify: UnixDatagram,
    address: SocketAddr,
}

impl Server {
    fn notified(&self) -> String {
        let mut buffer = [0; 4_096];
        let bytes = self.notify.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..bytes].to_vec()).unwrap()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Sends a request on a connection of its own and reads until the server closes it.
    fn ask(&self, head: &str) -> Answer {
        let mut stream = self.connect();
        let request = format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes)
    }

    fn stop(self) -> (ExitStatus, String) {
        self.child.signal(Signal::TERM);
        let output = self.child.end();
        (output.status, String::from_utf8(output.stderr).unwrap())
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = bytes[end + 4..].to_vec();
        Self { status, head, body }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut named = fields.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value)
    }
}

/// Reads one response with a `Content-Length` from a connection that stays open.
fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    let mut answer = Answer::parse(&bytes);
    let length = answer.header("content-length").unwrap().parse().unwrap();
    answer.body = vec![0; length];
    stream.read_exact(&mut answer.body).unwrap();
    answer
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..=250).cycle().take(bytes).collect()
}

/// `127.0.0.1 - - [time] ` before and a time with six decimals after what is looked at.
fn middle_of(line: &str) -> &str {
    let (before, rest) = line.split_once("] ").unwrap();
    let time = before.strip_prefix("127.0.0.1 - - [").unwrap();
    assert_eq!(time.len(), "21/Nov/2026:09:15:15 +0000".len(), "{line}");
    assert!(time.ends_with(" +0000"), "{line}");
    let (middle, seconds) = rest.rsplit_once(' ').unwrap();
    let (whole, fraction) = seconds.split_once('.').unwrap();
    assert!(whole.parse::<u64>().is_ok() && fraction.len() == 6, "{line}");
    assert!(fraction.parse::<u64>().is_ok(), "{line}");
    middle
}

#[test]
fn requests_and_their_lines() {
    let site = Site::new();
    let server = site.serve(&[]);
    // What is sent after "HTTP/1.1" is more header fields.
    for (method, target, more, status, body_bytes) in [
        ("GET", "/", "", 200, 6),
        ("GET", "/?a=b", "", 200, 6),
        ("HEAD", "/", "", 200, 0),
        ("GET", "/inside", "", 200, 6),
        ("GET", "/sub/", "", 200, 7),
        ("GET", "/sub/../index.html", "", 200, 6),
        ("GET", "/sub/a%20b.txt", "", 200, 10),
        ("GET", "/sub/a%20b.txt", "\r\nRange: bytes=2-4", 206, 3),
        ("GET", "/sub/a%20b.txt", "\r\nRange: bytes=10-", 416, 26),
        ("GET", "/big.bin", "", 200, 1_000_000),
        ("GET", "/huge.bin", "\r\nRange: bytes=-5", 206, 5),
        ("GET", "/-/healthz", "", 200, 7),
        ("GET", "/-/slow?ms=1", "", 200, 7),
        ("GET", "/-/slow?ms=10001", "", 400, 16),
        ("GET", "/sub", "", 301, 22),
        ("GET", "/%00", "", 400, 16),
        ("GET", "/missing", "", 404, 14),
        ("GET", "/sub/empty/", "", 404, 14),
        ("GET", "/index.html/", "", 404, 14),
        ("GET", "/-/other", "", 404, 14),
        ("GET", "/loop", "", 404, 14),
        ("GET", "/fifo", "", 403, 14),
        ("POST", "/", "\r\nContent-Length: 0", 405, 23),
        ("DELETE", "/index.html", "", 405, 23),
    ] {
        let request = format!("{method} {target} HTTP/1.1");
        let answer = server.ask(&format!("{request}{more}"));
        assert_eq!(answer.status, status, "{request}");
        assert_eq!(answer.body.len(), body_bytes, "{request}");
        let log = site.log();
        let expected = format!("\"{request}\" {status} {body_bytes} \"-\" \"-\"");
        assert_eq!(middle_of(log.lines().last().unwrap()), expected);
    }
    assert_eq!(site.log().lines().count(), 24, "one line each");
}

#[test]
fn headers_say_what_is_sent() {
    let site = Site::new();
    let server = site.serve(&[]);
    let full = server.ask("GET /sub/a%20b.txt HTTP/1.1");
    assert_eq!(full.header("content-length"), Some("10"));
    assert_eq!(full.header("content-type"), Some("text/plain; charset=utf-8"));
    let modified = full.header("last-modified").unwrap();

    let head = server.ask("HEAD /sub/a%20b.txt HTTP/1.1");
    assert_eq!(head.header("content-length"), Some("10"));
    assert_eq!(head.header("last-modified"), Some(modified));

    for (since, status) in [(modified, 304), ("Thu, 01 Jan 1970 00:00:00 GMT", 200), ("x", 200)] {
        let head = format!("GET /sub/a%20b.txt HTTP/1.1\r\nIf-Modified-Since: {since}");
        assert_eq!(server.ask(&head).status, status, "{since}");
    }
    let range = "GET /sub/a%20b.txt HTTP/1.1\r\nRange: bytes=-3";
    let part = server.ask(range);
    assert_eq!(part.header("content-range"), Some("bytes 7-9/10"));
    assert_eq!(part.body, b"789");
    let stale = format!("{range}\r\nIf-Range: Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(server.ask(&stale).status, 200);
    let fresh = format!("{range}\r\nIf-Range: {modified}");
    assert_eq!(server.ask(&fresh).status, 206);

    assert_eq!(server.ask("PUT / HTTP/1.1").header("allow"), Some("GET, HEAD"));
    let redirect = server.ask("GET //sub?q HTTP/1.1");
    assert_eq!(redirect.header("location"), Some("/sub/?q"));
    assert_eq!(server.ask("GET /big.bin HTTP/1.1").body, pattern(1_000_000));
}

#[test]
fn nothing_outside_the_root_is_served() {
    let site = Site::new();
    let server = site.serve(&[]);
    let secret = site.path("secret.txt");
    let absolute = secret.to_str().unwrap();
    for target in [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/sub/../../secret.txt",
        "/sub/%2e%2e/%2e%2e/secret.txt",
        "/outside",
        "/absolute",
        "/up/secret.txt",
        "/up/",
        absolute,
        &format!("/{absolute}"),
        &format!("/%2f{absolute}"),
        "//etc/passwd",
    ] {
        let answer = server.ask(&format!("GET {target} HTTP/1.1"));
        assert!(matches!(answer.status, 403 | 404), "{target}: {}", answer.status);
        assert!(!answer.body.windows(6).any(|six| six == b"secret"), "{target}");
    }
}

#[test]
fn heads_that_are_none_are_refused_and_logged() {
    let site = Site::new();
    let server = site.serve(&[]);
    let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(20_000));
    for (head, status) in [("HELLO", 400), ("GET / HTTP/1.1\r\nbad header", 400), (&long, 431)] {
        let mut stream = server.connect();
        stream.write_all(format!("{head}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(Answer::parse(&read_what_comes(&mut stream)).status, status);
        let expected = format!("\"-\" {status} 0 \"-\" \"-\"");
        wait_for(|| site.log().lines().last().is_some_and(|line| middle_of(line) == expected));
    }
    // Understood, and so logged as it came; but without `Host`, or with two of them.
    for hosts in ["", "Host: x\r\nHost: y\r\n"] {
        let mut stream = server.connect();
        let request = format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(Answer::parse(&read_what_comes(&mut stream)).status, 400, "{hosts}");
        let log = site.log();
        let line = middle_of(log.lines().last().unwrap());
        assert_eq!(line, "\"GET / HTTP/1.1\" 400 16 \"-\" \"-\"");
    }
    let forged = "GET / HTTP/1.1\r\nUser-Agent: a\" 200 \\\u{e9}";
    assert_eq!(server.ask(forged).status, 200);
    assert!(site.log().contains(r#""a\x22 200 \x5C\xC3\xA9" 0."#), "{}", site.log());
}

/// Up to the end, or to the reset that may follow when the server did not read everything.
fn read_what_comes(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// For what has no event of its own to wait for.
fn wait_for(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "did not happen in time");
        std::thread::yield_now();
    }
}

#[test]
fn a_line_is_in_the_file_before_the_next_request_is_answered() {
    let site = Site::new();
    let server = site.serve(&[]);
    let mut stream = server.connect();
    for answered in 0..20 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut stream).body, b"hello\n");
        assert!(site.log().lines().count() >= answered);
    }
}

#[test]
fn a_file_larger_than_memory_is_streamed() {
    let site = Site::new();
    let server = site.serve(&[]);
    let mut stream = server.connect();
    stream.write_all(b"GET /huge.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut buffer = vec![0; 64 << 20];
    stream.read_exact(&mut buffer).unwrap();
    assert!(buffer.starts_with(b"HTTP/1.1 200 OK"));
    drop(stream);
    wait_for(|| !site.log().is_empty());
    let log = site.log();
    let line = middle_of(log.trim_end());
    let sent: u64 = line.split(' ').nth(4).unwrap().parse().unwrap();
    assert!((60 << 20..HUGE_BYTES).contains(&sent), "{line}");

    let status = format!("/proc/{}/status", server.child.pid());
    let status = fs::read_to_string(status).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(peak_kib < 32 << 10, "{peak_kib} KiB of memory at the peak");
}

#[test]
fn sigterm_finishes_what_is_open_and_exits_0() {
    let site = Site::new();
    let server = site.serve(&[]);
    let mut stream = server.connect();
    // The second is taken in the same step in which the first is answered.
    let both = "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /-/slow?ms=500 HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(both.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).status, 200);
    let idle = server.connect();
    server.child.signal(Signal::TERM);
    assert_eq!(server.notified(), "STOPPING=1");
    assert!(server.notified().starts_with("STATUS=finishing "));
    assert!(TcpStream::connect(server.address).is_err(), "the socket is closed");
    assert_eq!(read_answer(&mut stream).body, b"200 OK\n");
    let output = server.child.end();
    assert!(output.status.success(), "{output:?}");
    assert!(site.log().contains("/-/slow?ms=500 HTTP/1.1\" 200 7"), "{}", site.log());
    drop(idle);
}

#[test]
fn the_drain_timeout_cuts_what_is_left_and_says_so() {
    let site = Site::new();
    let server = site.serve(&["--drain-timeout", "50ms"]);
    let mut stream = server.connect();
    let both = "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /-/slow?ms=10000 HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(both.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).status, 200);
    let (status, stderr) = server.stop();
    assert!(status.success(), "{stderr}");
    assert!(stderr.contains("<4>webd: requests cut, not finished within 50ms: 1"), "{stderr}");
    assert!(site.log().contains("/-/slow?ms=10000 HTTP/1.1\" 499 0"), "{}", site.log());
}

#[test]
fn sighup_opens_log_and_root_anew_or_keeps_them() {
    let site = Site::new();
    let server = site.serve(&[]);
    let reload = || {
        server.child.signal(Signal::HUP);
        let reloading = server.notified();
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(server.notified(), "READY=1");
    };
    let index = || server.ask("GET / HTTP/1.1").body;
    assert_eq!(index(), b"hello\n");

    // A rotation, and a new release of the site under the same name.
    fs::rename(site.path("access.log"), site.path("access.log.1")).unwrap();
    fs::rename(site.root(), site.path("old")).unwrap();
    fs::create_dir(site.root()).unwrap();
    fs::write(site.root().join("index.html"), "new").unwrap();
    assert_eq!(index(), b"hello\n", "nothing changes before the signal");
    reload();
    assert_eq!(index(), b"new");
    let rotated = fs::read_to_string(site.path("access.log.1")).unwrap();
    assert_eq!((rotated.lines().count(), site.log().lines().count()), (2, 1));

    // Neither can be opened: both stay.
    fs::rename(site.root(), site.path("newer")).unwrap();
    fs::rename(site.path("access.log"), site.path("access.log.2")).unwrap();
    fs::create_dir(site.path("access.log")).unwrap();
    reload();
    assert_eq!(index(), b"new");
    let kept = fs::read_to_string(site.path("access.log.2")).unwrap();
    assert_eq!(kept.lines().count(), 2);
    let (status, stderr) = server.stop();
    assert!(status.success(), "{stderr}");
    for part in ["the access log", "--access-log", "cannot serve", "--root"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}

#[test]
fn what_cannot_work_is_said_with_the_way_out() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let nowhere = site.path("no/where");
    let nowhere = nowhere.to_str().unwrap();
    for (option, value, way_out) in [
        ("--listen", address.as_str(), "ss -ltnp"),
        ("--listen", "192.0.2.1:0", "does not have the address"),
        ("--root", nowhere, "give a directory"),
        ("--root", "/proc/self/exe", "give a directory"),
        ("--access-log", nowhere, "existing directory"),
    ] {
        // Given twice, the last one counts.
        let arguments = [option, value];
        let mut command = Command::new(env!("CARGO_BIN_EXE_webd"));
        for (name, usual) in [
            ("--listen", Path::new("127.0.0.1:0").to_owned()),
            ("--root", site.root()),
            ("--access-log", site.path("access.log")),
        ] {
            if name != option {
                command.arg(name).arg(usual);
            }
        }
        let output = command.args(arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{option} {value}: {stderr}");
        assert!(stderr.starts_with("<3>webd"), "{stderr}");
        assert!(stderr.contains(way_out) && stderr.contains(option), "{stderr}");
    }
}

#[test]
fn the_manager_is_answered_over_an_inherited_link() {
    let site = Site::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    fcntl_setfd(&theirs, FdFlags::empty()).unwrap();
    let mut command = site.command(&[]);
    command.env("DUENDE_LINK_FD", theirs.as_raw_fd().to_string());
    let child = Process(Some(command.spawn().unwrap()));
    let pid = child.pid();
    drop(theirs);

    let at = Address::of(1, 2);
    let send = |command: link::Command<'_>| {
        let mut frame = vec![0; FRAME_BYTES_MAX];
        let bytes = encode(&command, &mut frame).unwrap();
        (&ours).write_all(&frame[..bytes]).unwrap();
    };
    let mut frame = [0; 128];
    let bytes = encode(&Hello::of(Role::MANAGER), &mut frame).unwrap();
    (&ours).write_all(&frame[..bytes]).unwrap();
    send(link::Command::Create { at, name: "web", image: "", level: 4 });
    send(link::Command::Start { at });
    send(link::Command::Metrics { at, token: 9 });

    let mut decoder = Decoder::new(vec![0; FRAME_BYTES_MAX]);
    while Hello::of(Role::MANAGER).hear(&mut decoder).unwrap().is_none() {
        let bytes = (&ours).read(decoder.spare()).unwrap();
        decoder.filled(bytes);
    }
    let mut figures = Vec::new();
    let mut steps = vec!["hello"];
    while steps.last() != Some(&"exited") {
        match decoder.next::<Event<'_>>().unwrap() {
            None => {
                let bytes = (&ours).read(decoder.spare()).unwrap();
                assert!(bytes > 0, "closed before the end: {steps:?}");
                decoder.filled(bytes);
            }
            Some(Event::Running { at: _, pid: told }) => {
                assert_eq!(told, pid);
                steps.push("running");
                send(link::Command::Metrics { at, token: 9 });
                send(link::Command::HealthCheck { at, token: 10 });
            }
            Some(Event::Sample { name, .. }) => figures.push(name.to_owned()),
            Some(Event::SamplesEnd { token: 9, .. }) => {}
            Some(Event::Health { token: 10, report, memory_bytes, .. }) => {
                assert_eq!(report, HealthReport::Healthy);
                assert!(memory_bytes > 0);
                steps.push("healthy");
                send(link::Command::Shutdown { at, grace_ns: 10_000_000_000 });
            }
            Some(Event::Exited { outcome: Outcome::Graceful, .. }) => steps.push("exited"),
            Some(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(steps, ["hello", "running", "healthy", "exited"]);
    for expected in ["requests_total", "in_flight", "bytes_sent_total"] {
        assert!(figures.iter().any(|name| name == expected), "{expected} in {figures:?}");
    }
    assert!(child.end().status.success());
}
