//! The control protocol as others speak it: a client from tomorrow, a manager from tomorrow, the client of the
//! documentation, and who may look and not touch.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "its helpers fail it too"
)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use duende_core::wire::{Decoder, FRAME_BYTES_MAX, encode_payload};
use duende_tests::rows::{History, Table};
use duende_tests::{Fleet, Outcome, TIMEOUT, duende, script, wait_for};
use serde_json::{Value, json};

const REQUEST: u8 = 7;
const RESPONSE: u8 = 8;

/// One end of a connection, as somebody has it who knows nothing but the document.
struct End {
    stream: UnixStream,
    decoder: Decoder<Vec<u8>>,
    says: u8,
    hears: u8,
}

impl End {
    fn client(socket: &Path) -> Self {
        Self::of(UnixStream::connect(socket).unwrap(), REQUEST, RESPONSE)
    }

    fn of(stream: UnixStream, says: u8, hears: u8) -> Self {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self { stream, decoder: Decoder::new(vec![0; FRAME_BYTES_MAX]), says, hears }
    }

    fn say(&mut self, payload: &str) {
        let mut frame = vec![0; FRAME_BYTES_MAX];
        let bytes = encode_payload(self.says, payload.as_bytes(), &mut frame).unwrap();
        self.stream.write_all(&frame[..bytes]).unwrap();
    }

    /// The next message; none: the other end is closed.
    fn hear(&mut self) -> Option<Value> {
        loop {
            if let Some(payload) = self.decoder.next_payload(self.hears).unwrap() {
                return Some(serde_json::from_slice(payload).unwrap());
            }
            match self.stream.read(self.decoder.spare()).expect("in time") {
                0 => return None,
                bytes => self.decoder.filled(bytes),
            }
        }
    }

    /// The whole answer to a request.
    fn ask(&mut self, request: &Value) -> Vec<Value> {
        self.say(&request.to_string());
        let mut answer = Vec::new();
        loop {
            let response = self.hear().expect("the connection stays usable");
            let ends = ["hello", "ok", "done", "error"].map(Value::from);
            let is_end = ends.contains(&response["response"]);
            answer.push(response);
            if is_end {
                return answer;
            }
        }
    }

    #[track_caller]
    fn refused(&mut self, request: &Value, code: &str) -> String {
        let answer = self.ask(request);
        let [error] = &answer[..] else { panic!("{answer:?}") };
        assert_eq!(error["code"], code, "{error}");
        error["message"].as_str().unwrap().to_owned()
    }
}

/// What `ps` prints of a fleet, by the field.
fn listed(fleet: &Fleet) -> Vec<Value> {
    let printed: Value = fleet.run(&["ps"]).done().json();
    printed["daemons"].as_array().unwrap().clone()
}

/// The same rows, but for what changes from one moment to the next.
#[track_caller]
fn assert_same(rows: &[Value], listed: &[Value]) {
    let still = |rows: &[Value]| -> Vec<Value> {
        let mut rows = rows.to_vec();
        for row in &mut rows {
            for moving in ["uptime_ms", "since_ms", "memory_bytes", "processor_percent"] {
                row[moving] = Value::Null;
            }
        }
        rows
    };
    assert_eq!(still(rows), still(listed));
}

fn two_daemons() -> String {
    let sleeper = "echo ready; exec sleep 1000";
    script("a", sleeper, "") + &script("b", sleeper, "")
}

fn running(name: &str) -> Fleet {
    let fleet = Fleet::up(name, &two_daemons());
    for daemon in ["a", "b"] {
        fleet.wait_state(daemon, "running");
    }
    fleet
}

#[test]
fn a_client_from_tomorrow_lists_and_ends_a_fleet() {
    let mut fleet = running("tomorrow");
    let mut client = End::client(&fleet.socket());
    let hello =
        json!({ "request": "hello", "version": 99, "min": 98, "wants": { "deep": [null] } });
    let answer = client.ask(&hello);
    let [hello] = &answer[..] else { panic!("{answer:?}") };
    let manager = &hello["fleet"];
    assert_eq!(manager["pid"], fleet.manager().id());
    let version = manager["version"].as_u64().unwrap();
    assert!(hello["min"].as_u64().unwrap() <= version && version < 99, "{hello}");

    let mut told = 0;
    for request in [
        json!({ "request": "transmogrify", "names": { "of": "another form" } }),
        json!({ "request": "\u{1b}[2J" }),
        json!({ "request": "x".repeat(100_000) }),
    ] {
        let text = client.refused(&request, "unknown_request");
        let versions = [format!("version {version}"), "version 99".to_owned()];
        assert!(versions.iter().all(|version| text.contains(version)), "{text}");
        assert!(text.len() < 1_000 && !text.contains('\x1b'), "{text}");
        told += usize::from(text.contains("`transmogrify`"));
    }
    assert_eq!(told, 1, "it is named");
    for malformed in [
        json!({}),
        json!(null),
        json!({ "request": { "verb": "ps" } }),
        json!({ "request": "stop" }),
        json!({ "request": "stop", "names": "a" }),
        json!({ "request": "stop", "names": vec!["a"; 1_001] }),
    ] {
        client.refused(&malformed, "malformed");
    }

    let answer = client.ask(&json!({ "request": "ps", "only": ["failed"], "sorted": true }));
    let rows: Vec<Value> = answer
        .iter()
        .flat_map(|part| part["daemons"].as_array().cloned().unwrap_or_default())
        .collect();
    assert_same(&rows, &listed(&fleet));
    assert!(rows.iter().all(|row| row["state"] == "running"), "nothing was harmed: {rows:?}");

    let answer = client.ask(&json!({ "request": "down", "patience": 7 }));
    assert_eq!(answer.last().unwrap()["response"], "ok");
    let stopped = |response: &Value| response["event"]["kind"] == "stopped";
    assert!(answer.iter().any(stopped), "{answer:?}");
    assert_eq!(fleet.wait_end(), Some(0));
}

