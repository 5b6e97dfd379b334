//! Followed logs, rotated by the programs that rotate them everywhere: the rows of `docs/logs.md`, on the real
//! program. What tools can be made to do by chance alone, the model in `tests/sources` does.
//!
//! Rules:
//! - Two sentinels follow each log, a native one and a component. The manager is killed while lines come, the
//!   log is rotated while it is away, and it is killed once more at the end.
//! - No two lines are equal (`numbered`), and not only their count has to be right: one that is lost and one
//!   that is doubled do not make up for one another.
//! - Lines come as fast as the tools take them. A writer is ahead of who counts by at most [`AHEAD_MAX`], so
//!   that rotations happen to a log that is being read.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test: its helpers fail it too")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use duende_tests::rows::Row;
use duende_tests::{
    Fleet, Outcome, Total, component, libfaketime, linked, numbered, program, tool, wait_for,
};

/// Who counts lines: one daemon of each place.
const SENTINELS: [&str; 2] = ["native", "wos"];
/// Lines that are written and not counted yet.
const AHEAD_MAX: u64 = 3_000;
/// Lines of each log.
const LINES: u64 = 20_000;

/// A fleet of two sentinels, and what was written to the log that they follow.
struct Followed {
    fleet: Fleet,
    written: u64,
}

impl Followed {
    /// `keys` are more of the channel's.
    fn new(name: &str, file: &str, keys: &str) -> Self {
        let keys = format!(
            "grant = [\"log\", \"state\", \"metric\", \"channel:lines\"]\n\
             [daemon.channel.lines]\nfrom = {{ tail = \"{{home}}/{file}\" }}\n{keys}\n"
        );
        let [native, wos] = SENTINELS;
        let daemons =
            linked(native, "log-sentinel", &keys) + &component(wos, "log-sentinel", &keys);
        Self { fleet: Fleet::new(name, &daemons), written: 0 }
    }

    fn home(&self) -> &Path {
        self.fleet.home()
    }

    /// The text of the next lines.
    fn text(&mut self, lines: u64) -> String {
        let first = self.written;
        self.written += lines;
        (first..self.written).map(numbered).collect()
    }

    /// Waits until no sentinel is more than so many lines behind. Their rows.
    #[track_caller]
    fn wait_counted(&self, behind_max: u64) -> Vec<Row> {
        let until = self.written - behind_max.min(self.written);
        let counted =
            |daemon: &&str| self.fleet.wait_row(daemon, |row| row.count("requests_total") >= until);
        SENTINELS.iter().map(counted).collect()
    }

    /// Both sentinels have counted this, and nothing else.
    #[track_caller]
    fn assert_counted(&self, total: Total) {
        for daemon in SENTINELS {
            // A count that is passed never comes back.
            let row = self.fleet.wait_row(daemon, |row| row.count("requests_total") >= total.lines);
            let counted = total_of(&row);
            assert_eq!(counted, total, "{row:?}\n{}", self.story());
            assert_eq!(row.count("malformed_total"), 0, "{row:?}");
        }
    }

    /// Waits until no sentinel is more than so many lines behind, and what they have counted is on disk.
    #[track_caller]
    fn wait_stored(&self, behind_max: u64) {
        self.wait_counted(behind_max);
        for daemon in SENTINELS {
            // An export waits for the disk.
            let file = self.home().join(format!("{daemon}.stored"));
            let _ = fs::remove_file(&file);
            let file = file.display().to_string();
            self.fleet.run(&["state", "export", daemon, "--output", &file]).done();
        }
    }

    /// Kills the manager once more, writes a last line, and has everything counted once. Nothing was said to be
    /// lost, unless of a file that was removed after it had been read to its end, at one of these bytes: nobody
    /// knows what came to that.
    #[track_caller]
    fn end(mut self, ends: &[u64], last: impl FnOnce(&mut Self)) {
        self.fleet.kill_manager();
        last(&mut self);
        self.fleet.start();
        self.assert_counted(Total::of_first(self.written));
        let ends: Vec<_> = ends.iter().map(|end| format!("up to byte {end}:")).collect();
        let mut gaps = self.gaps();
        gaps.retain(|(_, detail)| !ends.iter().any(|end| detail.contains(end)));
        assert!(gaps.is_empty(), "{gaps:?}");
        self.fleet.down();
    }

