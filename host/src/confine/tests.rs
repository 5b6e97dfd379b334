//! What each layer takes is tried by whoever wears it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use super::*;

/// Runs something in a thread that is confined: the layers are each thread's own.
fn confined<T: Send + 'static>(
    confinement: fn() -> Confinement,
    what: impl FnOnce() -> T + Send + 'static,
) -> T {
    let thread = std::thread::spawn(move || {
        let layers = this_process(&confinement()).unwrap();
        // This kernel has all of them: what follows would prove nothing otherwise.
        assert!(layers.iter().all(|(_, layer)| *layer == Layer::Full), "{layers:?}");
        what()
    });
    thread.join().unwrap()
}

fn worker_without_images() -> Confinement {
    Confinement::worker(Vec::new())
}

const ALL: [fn() -> Confinement; 2] = [Confinement::compiler, worker_without_images];

#[test]
fn there_are_no_files_and_no_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "secret").unwrap();
    let socket = directory.path().join("socket");
    let _listens = UnixDatagram::bind(&socket).unwrap();
    for confinement in ALL {
        let (file, socket, directory) = (file.clone(), socket.clone(), directory.path().to_owned());
        let errors = confined(confinement, move || {
            [
                File::open(&file).map(drop),
                fs::read_dir(&directory).map(drop),
                fs::write(directory.join("new"), "").map(drop),
                fs::remove_file(&file),
                fs::rename(&file, directory.join("moved")),
                fs::create_dir(directory.join("made")),
                std::os::unix::fs::symlink(&file, directory.join("link")),
                TcpListener::bind("127.0.0.1:0").map(drop),
                UnixDatagram::unbound().map(drop),
                UnixDatagram::unbound().and_then(|own| own.send_to(b"", &socket)).map(drop),
                rustix::process::kill_process(
                    rustix::process::getppid().unwrap(),
                    rustix::process::Signal::CONT,
                )
                .map_err(Into::into),
            ]
            .map(|done| done.map_err(|error| error.kind()))
        });
        for (index, error) in errors.into_iter().enumerate() {
            assert_eq!(error, Err(io::ErrorKind::PermissionDenied), "{index}");
        }
    }
    assert_eq!(fs::read(&file).unwrap(), b"secret");
}

/// What they are there for is left: memory that is run, threads, clocks.
#[test]
fn what_they_need_is_left() {
    for confinement in ALL {
        let sum = confined(confinement, || {
            let threads: Vec<_> = (0..4_u64)
                .map(|index| {
                    std::thread::Builder::new().name("t".into()).spawn(move || vec![index; 1 << 16])
                })
                .collect();
            let made = threads.into_iter().map(|thread| thread.unwrap().join().unwrap());
            std::thread::sleep(std::time::Duration::from_millis(1));
            made.flatten().sum::<u64>()
        });
        assert_eq!(sum, 6 << 16);
    }
}

/// Images can be read where they are said to be, and nothing be changed there.
#[test]
fn a_worker_reads_its_images_alone() {
    let directory = tempfile::tempdir().unwrap();
    let [images, beside] = ["images", "beside"].map(|name| directory.path().join(name));
    for directory in [&images, &beside] {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("entry"), "code").unwrap();
    }
    let thread = std::thread::spawn(move || {
        this_process(&Confinement::worker(vec![images.clone()])).unwrap();
        assert_eq!(fs::read(images.join("entry")).unwrap(), b"code");
        let refused = [
            fs::read(beside.join("entry")).map(drop),
            fs::write(images.join("entry"), "other"),
            fs::write(images.join("new"), ""),
            // Out of it by a link would be a way around.
            fs::read(images.join("../beside/entry")).map(drop),
        ];
        refused.map(|done| done.map_err(|error| error.kind()))
    });
    let refused = thread.join().unwrap();
    assert_eq!(refused, [const { Err(io::ErrorKind::PermissionDenied) }; 4]);
}

/// Seen from outside, in `/proc`.
#[test]
fn privileges_are_gone() {
    let (sender, told) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        this_process(&worker_without_images()).unwrap();
        sender.send(rustix::thread::gettid()).unwrap();
        let _ = gone.recv();
    });
    let id = told.recv().unwrap().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/self/task/{id}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
    for set in ["CapEff", "CapPrm", "CapInh"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    drop(go);
    thread.join().unwrap();
}

/// The call that the process makes which [`what_only_an_attack_does_is_fatal`] starts.
const CALL: &str = "DUENDE_TEST_CALL";

#[test]
fn what_only_an_attack_does_is_fatal() {
    if let Ok(number) = std::env::var(CALL) {
        this_process(&worker_without_images()).unwrap();
        // SAFETY: each of these calls fails with arguments that are all zero, if it is made at all.
        unsafe { libc::syscall(number.parse::<libc::c_long>().unwrap(), 0, 0, 0, 0, 0, 0) };
        // It was let through.
        std::process::exit(3);
    }
    let own = std::env::current_exe().unwrap();
    for call in [
        libc::SYS_execve,
        libc::SYS_ptrace,
        libc::SYS_bpf,
        libc::SYS_unshare,
        libc::SYS_io_uring_setup,
    ] {
        let status = Command::new(&own)
            .args(["--exact", "confine::tests::what_only_an_attack_does_is_fatal"])
            .env(CALL, call.to_string())
            .output()
            .unwrap()
            .status;
        assert_eq!(status.signal(), Some(libc::SIGSYS), "{call}: {status}");
    }
    // As strange, and harmless: it goes on without.
    let status = Command::new(&own)
        .args(["--exact", "confine::tests::what_only_an_attack_does_is_fatal"])
        .env(CALL, libc::SYS_socket.to_string())
        .output()
        .unwrap()
        .status;
    assert_eq!(status.code(), Some(3), "{status}");
}
