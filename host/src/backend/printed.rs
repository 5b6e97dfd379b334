//! What a process of ours prints by itself, a panic say, on its way to a file.
//!
//! Rules:
//! 1. The file is a bounded log (two files of at most [`PRINTED_BYTES_MAX`]), not a descriptor that the
//!    process appends to for ever.
//! 2. Each process has a thread that reads what it prints; it ends with the process. If there can be no
//!    such thread, what is printed is lost, and nothing else goes wrong.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    thread::{self, JoinHandle},
};

use duende_core::wire::link::LogLevel;

use crate::{
    daemon_log::{LogEntry, LogOrigin, LogWriter, tail_last},
    keep::{Drained, Stream},
};

/// Most bytes of the file; what came before is in one more file of this size.
const PRINTED_BYTES_MAX: u64 = 1 << 20;
/// Bytes that are read at once.
const READ_BYTES: usize = 16 << 10;

/// Longest of what a process said last that is passed on, in characters.
const LAST_WORDS_MAX: usize = 300;

/// What a process prints, as it is written to its log.
#[derive(Debug)]
pub(super) struct Printed {
    path: PathBuf,
    /// Bytes that were in the log before.
    before: u64,
    thread: Option<JoinHandle<()>>,
}

/// Where a process is to print, so that it comes to the log at `path`.
pub(super) fn to_log(path: &Path) -> (Stdio, Printed) {
    let before = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let read = read_into(LogWriter::with_bytes_max(path, PRINTED_BYTES_MAX));
    let (stdio, thread) = match read {
        Ok((stdio, thread)) => (stdio, Some(thread)),
        Err(_) => (Stdio::null(), None),
    };
    (stdio, Printed { path: path.to_owned(), before, thread })
}

impl Printed {
    /// Whether all that was printed is in the log, as it is soon after the end of the process.
    pub(super) fn is_written(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The last line, if the process printed any: why it ended, often.
    pub(super) fn last_words(&self) -> Option<String> {
        if fs::metadata(&self.path).ok()?.len() == self.before {
            return None;
        }
        let entry = LogEntry::parse(tail_last(&self.path, 1).ok()?.last()?).ok()?;
        let words = entry.text.strip_prefix("duende: ").unwrap_or(&entry.text);
        (!words.is_empty()).then(|| words.chars().take(LAST_WORDS_MAX).collect())
    }
}

fn read_into(mut log: LogWriter) -> io::Result<(Stdio, JoinHandle<()>)> {
    let (reader, writer) = io::pipe()?;
    let mut stream = Stream::new(reader.into(), LogOrigin::Stderr, LogLevel::Error);
    let thread = thread::Builder::new().name("duende-printed".to_owned()).spawn(move || {
        let mut buffer = vec![0; READ_BYTES];
        while let Drained::Some = stream.read(&mut buffer, &mut log) {
            log.flush();
        }
    })?;
    Ok((writer.into(), thread))
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
        let (stderr, thread) = read_into(LogWriter::with_bytes_max(&path, BYTES_MAX)).unwrap();
        let printed = Printed { path: path.clone(), before: 0, thread: Some(thread) };
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
        assert_eq!(printed.last_words().as_deref(), Some("last words"));
        let sizes: Vec<u64> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size <= BYTES_MAX), "{sizes:?}");
    }
}