/// A manager of which this program knows the version only: it answers like ours, and more.
struct Tomorrow {
    home: tempfile::TempDir,
    serving: std::thread::JoinHandle<Vec<String>>,
}

impl Tomorrow {
    /// Its messages mean to it what they meant from version `min` on.
    fn up(min: u16) -> Self {
        let home = tempfile::TempDir::new().unwrap();
        let directory = home.path().join("run");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        let listener = UnixListener::bind(directory.join("tomorrow.sock")).unwrap();
        let serving = std::thread::spawn(move || {
            let mut asked = Vec::new();
            while asked.last().is_none_or(|last| last != "down") {
                let (stream, _) = listener.accept().unwrap();
                let mut end = End::of(stream, RESPONSE, REQUEST);
                while let Some(request) = end.hear() {
                    let name = request["request"].as_str().unwrap().to_owned();
                    for response in Self::answer(&name, min) {
                        end.say(&response.to_string());
                    }
                    asked.push(name);
                }
            }
            asked
        });
        Self { home, serving }
    }

    fn answer(request: &str, min: u16) -> Vec<Value> {
        let mood = json!({ "response": "mood", "of": "the moon" });
        let event = json!({ "time_unix_us": 1, "daemon": "web", "kind": "hibernated", "why": [] });
        let row =
            json!({ "name": "web", "state": "hibernating", "health": "dreaming", "depth": 3 });
        let (code, text) = ("unknown_request", "no such request any more: use tomorrow's duende");
        match request {
            // No process has this number, so that nobody waits for its end.
            "hello" => {
                let fleet = json!({ "version": 99, "fleet": "tomorrow", "pid": 2_000_000_000 });
                vec![json!({ "response": "hello", "min": min, "fleet": fleet, "mood": 1 })]
            }
            "ps" => vec![
                mood,
                json!({ "response": "daemons", "daemons": [row] }),
                json!({ "response": "done", "in_ms": 1 }),
            ],
            "down" => {
                vec![
                    json!({ "response": "event", "event": event }),
                    mood,
                    json!({ "response": "ok" }),
                ]
            }
            _ => vec![json!({ "response": "error", "code": code, "message": text })],
        }
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(duende(self.home.path()).args(arguments))
    }
}

#[test]
fn the_command_line_lists_and_ends_a_manager_from_tomorrow() {
    // It has dropped what we say; then one that has only added.
    for (min, word) in [(98, "duende down"), (1, "tomorrow's duende")] {
        let manager = Tomorrow::up(min);
        let table = manager.run(&["ps"]).done();
        assert!(
            table.stdout.contains("hibernating") && table.stdout.contains("dreaming"),
            "{table:?}"
        );
        let rows: Value = manager.run(&["ps", "--json"]).done().json();
        assert_eq!(rows["daemons"][0]["state"], "hibernating");
        for verb in [&["restart", "web"][..], &["status", "web"], &["events"]] {
            let refused = manager.run(verb);
            assert_eq!(refused.code, Some(1), "{refused:?}");
            assert!(refused.stderr.contains(word), "{refused:?}");
        }
        let down = manager.run(&["down"]).done();
        assert!(down.stdout.contains("hibernated") && down.stdout.contains("is down"), "{down:?}");
        let asked = manager.serving.join().unwrap();
        let was_asked = |name: &str| asked.iter().any(|asked| asked == name);
        assert_eq!(was_asked("restart"), min == 1, "{asked:?}");
    }
}

/// The document's client, with nothing but Python's standard library, against a real manager.
#[test]
fn the_client_of_the_documentation_prints_what_ps_prints() {
    let mut fleet = running("documented");
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/control-client.py");
    let mut command = Command::new(duende_tests::tool("python3", "python3"));
    let printed = Outcome::of(command.arg("-I").arg(client).arg(fleet.socket())).done();
    let rows: Vec<Value> =
        printed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_same(&rows, &listed(&fleet));
    fleet.down();
}