    /// What was said to be lost: which sentinel said what.
    fn gaps(&mut self) -> Vec<(String, String)> {
        let events = self.fleet.events().iter();
        let gaps = events.filter(|event| event.kind == "source_gap");
        gaps.map(|gap| (gap.daemon.clone(), gap.detail.clone())).collect()
    }

    /// What sentinels and manager said, for the text of a failure.
    fn story(&self) -> String {
        let logs = SENTINELS.map(|daemon| fs::read_to_string(self.fleet.row(daemon).log_path));
        let logs: Vec<_> = logs.into_iter().flatten().collect();
        format!("{}\n{}", self.fleet.story(), logs.join("\n"))
    }
}

fn total_of(row: &Row) -> Total {
    Total { lines: row.count("requests_total"), bytes: row.count("bytes_total") }
}

/// A web server, as far as its log is concerned: a process that opens it anew when it gets SIGHUP.
struct Server {
    child: Child,
    asked: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

impl Server {
    fn start(log: &Path) -> Self {
        let mut command = Command::new(program("puppet"));
        command.arg("log").arg(log).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let asked = child.stdin.take();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, asked, said };
        // It can be signalled from now on.
        server.begin(0);
        server.finish();
        server
    }

    /// Has it write so many lines.
    fn begin(&mut self, lines: u64) {
        writeln!(self.asked.as_mut().unwrap(), "{lines}").unwrap();
    }

    /// Waits until they are written. How many there are by now.
    fn finish(&mut self) -> u64 {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().parse().unwrap()
    }

    fn write(&mut self, followed: &mut Followed, lines: u64) {
        self.write_while(followed, lines, || ());
    }

    /// Has it write lines while something else goes on. A signal that came meanwhile has done its work when
    /// this returns.
    fn write_while(&mut self, followed: &mut Followed, lines: u64, meanwhile: impl FnOnce()) {
        self.begin(lines);
        meanwhile();
        self.finish();
        self.begin(0);
        followed.written = self.finish();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.asked.take());
        let ended = self.child.wait();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success(), "the server failed");
        }
    }
}

/// logrotate, with a configuration and a state of its own.
struct Logrotate {
    home: PathBuf,
    /// How often it was run: each time is a day.
    day: u32,
}

impl Logrotate {
    /// `keys` are those of the log, one a line; in them `{pid}` stands for the server's process.
    fn new(followed: &Followed, server: &Server, keys: &str) -> Self {
        let home = followed.home().to_owned();
        let keys = keys.replace("{pid}", &server.child.id().to_string());
        let text = format!("{}/access.log {{\nrotate 100\n{keys}\n}}\n", home.display());
        // It takes no configuration that others may write into.
        let mut options = fs::File::options();
        let file = options.write(true).create_new(true).mode(0o600);
        file.open(home.join("rotate.conf")).unwrap().write_all(text.as_bytes()).unwrap();
        Self { home, day: 0 }
    }

    /// Rotates, whatever is written meanwhile.
    fn run(&mut self) {
        self.day += 1;
        let mut command = Command::new(tool("logrotate", "logrotate"));
        command.arg("--force").arg("--state").arg(self.home.join("rotate.state"));
        command.arg(self.home.join("rotate.conf"));
        // A date is in names only once.
        command.env("LD_PRELOAD", libfaketime()).env("FAKETIME", format!("+{}d", self.day));
        Outcome::of(&mut command).done();
    }
}

/// What a server does while its log is rotated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    /// It writes.
    Writes,
    /// It rests.
    Rests,
    /// It rests, and some of what it wrote since the last rotation has been read.
    RestsAndIsRead,
}

