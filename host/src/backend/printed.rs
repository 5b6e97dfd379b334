//! What a process of ours prints by itself, a panic say, on its way to a file.
//!
//! Rules:
//! 1. The file is a bounded log (two files of at most [`PRINTED_BYTES_MAX`]), not a descriptor that the
//!    process appends to for ever.
//! 2. Each process has a thread that reads what it prints; it ends with the process. If there can be no
//!    such thread, what is printed is lost, and nothing else goes wrong.

use std::{io, path::Path, process::Stdio, thread};

use duende_core::wire::link::LogLevel;

use crate::{
    daemon_log::{LogOrigin, LogWriter},
    keep::{Drained, Stream},
};

/// Most bytes of the file; what came before is in one more file of this size.
const PRINTED_BYTES_MAX: u64 = 1 << 20;
/// Bytes that are read at once.
const READ_BYTES: usize = 16 << 10;

/// Where a process is to print, so that it comes to the log at `path`.
pub(super) fn to_log(path: &Path) -> Stdio {
    read_into(LogWriter::with_bytes_max(path, PRINTED_BYTES_MAX)).unwrap_or_else(|_| Stdio::null())
}

fn read_into(mut log: LogWriter) -> io::Result<Stdio> {
    let (reader, writer) = io::pipe()?;
    let mut stream = Stream::new(reader.into(), LogOrigin::Stderr, LogLevel::Error);
    thread::Builder::new().name("duende-printed".to_owned()).spawn(move || {
        let mut buffer = vec![0; READ_BYTES];
        while let Drained::Some = stream.read(&mut buffer, &mut log) {
            log.flush();
        }
    })?;
    Ok(writer.into())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        process::Command,
        time::{Duration, Instant},
    };

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[test]
    fn whatever_is_printed_the_file_is_bounded_and_ends_with_the_last_words() {
        const BYTES_MAX: u64 = 50_000;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("worker.stderr");
        let stderr = read_into(LogWriter::with_bytes_max(&path, BYTES_MAX)).unwrap();
        let script = "i=0; while [ $i -lt 2000 ]; do echo \"$i xxxxxxxxxxxxxxxxxxxxxxxxxxx\" >&2; \
                      i=$((i + 1)); done; printf 'last words' >&2";
        let mut child = Command::new("sh").args(["-c", script]).stderr(stderr).spawn().unwrap();
        assert!(child.wait().unwrap().success());
        let began = Instant::now();
        loop {
            let text = fs::read_to_string(&path).unwrap_or_default();
            if text.ends_with("stderr last words\n") {
                break;
            }
            assert!(began.elapsed() < DEADLINE, "{text}");
            thread::yield_now();
        }
        let sizes: Vec<u64> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size <= BYTES_MAX), "{sizes:?}");
    }
}