/// A fleet with a read-only socket, in a directory that a reader's command line takes for the one of control
/// sockets.
struct Looked {
    fleet: Fleet,
    socket: PathBuf,
}

impl Looked {
    fn up(name: &str, mode: &str) -> Self {
        let fleet = Fleet::new(name, &two_daemons());
        let directory = fleet.home().join("look");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        // Relative to where it is started: the manager goes elsewhere.
        let socket = format!("look/{name}.sock");
        let mut up = duende(fleet.home());
        up.args(["up", "--detach", "--wait", "--read-only-socket", &socket]);
        let _ = Outcome::of(up.args(["--read-only-mode", mode]).arg(fleet.file())).done();
        let socket = fleet.home().join(socket);
        Self { fleet, socket }
    }

    /// A verb by somebody who has the read-only socket alone.
    fn read(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.fleet.command(arguments);
        Outcome::of(command.env("DUENDE_RUNTIME_DIR", self.fleet.home().join("look")))
    }

    fn down(self) {
        self.fleet.run(&["down"]).done();
        wait_for("the end of all", || self.fleet.processes().is_empty().then_some(()));
        assert!(!self.socket.exists(), "its file goes with it");
    }
}

#[test]
fn who_has_the_read_only_socket_may_look_and_not_touch() {
    let looked = Looked::up("looked", "0600");
    assert_eq!(fs::metadata(&looked.socket).unwrap().mode() & 0o7777, 0o600);
    let table: Table = looked.read(&["ps"]).done().json();
    let names: Vec<_> = table.daemons.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    for verb in [&["status", "a"][..], &["events"]] {
        let _ = looked.read(verb).done();
    }
    let _: History = looked.read(&["history", "a"]).done().json();
    for verb in ["start", "stop", "restart", "pause", "resume", "reload"] {
        let refused = looked.read(&[verb, "a"]).refused(1);
        assert!(refused.error.message.contains("control socket"), "{refused:?}");
    }
    let _ = looked.read(&["down"]).refused(1);
    let rows = looked.fleet.ps().daemons;
    assert!(rows.iter().all(|row| row.state == "running" && row.incarnation == 1), "{rows:?}");

    // It is made again as the control socket is.
    fs::remove_file(&looked.socket).unwrap();
    wait_for("the read-only socket", || UnixStream::connect(&looked.socket).ok());
    looked.down();
}

/// The mode of its file is the whole rule: a user in a container is another one outside of it.
#[test]
fn a_read_only_socket_is_open_to_whom_its_mode_admits() {
    let looked = Looked::up("open", "0666");
    fs::set_permissions(looked.fleet.home(), fs::Permissions::from_mode(0o755)).unwrap();
    let socket = looked.socket.clone();
    let reader = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody)
            .expect("this test becomes another user for a moment: run the tests as root");
        let mut reader = End::client(&socket);
        let rows = reader.ask(&json!({ "request": "ps" }));
        reader.refused(&json!({ "request": "down" }), "read_only");
        rows
    });
    let answer = reader.join().unwrap();
    assert_eq!(answer[0]["daemons"][1]["name"], "b", "{answer:?}");
    looked.down();
}

/// 64 readers who ask, follow, say nothing, come and go as fast as they can: the operator is answered.
#[test]
fn a_flood_of_readers_does_not_keep_the_operator_waiting() {
    const READERS: usize = 64;
    let looked = Looked::up("flooded", "0600");
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let is_over = &is_over;
    let answered = std::sync::atomic::AtomicUsize::new(0);
    let answered = &answered;
    let ordering = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        for number in 0..READERS {
            let socket = &looked.socket;
            scope.spawn(move || {
                while !is_over.load(ordering) {
                    let Ok(stream) = UnixStream::connect(socket) else { continue };
                    let mut reader = End::of(stream, REQUEST, RESPONSE);
                    reader.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                    let request = match number % 4 {
                        0 | 1 => json!({ "request": "ps" }),
                        2 => json!({ "request": "events", "follow": true }),
                        // It says nothing.
                        _ => Value::Null,
                    };
                    let mut frame = vec![0; FRAME_BYTES_MAX];
                    let bytes = encode_payload(REQUEST, request.to_string().as_bytes(), &mut frame)
                        .unwrap();
                    if !request.is_null() {
                        let _ = reader.stream.write_all(&frame[..bytes]);
                    }
                    let mut heard = [0; 4_096];
                    if reader.stream.read(&mut heard).is_ok_and(|bytes| bytes > 0) {
                        answered.fetch_add(1, ordering);
                    }
                }
            });
        }
        wait_for("the flood", || (answered.load(ordering) > READERS).then_some(()));
        let slowest = (0..10).map(|_| {
            let began = Instant::now();
            let rows = looked.fleet.ps().daemons;
            assert_eq!(rows.len(), 2);
            began.elapsed()
        });
        let slowest = slowest.max();
        is_over.store(true, ordering);
        assert!(slowest.is_some_and(|time| time < Duration::from_secs(1)), "{slowest:?}");
    });
    looked.down();
}