/// Has logrotate rotate a server's log, `rounds` times while the manager runs, before and after it was killed, and
/// three times while it is away.
fn check_logrotate(name: &str, rounds: u64, meanwhile: Meanwhile, keys: &str) {
    let mut followed = Followed::new(name, "access.log", "");
    let mut server = Server::start(&followed.home().join("access.log"));
    let mut logrotate = Logrotate::new(&followed, &server, keys);
    let batches = if meanwhile == Meanwhile::Writes { 2 } else { 1 };
    let lines = LINES / (rounds + 3) / batches;
    let is_read = meanwhile == Meanwhile::RestsAndIsRead;
    let rotate =
        |followed: &mut Followed, server: &mut Server, logrotate: &mut Logrotate| match meanwhile {
            Meanwhile::Writes => server.write_while(followed, lines, || logrotate.run()),
            _ => server.write_while(followed, 0, || logrotate.run()),
        };
    followed.fleet.start();
    for number in 0..rounds {
        server.write(&mut followed, lines);
        // Until the first line was seen, what is older than the file that has the name is nobody's.
        followed.wait_counted(match (number, is_read) {
            (0, _) => 0,
            (_, true) => lines / 2,
            (_, false) => AHEAD_MAX,
        });
        if number == rounds / 2 {
            if is_read {
                followed.wait_stored(lines / 2);
            }
            followed.fleet.kill_manager();
            for _ in 0..3 {
                rotate(&mut followed, &mut server, &mut logrotate);
                server.write(&mut followed, lines);
            }
            followed.fleet.start();
            followed.wait_counted(lines / 2);
        }
        rotate(&mut followed, &mut server, &mut logrotate);
    }
    followed.end(&[], |followed| server.write(followed, 1));
}

#[test]
fn logrotate_renames_and_compresses_later() {
    let keys = "create\ncompress\ndelaycompress\npostrotate\nkill -HUP {pid}\nendscript";
    check_logrotate("renamed", 37, Meanwhile::Writes, keys);
}

#[test]
fn logrotate_dates_and_compresses_at_once() {
    let zstd = tool("zstd", "zstd");
    let keys = format!(
        "create\ndateext\ncompress\ncompresscmd {}\ncompressext .zst\ncompressoptions -q\n\
         postrotate\nkill -HUP {{pid}}\nendscript",
        zstd.display()
    );
    // What a server writes to a file that is compressed already is in no file any more.
    check_logrotate("dated", 17, Meanwhile::Rests, &keys);
}

#[test]
fn logrotate_copies_and_truncates() {
    // What is written between the two is lost by the scheme, and a file of which nothing was read can't be told
    // from one that was never there.
    check_logrotate("copied", 37, Meanwhile::RestsAndIsRead, "copytruncate");
}

/// What is written while a file is copied and truncated may be lost; what is in a file may not, and nothing comes
/// twice.
#[test]
fn what_logrotate_copied_is_counted_whatever_it_truncates() {
    let mut followed = Followed::new("busy", "access.log", "");
    let mut server = Server::start(&followed.home().join("access.log"));
    let mut logrotate = Logrotate::new(&followed, &server, "copytruncate");
    followed.fleet.start();
    for _ in 0..20 {
        server.write(&mut followed, 500);
        followed.wait_counted(250);
        server.write_while(&mut followed, 500, || logrotate.run());
    }
    let left = files(followed.home(), "access.log");
    let left = left.iter().fold(Total::default(), |total, file| total + of_file(file));
    let written = Total::of_first(followed.written);
    // Behind the last line is nothing.
    server.write(&mut followed, 1);
    let mut rows = Vec::new();
    for daemon in SENTINELS {
        let last = |row: &Row| row.count("bytes_total") >= left.bytes + written.lines;
        rows.push(followed.fleet.wait_row(daemon, last));
    }
    for row in rows {
        let counted = total_of(&row);
        assert!(counted.lines > left.lines, "{counted:?} of {left:?}: {}", followed.story());
        assert!(counted.lines <= followed.written, "{counted:?} of {written:?}");
        assert!(counted.bytes <= Total::of_first(followed.written).bytes, "{counted:?}");
    }
    followed.fleet.down();
}

