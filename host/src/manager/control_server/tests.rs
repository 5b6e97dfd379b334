//! The control server with real clients, and with a process of its own where a test changes what
//! belongs to the process.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream as StdStream,
    process::Command,
};

use duende_core::wire;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::{
    config::dirs::socket_path,
    control::{
        client::{Client, ClientError},
        message::{encode, next_response},
        protocol::{
            CONTROL_VERSION, CONTROL_VERSION_MIN, ErrorCode, ManagerInfo, Request, Response,
        },
    },
    manager::control_places::{CONNECTIONS_MAX, READERS_MAX, READERS_WAITING_MAX},
};

const DEADLINE: Duration = Duration::from_secs(20);
/// Set in a process of its own: the test that it is for.
const ITSELF_VARIABLE: &str = "DUENDE_TEST_CONTROL_SERVER";

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

struct Place {
    _home: tempfile::TempDir,
    directory: PathBuf,
    socket: PathBuf,
}

fn place() -> Place {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("duende");
    prepare_runtime_dir(&directory, uid()).unwrap();
    let socket = socket_path(&directory, "f");
    Place { _home: home, directory, socket }
}

/// A server on a thread of its own, with a manager that answers what it is asked at once, but for
/// those that wait.
struct Manager {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Manager {
    fn serve(path: &Path) -> Self {
        Self::serve_readers(path, None)
    }

    fn serve_readers(path: &Path, readers: Option<ReadOnlySocket>) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (opened, ready) = std::sync::mpsc::channel();
        let path = path.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (questions, asked) = mpsc::channel(8);
                let server = ControlServer::open("f", &path, readers.as_ref(), questions);
                let server = server.unwrap();
                opened.send(()).unwrap();
                tokio::select! {
                    () = answer(asked) => {}
                    _ = stopped => {}
                }
                drop(server);
            });
        });
        ready.recv_timeout(DEADLINE).unwrap();
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn answer(mut asked: mpsc::Receiver<Question>) {
    let mut waiting = Vec::new();
    while let Some(Question { request, reply }) = asked.recv().await {
        match request {
            Request::Hello { .. } => {
                let fleet = ManagerInfo {
                    version: CONTROL_VERSION,
                    fleet: "f".to_owned(),
                    pid: std::process::id(),
                    ..ManagerInfo::default()
                };
                let hello = Response::Hello { min: CONTROL_VERSION_MIN, fleet: Box::new(fleet) };
                reply.send(hello).await.unwrap();
            }
            Request::Ps | Request::Down => reply.send(Response::Done).await.unwrap(),
            _ => waiting.push(reply),
        }
    }
}

fn client(place: &Place) -> Result<Client, ClientError> {
    Client::connect(&place.socket, "f", uid())
}

fn ask(client: &mut Client, request: &Request) -> Result<(), ClientError> {
    client.ask_quickly(request, |_| Ok(()))
}

fn code(error: &ClientError) -> Option<ErrorCode> {
    match error {
        ClientError::Refused { code, .. } => Some(*code),
        _ => None,
    }
}

fn send(stream: &mut StdStream, request: &Request) {
    let mut frame = vec![0; wire::FRAME_BYTES_MAX];
    let bytes = encode(request, &mut frame).unwrap();
    stream.write_all(&frame[..bytes]).unwrap();
}

/// What the server says next; none: it has closed the connection.
fn hear(stream: &mut StdStream) -> Option<Response> {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut decoder = wire::Decoder::new(vec![0; wire::FRAME_BYTES_MAX]);
    loop {
        if let Some(response) = next_response(&mut decoder).unwrap() {
            return Some(response.unwrap());
        }
        match stream.read(decoder.spare()).expect("before the deadline") {
            0 => return None,
            bytes => decoder.filled(bytes),
        }
    }
}

