//! A program that does what a shell can't: it says by `sd_notify` that it lives, it opens files until the kernel
//! refuses, and it writes a log that is rotated under it.
//!
//! - `puppet feed PERIOD_MS FILE`: sends `WATCHDOG=1` every so often, and adds a byte to the file for each that
//!   was sent.
//! - `puppet hoard`: says what the kernel answers once no file can be opened any more, keeps all that it has
//!   open, and says every now and then that it is still there.
//! - `puppet log FILE`: for each number on its standard input it writes so many lines to the file, one `write`
//!   each, and then how many there are by now to its standard output. After SIGHUP it opens the file anew before
//!   it does anything else, as web servers do. It ends with its input.

use std::env::args;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use duende_tests::numbered;

fn main() -> ExitCode {
    let words: Vec<String> = args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = match words[..] {
        ["feed", period_ms, file] => feed(period_ms, file),
        ["hoard"] => hoard(),
        ["log", file] => log(file),
        _ => Err(io::Error::other("usage: puppet feed PERIOD_MS FILE | hoard | log FILE")),
    };
    if let Err(error) = ended {
        eprintln!("puppet: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn feed(period_ms: &str, file: &str) -> io::Result<()> {
    let period = Duration::from_millis(period_ms.parse().map_err(io::Error::other)?);
    let mut fed = File::options().create(true).append(true).open(file)?;
    let manager = UnixDatagram::unbound()?;
    manager.connect(std::env::var_os("NOTIFY_SOCKET").ok_or(io::ErrorKind::NotFound)?)?;
    // A manager that is stopped does not stop this.
    manager.set_nonblocking(true)?;
    loop {
        match manager.send(b"WATCHDOG=1") {
            Ok(_) => fed.write_all(b".")?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        sleep(period);
    }
}

fn hoard() -> io::Result<()> {
    let mut held = Vec::new();
    let refused = loop {
        match File::open("/dev/null") {
            Ok(file) => held.push(file),
            Err(error) => break error,
        }
    };
    println!("open after {}: {refused}", held.len());
    if let Err(refused) = UnixDatagram::unbound() {
        println!("socket: {refused}");
    }
    for round in 1_u64.. {
        println!("still here {round}");
        sleep(Duration::from_millis(20));
    }
    drop(held);
    Ok(())
}

fn log(file: &str) -> io::Result<()> {
    let must_reopen = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, must_reopen.clone())?;
    let open = || File::options().create(true).append(true).open(file);
    let mut log = open()?;
    let mut lines = 0;
    for asked in io::stdin().lines() {
        let until = lines + asked?.parse::<u64>().map_err(io::Error::other)?;
        loop {
            if must_reopen.swap(false, Ordering::SeqCst) {
                log = open()?;
            }
            if lines == until {
                break;
            }
            log.write_all(numbered(lines).as_bytes())?;
            lines += 1;
        }
        println!("{lines}");
    }
    Ok(())
}