/// Moved to where nobody looks: nothing is lost while the manager runs, and what was not read before it was away
/// is told.
#[test]
fn logrotate_moves_to_another_directory() {
    const LINES_EACH: u64 = 1_000;
    let mut followed = Followed::new("moved", "access.log", "");
    let old = followed.home().join("old");
    fs::create_dir(&old).unwrap();
    let mut server = Server::start(&followed.home().join("access.log"));
    let keys = "create\nolddir old\npostrotate\nkill -HUP {pid}\nendscript";
    let mut logrotate = Logrotate::new(&followed, &server, keys);
    followed.fleet.start();
    for _ in 0..20 {
        server.write(&mut followed, 1);
        // Each file has been seen: what comes and goes in between is nobody's.
        followed.wait_counted(0);
        server.write_while(&mut followed, LINES_EACH, || logrotate.run());
    }
    server.write(&mut followed, 1);
    followed.wait_stored(0);
    assert_eq!(followed.gaps(), []);
    followed.assert_counted(Total::of_first(followed.written));

    let read = fs::metadata(followed.home().join("access.log")).unwrap().len();
    followed.fleet.kill_manager();
    server.write(&mut followed, LINES_EACH);
    server.write_while(&mut followed, 0, || logrotate.run());
    server.write(&mut followed, LINES_EACH);
    followed.fleet.start();
    let says = format!("up to byte {read}:");
    check_gap(&mut followed, &says);
    let lost = fs::read_to_string(old.join("access.log.1")).unwrap();
    let lost = Total::of_text(&lost[usize::try_from(read).unwrap()..]);
    let written = Total::of_first(followed.written);
    assert_eq!(lost.lines, LINES_EACH);
    let counted = Total { lines: written.lines - lost.lines, bytes: written.bytes - lost.bytes };
    followed.assert_counted(counted);
    followed.fleet.down();
}

/// Each sentinel says that something is lost, with these words. It says the same of what it had read to its end a
/// moment ago: nobody knows what came to that.
#[track_caller]
fn check_gap(followed: &mut Followed, says: &str) {
    for daemon in SENTINELS {
        wait_for(says, || {
            let gaps = followed.gaps();
            gaps.iter().any(|(of, detail)| of == daemon && detail.contains(says)).then_some(())
        });
    }
}

/// The files of a directory whose names begin so.
fn files(directory: &Path, begin: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let begins = |name: &str| name.starts_with(begin);
    let found = entries.filter(|entry| entry.file_name().to_str().is_some_and(begins));
    found.map(|entry| entry.path()).collect()
}

fn of_file(file: &Path) -> Total {
    Total::of_text(&fs::read_to_string(file).unwrap())
}

/// A logger of the kind that reads standard input, and keeps `current` and as many finished files as it is told.
struct Logger {
    child: Child,
    input: Option<ChildStdin>,
}

/// How one is started on a directory, to keep so many finished files.
type Start = fn(&Path, u32) -> Command;

/// How large its files become, in bytes: more than a hundred lines.
const FILE_BYTES: u32 = 16_384;