/// However many wait or follow, there is room for `ps` and `down`; beyond it, a refusal in words.
#[test]
fn whoever_waits_leaves_room_for_who_asks() {
    let place = place();
    let _manager = Manager::serve(&place.socket);
    let mut followers = Vec::new();
    let refused = loop {
        let mut follower = StdStream::connect(&place.socket).unwrap();
        send(&mut follower, &Request::Events { follow: true });
        // Its place is taken, or refused, once the server has read it; another one is asked after it.
        ask(&mut client(&place).unwrap(), &Request::Ps).unwrap();
        follower.set_nonblocking(true).unwrap();
        let heard = follower.read(&mut [0]);
        follower.set_nonblocking(false).unwrap();
        followers.push(follower);
        assert!(followers.len() < CONNECTIONS_MAX, "all places are taken by followers");
        if heard.is_ok() {
            break followers.pop();
        }
    };
    assert!(followers.len() > CONNECTIONS_MAX / 2);
    drop(refused);
    let mut operator = client(&place).unwrap();
    let refusal = ask(&mut operator, &Request::Restart { names: vec![] }).unwrap_err();
    assert_eq!(code(&refusal), Some(ErrorCode::Busy));
    assert!(refusal.to_string().contains("end some"), "{refusal}");
    ask(&mut operator, &Request::Ps).unwrap();
    ask(&mut operator, &Request::Down).unwrap();
    // A follower that goes makes room for another.
    drop(followers);
    let began = Instant::now();
    loop {
        let mut follower = StdStream::connect(&place.socket).unwrap();
        send(&mut follower, &Request::Events { follow: true });
        ask(&mut operator, &Request::Ps).unwrap();
        follower.set_nonblocking(true).unwrap();
        if follower.read(&mut [0]).is_err() {
            break;
        }
        assert!(began.elapsed() < DEADLINE);
    }
}