impl Logger {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        Self { child, input }
    }

    fn write(&mut self, text: &str) {
        self.input.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Has it write what it has, and end.
    fn end(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        // It ends with its input, whatever becomes of the test.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

fn svlogd(directory: &Path, keep: u32) -> Command {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("config"), format!("s{FILE_BYTES}\nn{keep}\n")).unwrap();
    let mut command = Command::new(tool("runit", "svlogd"));
    command.arg("-ttt").arg(directory);
    command
}

fn multilog(directory: &Path, keep: u32) -> Command {
    let mut command = Command::new(tool("daemontools", "multilog"));
    command.args(["t", &format!("s{FILE_BYTES}"), &format!("n{keep}")]).arg(directory);
    command
}

fn s6_log(directory: &Path, keep: u32) -> Command {
    let mut command = Command::new(tool("s6", "s6-log"));
    command.args([&format!("n{keep}"), &format!("s{FILE_BYTES}"), "T"]).arg(directory);
    command
}

/// Has a logger write and rotate, by itself, while the manager runs and while it is away; with as many files as
/// there are, and then with so few that some are removed before they are read.
fn check_logger(name: &str, start: Start) {
    const BATCH: u64 = 1_000;
    const KEEP: u32 = 500;
    // More files come than are kept open, and each is kept open for so long.
    let mut followed = Followed::new(name, "log/current", "rotate_wait = \"200ms\"");
    let directory = followed.home().join("log");
    let mut logger = Logger::start(&mut start(&directory, KEEP));
    followed.fleet.start();
    logger.write(&followed.text(1));
    followed.wait_counted(0);
    let batches = LINES / BATCH;
    for batch in 0..batches {
        if batch == batches / 2 {
            followed.fleet.kill_manager();
            // The logger too is started again, and goes on with another file.
            logger.write(&followed.text(BATCH));
            logger.end();
            logger = Logger::start(&mut start(&directory, KEEP));
            logger.write(&followed.text(BATCH));
            followed.fleet.start();
        }
        logger.write(&followed.text(BATCH));
        followed.wait_counted(AHEAD_MAX);
    }
    followed.wait_counted(0);
    followed.assert_counted(Total::of_first(followed.written));
    assert_eq!(followed.gaps(), []);
    let finished = files(&directory, "@").len();
    assert!(finished >= 100, "it rotated {finished} times");

    // From now on two are kept. The last file that was read is one of which something was read.
    let current = directory.join("current");
    let read = loop {
        logger.write(&followed.text(1));
        followed.wait_counted(0);
        let length = fs::metadata(&current).unwrap().len();
        if (1..u64::from(FILE_BYTES / 2)).contains(&length) {
            break length;
        }
    };
    followed.wait_stored(0);
    followed.fleet.kill_manager();
    logger.end();
    let counted = Total::of_first(followed.written);
    let mut finished = files(&directory, "@");
    finished.sort();
    for file in &finished[..finished.len() - 2] {
        fs::remove_file(file).unwrap();
    }
    let mut logger = Logger::start(&mut start(&directory, 2));
    logger.write(&followed.text(BATCH));
    logger.end();
    let mut left = files(&directory, "@");
    left.push(current);
    let left = left.iter().fold(Total::default(), |total, file| total + of_file(file));
    assert!(left.lines > 0 && left.lines < BATCH, "{left:?}");
    followed.fleet.start();
    check_gap(&mut followed, &format!("up to byte {read}:"));
    followed.assert_counted(counted + left);
    followed.fleet.down();
}

#[test]
fn svlogd_finishes_files_by_itself() {
    check_logger("svlogd", svlogd);
}

#[test]
fn multilog_finishes_files_by_itself() {
    check_logger("multilog", multilog);
}

#[test]
fn s6_log_finishes_files_by_itself() {
    check_logger("s6-log", s6_log);
}

/// A container's log as Kubernetes has it: written by the runtime, in the CRI's form, and rotated by the kubelet.
struct Container {
    /// Of the container's logs, one for each start of it.
    directory: PathBuf,
    /// What log collectors follow.
    link: PathBuf,
    starts: u32,
    rotations: u32,
    file: fs::File,
    /// What is still to come of a line that was written in part.
    rest: Option<String>,
    /// How long the files were that are not written any more, in bytes.
    ends: Vec<u64>,
}

impl Container {
    /// The kubelet's `containerLogMaxFiles`, by default: so many of each start, with that which is written.
    const FILES_MAX: usize = 5;

    fn start(home: &Path) -> Self {
        let directory = home.join("pods/shop_web-7d4b9_0b6e/web");
        fs::create_dir_all(&directory).unwrap();
        fs::create_dir(home.join("containers")).unwrap();
        let link = home.join("containers/web.log");
        let file = fs::File::create_new(directory.join("0.log")).unwrap();
        symlink(directory.join("0.log"), &link).unwrap();
        Self { directory, link, starts: 1, rotations: 0, file, rest: None, ends: Vec::new() }
    }

    /// Goes on in another file.
    fn open(&mut self, log: &Path) {
        self.ends.push(self.file.metadata().unwrap().len());
        self.file = fs::File::create_new(log).unwrap();
    }

    fn log(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.starts - 1))
    }

    /// An entry: a line, or a part of one.
    fn entry(&mut self, tag: char, text: &str) {
        let entry = format!("2026-11-21T09:15:15.123456789Z stdout {tag} {text}\n");
        self.file.write_all(entry.as_bytes()).unwrap();
    }

    /// Writes lines, the last of them in part.
    fn write(&mut self, followed: &mut Followed, lines: u64) {
        self.finish();
        let text = followed.text(lines);
        let (whole, last) = text.trim_end().rsplit_once('\n').unwrap();
        for line in whole.lines() {
            self.entry('F', line);
        }
        let (part, rest) = last.split_at(last.len() / 2);
        self.entry('P', part);
        self.rest = Some(rest.to_owned());
    }

    /// Writes the rest of a line.
    fn finish(&mut self) {
        if let Some(rest) = self.rest.take() {
            self.entry('F', &rest);
        }
    }

    /// What the kubelet does about a log that is too large; meanwhile the container writes.
    fn rotate(&mut self, followed: &mut Followed, lines: u64) {
        let log = self.log();
        let mut rotated = files(&self.directory, &format!("{}.log.", self.starts - 1));
        rotated.sort();
        let excess = rotated.len().saturating_sub(Self::FILES_MAX - 2);
        for old in rotated.drain(..excess) {
            fs::remove_file(old).unwrap();
        }
        for old in rotated.iter().filter(|old| old.extension().is_none_or(|ending| ending != "gz"))
        {
            let with = |ending: &str| PathBuf::from(format!("{}.{ending}", old.display()));
            let packed = fs::File::create(with("tmp")).unwrap();
            let status = Command::new("gzip").arg("-c").arg(old).stdout(packed).status();
            assert!(status.unwrap().success());
            fs::rename(with("tmp"), with("gz")).unwrap();
            fs::remove_file(old).unwrap();
        }
        self.rotations += 1;
        let stamp = format!("20261121-09{:02}{:02}", self.rotations / 60, self.rotations % 60);
        fs::rename(&log, format!("{}.{stamp}", log.display())).unwrap();
        // The runtime has not opened it anew yet.
        self.write(followed, lines);
        self.open(&log);
    }

    /// The container ends and is started again; of those before, one is kept.
    fn restart(&mut self) {
        self.finish();
        if let Some(dead) = self.starts.checked_sub(2) {
            for log in files(&self.directory, &format!("{dead}.log")) {
                fs::remove_file(log).unwrap();
            }
        }
        self.starts += 1;
        self.open(&self.log());
        let next = self.link.with_extension("next");
        symlink(self.log(), &next).unwrap();
        fs::rename(next, &self.link).unwrap();
    }
}

#[test]
fn the_kubelet_rotates_and_containers_are_started_again() {
    const ROUNDS: u64 = 24;
    const ROUND: u64 = LINES / (ROUNDS + 4);
    let mut followed = Followed::new("kubelet", "containers/web.log", "");
    let mut container = Container::start(followed.home());
    let round = |followed: &mut Followed, container: &mut Container, is_restart: bool| {
        container.write(followed, ROUND - 10);
        container.rotate(followed, 10);
        if is_restart {
            container.restart();
        }
    };
    followed.fleet.start();
    container.write(&mut followed, 2);
    followed.wait_counted(1);
    for number in 0..ROUNDS {
        if number == ROUNDS / 2 {
            // The file that is read when it is killed is still there, in some form, when it is started again.
            container.write(&mut followed, ROUND);
            followed.wait_stored(ROUND / 2);
            followed.fleet.kill_manager();
            for is_restart in [false, true, false] {
                round(&mut followed, &mut container, is_restart);
            }
            followed.fleet.start();
        }
        round(&mut followed, &mut container, number % 6 == 5);
        followed.wait_counted(AHEAD_MAX);
    }
    let ends = container.ends.clone();
    followed.end(&ends, |followed| {
        container.write(followed, 2);
        container.finish();
    });
}