/// All places taken by clients that say nothing: the next one is told so at once, and they lose theirs.
#[test]
fn who_says_nothing_loses_its_place() {
    let place = place();
    let _manager = Manager::serve(&place.socket);
    let began = Instant::now();
    let mut silent: Vec<_> =
        (0..CONNECTIONS_MAX).map(|_| StdStream::connect(&place.socket).unwrap()).collect();
    let refusal = client(&place).unwrap_err();
    assert_eq!(code(&refusal), Some(ErrorCode::Busy), "{refusal}");
    assert!(began.elapsed() < Duration::from_secs(1));
    match hear(&mut silent[0]) {
        Some(Response::Error { code: ErrorCode::TooSlow, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "two seconds are given");
    let mut operator = loop {
        match client(&place) {
            Ok(client) => break client,
            Err(error) => assert_eq!(code(&error), Some(ErrorCode::Busy)),
        }
        assert!(began.elapsed() < DEADLINE);
    };
    ask(&mut operator, &Request::Ps).unwrap();
}

/// A client may go on asking, but not for ever on one connection.
#[test]
fn questions_on_one_connection_are_bounded() {
    let place = place();
    let _manager = Manager::serve(&place.socket);
    let mut client = client(&place).unwrap();
    let mut asked = 0;
    let refusal = loop {
        match ask(&mut client, &Request::Ps) {
            Ok(()) => asked += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!((100..1_000).contains(&asked), "{asked}");
    assert_eq!(code(&refusal), Some(ErrorCode::Busy), "{refusal}");
}

#[test]
fn a_second_manager_is_refused_and_told_of_the_first() {
    let place = place();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _within = runtime.enter();
    let manager = Manager::serve(&place.socket);
    let open = || ControlServer::open("f", &place.socket, None, mpsc::channel(1).0);
    let text = open().unwrap_err().to_string();
    assert!(text.contains(&format!("(manager {})", std::process::id())), "{text}");
    assert!(text.contains("duende down --fleet f"), "{text}");
    drop(manager);
    assert!(!place.socket.exists());

    // One that was killed leaves its socket behind.
    let stale = stream_socket().unwrap();
    bind(&stale, &SocketAddrUnix::new(&place.socket).unwrap()).unwrap();
    drop(stale);
    drop(open().unwrap());
}

/// What is no socket stays as it is, whatever it is.
#[test]
fn what_stands_in_the_sockets_place_is_left_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _within = runtime.enter();
    fn check(make: impl FnOnce(&Path)) {
        let place = place();
        make(&place.socket);
        let before = fs::symlink_metadata(&place.socket).unwrap().ino();
        let error = ControlServer::open("f", &place.socket, None, mpsc::channel(1).0).unwrap_err();
        assert!(error.to_string().contains("move it away"), "{error}");
        assert_eq!(fs::symlink_metadata(&place.socket).unwrap().ino(), before);
    }
    check(|path| fs::write(path, "mine").unwrap());
    check(|path| fs::create_dir(path).unwrap());
    check(|path| std::os::unix::fs::symlink("/nonexistent", path).unwrap());
}

/// The socket, and its directory, are made again while the manager runs; what is in its place is not
/// removed, and said.
#[tokio::test]
async fn a_socket_that_was_removed_is_made_again() {
    let place = place();
    let (questions, _asked) = mpsc::channel(1);
    let server = ControlServer::open("f", &place.socket, None, questions).unwrap();
    let mut trouble = server.trouble();
    let there = || async {
        let began = Instant::now();
        while StdStream::connect(&place.socket).is_err() {
            assert!(began.elapsed() < DEADLINE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    fs::remove_dir_all(&place.directory).unwrap();
    there().await;
    assert_eq!(fs::metadata(&place.socket).unwrap().mode() & 0o777, SOCKET_MODE);
    fs::remove_file(&place.socket).unwrap();
    fs::write(&place.socket, "mine").unwrap();
    let said = tokio::time::timeout(DEADLINE, trouble.wait_for(Option::is_some)).await;
    let said = said.unwrap().unwrap().clone().unwrap();
    assert!(said.contains("move it away"), "{said}");
    assert_eq!(fs::read(&place.socket).unwrap(), b"mine");
    fs::remove_file(&place.socket).unwrap();
    there().await;
    tokio::time::timeout(DEADLINE, trouble.wait_for(Option::is_none)).await.unwrap().unwrap();
}

/// A read-only socket beside the directory of control sockets.
fn readers(place: &Place) -> ReadOnlySocket {
    ReadOnlySocket { path: place.directory.parent().unwrap().join("look.sock"), mode: 0o660 }
}

/// What is refused to a reader goes no further than its connection, and ends it not.
#[test]
fn a_reader_may_look_and_change_nothing() {
    let place = place();
    let readers = readers(&place);
    let manager = Manager::serve_readers(&place.socket, Some(readers.clone()));
    assert_eq!(fs::metadata(&readers.path).unwrap().mode() & 0o777, 0o660);
    let mut reader = StdStream::connect(&readers.path).unwrap();
    let names = || vec!["web".to_owned()];
    for request in [
        Request::Start { names: names() },
        Request::Stop { names: names() },
        Request::Restart { names: names() },
        Request::Pause { names: names() },
        Request::Resume { names: names() },
        Request::Reload { names: names() },
        Request::Down,
    ] {
        send(&mut reader, &request);
        match hear(&mut reader) {
            Some(Response::Error { code: ErrorCode::ReadOnly, message }) => {
                assert!(message.contains(request.name().as_str()), "{message}");
            }
            other => panic!("{request:?}: {other:?}"),
        }
        send(&mut reader, &Request::Ps);
        assert_eq!(hear(&mut reader), Some(Response::Done));
    }
    send(&mut reader, &Request::Hello { version: CONTROL_VERSION });
    assert!(matches!(hear(&mut reader), Some(Response::Hello { .. })));
    drop(manager);
    assert!(!readers.path.exists(), "its file goes with it");
}

/// All places of readers taken and many more at the door: the operator is answered at once, waits and follows
/// included.
#[test]
fn a_flood_of_readers_leaves_the_operator_its_places() {
    let place = place();
    let readers = readers(&place);
    let _manager = Manager::serve_readers(&place.socket, Some(readers.clone()));
    let mut flood = Vec::new();
    for number in 0..CONNECTIONS_MAX {
        let mut reader = StdStream::connect(&readers.path).unwrap();
        // Whom the server has refused already can't be told anything.
        let mut frame = vec![0; wire::FRAME_BYTES_MAX];
        let follow = Request::Events { follow: number % 2 == 0 };
        let bytes = encode(&follow, &mut frame).unwrap();
        let _ = reader.write_all(&frame[..bytes]);
        flood.push(reader);
    }
    let began = Instant::now();
    let mut operators: Vec<_> =
        (0..CONNECTIONS_MAX - READERS_MAX).map(|_| client(&place).unwrap()).collect();
    for operator in &mut operators {
        ask(operator, &Request::Ps).unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let mut refused = 0;
    for reader in &mut flood {
        reader.set_nonblocking(true).unwrap();
        // It says why, and no more.
        refused += usize::from(reader.read(&mut [0]).is_ok_and(|bytes| bytes > 0));
    }
    let places = CONNECTIONS_MAX - refused;
    assert!((1..=READERS_MAX).contains(&places), "{places}");
    assert!(places >= READERS_WAITING_MAX);
    // One more of the operator's is one too many, and the readers did not make it so.
    assert_eq!(code(&client(&place).unwrap_err()), Some(ErrorCode::Busy));
}

/// What can't be opened to readers is said, with the way out, and leaves nothing behind.
#[test]
fn a_read_only_socket_that_cannot_be_is_refused_in_words() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _within = runtime.enter();
    fn check(path: impl FnOnce(&Place) -> PathBuf, expected: &str) {
        let place = place();
        let readers = ReadOnlySocket { path: path(&place), mode: 0o600 };
        let (questions, _asked) = mpsc::channel(1);
        let error = ControlServer::open("f", &place.socket, Some(&readers), questions).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains("read-only socket"), "{text}");
        assert!(!place.socket.exists());
    }
    check(|place| place.directory.join("g.sock"), "name a path in another one");
    check(|place| place.socket.join("nowhere/look.sock"), "look.sock");
    check(
        |place| {
            let path = place.directory.parent().unwrap().join("file");
            fs::write(&path, "mine").unwrap();
            path
        },
        "move it away",
    );
    let other = tempfile::tempdir().unwrap();
    let taken = other.path().join("taken.sock");
    let _taken = std::os::unix::net::UnixListener::bind(&taken).unwrap();
    check(|_| taken.clone(), "served already");
}

/// Runs a test of this module in a process of its own, and there only.
fn in_a_process_of_its_own(name: &str, test: impl FnOnce()) {
    if std::env::var_os(ITSELF_VARIABLE).is_some_and(|itself| itself == name) {
        return test();
    }
    let (_, module) = module_path!().split_once("::").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .arg(format!("{module}::{name}"))
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .env(ITSELF_VARIABLE, name)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn no_umask_opens_or_closes_the_socket() {
    in_a_process_of_its_own("no_umask_opens_or_closes_the_socket", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _within = runtime.enter();
        for umask in [0, 0o022, 0o777] {
            let place = place();
            for mode in [SOCKET_MODE, 0o660, 0o666] {
                rustix::process::umask(Mode::from_raw_mode(umask));
                let bound = Bound::claim(&place.socket, Access::Control, mode).unwrap();
                rustix::process::umask(Mode::from_raw_mode(0o022));
                assert_eq!(fs::metadata(&place.socket).unwrap().mode() & 0o777, mode);
                drop(bound);
            }
        }
    });
}

/// Without a descriptor left, the operator is answered, again and again, and the server does not spin.
/// Server and operator are one process here, which none but them opens anything in.
#[test]
fn a_lack_of_descriptors_locks_nobody_out() {
    in_a_process_of_its_own("a_lack_of_descriptors_locks_nobody_out", || {
        let place = place();
        let readers = readers(&place);
        let _manager = Manager::serve_readers(&place.socket, Some(readers.clone()));
        let limit = 64;
        let found = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), ..found }).unwrap();
        let mut taken = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
        // One for our side of each connection; the server's side has nothing but its reserve.
        taken.pop();
        let is_refused = |response: Option<Response>| {
            matches!(response, Some(Response::Error { code: ErrorCode::Busy, message })
                if message.contains("no descriptor left"))
        };
        for _ in 0..3 {
            // A reader gets none of it.
            let mut reader = StdStream::connect(&readers.path).unwrap();
            assert!(is_refused(hear(&mut reader)));
            assert_eq!(hear(&mut reader), None);
        }
        let mut ours = StdStream::connect(&place.socket).unwrap();
        for _ in 0..3 {
            // By the reserve nobody stays.
            send(&mut ours, &Request::Events { follow: true });
            assert!(is_refused(hear(&mut ours)));
            send(&mut ours, &Request::Ps);
            assert_eq!(hear(&mut ours), Some(Response::Done));
            drop(ours);
            ours = StdStream::connect(&place.socket).unwrap();
        }
        send(&mut ours, &Request::Ps);
        assert_eq!(hear(&mut ours), Some(Response::Done));
        // A second one waits in the backlog, without a descriptor on the server's side.
        drop(taken.pop());
        let mut waits = StdStream::connect(&place.socket).unwrap();
        let used = processor_time();
        std::thread::sleep(Duration::from_millis(300));
        let used = processor_time() - used;
        assert!(used < Duration::from_millis(100), "{used:?} of 300 ms");
        drop(ours);
        send(&mut waits, &Request::Ps);
        assert_eq!(hear(&mut waits), Some(Response::Done));
    });
}

/// What this process has used, user and system together.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap()
}
