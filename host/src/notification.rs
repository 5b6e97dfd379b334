//! What a program says of itself in an `sd_notify` datagram: assignments, one in a line.
//!
//! Rules, which are systemd's:
//! 1. A datagram longer than [`DATAGRAM_BYTES_MAX`], or with a NUL anywhere but at its end, says
//!    nothing.
//! 2. A line whose value can't be read says nothing; the others count. Numbers are decimal, text is
//!    UTF-8. Unknown names, `BUSERROR` among them, say nothing.
//! 3. Of `READY=1`, `RELOADING=1` and `STOPPING=1` the last one counts; of any other name the first
//!    line.
//! 4. `BARRIER=1` comes alone, with one descriptor. Anything else that comes with it says nothing, so
//!    that no sender takes for acknowledged what was never read.
//!
//! Whatever says nothing against expectation is named in [`Notification::ignored`].

use std::fmt;
use std::time::Duration;

/// Longest datagram, in bytes.
pub const DATAGRAM_BYTES_MAX: usize = 4_096;

/// What a datagram says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notification {
    /// `READY=1`, `RELOADING=1` or `STOPPING=1`.
    pub phase: Option<Phase>,
    /// `WATCHDOG=1` or `WATCHDOG=trigger`.
    pub watchdog: Option<Watchdog>,
    /// `WATCHDOG_USEC=…`: the new longest silence; zero: no watchdog.
    pub watchdog_timeout: Option<Duration>,
    /// `EXTEND_TIMEOUT_USEC=…`: how much time it needs from now.
    pub extend_timeout: Option<Duration>,
    /// `MAINPID=…`: its main process. Never 0.
    pub main_pid: Option<u32>,
    /// `STATUS=…`: how it is, for people, on one line. Not escaped.
    pub status: Option<String>,
    /// `ERRNO=…`: why it failed.
    pub errno: Option<i32>,
    /// Descriptors that came with `FDSTORE=1`. They are closed: this manager keeps none.
    pub fdstore: usize,
    /// `BARRIER=1`: the sender waits until its descriptor is closed.
    pub barrier: bool,
    /// What was not heeded, the first of it.
    pub ignored: Option<Ignored>,
}

/// Where a program is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Ready, or ready again after a reload.
    Ready,
    /// Reading its configuration anew.
    Reloading,
    /// On its way to its end.
    Stopping,
}

/// What a program says to its watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watchdog {
    /// It lives.
    Alive,
    /// It wants to be treated as if it had been silent for too long.
    Trigger,
}

/// Why something was not heeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// The datagram is too long.
    TooLong,
    /// The datagram holds a NUL byte.
    Nul,
    /// A value can't be read.
    Value {
        /// Of what: `MAINPID`, …
        name: &'static str,
    },
    /// `BARRIER=1` came with something else.
    BarrierWithMore,
    /// `BARRIER=1` came with this many descriptors.
    BarrierDescriptors(usize),
    /// This many descriptors came with nothing that says what they are for.
    Descriptors(usize),
    /// There was no room in the manager for descriptors that came along.
    NoDescriptors,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => {
                write!(
                    f,
                    "a notification is longer than {DATAGRAM_BYTES_MAX} bytes: all of it is ignored"
                )
            }
            Self::Nul => write!(f, "a notification holds a NUL byte: all of it is ignored"),
            Self::Value { name } => {
                write!(f, "a notification's {name} can't be read: it is ignored")
            }
            Self::BarrierWithMore => {
                write!(f, "a notification has more than BARRIER=1: all of it is ignored")
            }
            Self::BarrierDescriptors(count) => {
                write!(f, "BARRIER=1 came with {count} descriptors instead of one: they are closed")
            }
            Self::Descriptors(count) => {
                write!(
                    f,
                    "{count} descriptors came without FDSTORE=1 or BARRIER=1: they are closed"
                )
            }
            Self::NoDescriptors => {
                write!(
                    f,
                    "the manager has no room for descriptors: those of a notification are closed"
                )
            }
        }
    }
}

impl Notification {
    /// What of it counts for nothing here, in words: what could not be read, or what nobody acts on.
    #[must_use]
    pub fn without_effect(&self) -> Option<String> {
        if let Some(ignored) = &self.ignored {
            return Some(ignored.to_string());
        }
        let name = match (self.watchdog, self.watchdog_timeout) {
            (Some(Watchdog::Trigger), _) => "WATCHDOG=trigger",
            (_, Some(_)) => "WATCHDOG_USEC",
            _ => return None,
        };
        Some(format!("a notification's {name} is not acted on: the key `watchdog` says how long"))
    }

    /// Reads a datagram that came with `descriptors` descriptors. A datagram that the system has cut
    /// has at least [`DATAGRAM_BYTES_MAX`] + 1 bytes.
    #[must_use]
    pub fn parse(datagram: &[u8], descriptors: usize) -> Self {
        let ignored = |why| Self { ignored: Some(why), ..Self::default() };
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return ignored(Ignored::TooLong);
        }
        let datagram = datagram.strip_suffix(b"\0").unwrap_or(datagram);
        if datagram.contains(&0) {
            return ignored(Ignored::Nul);
        }
        let lines =
            || datagram.split(|byte| *byte == b'\n').filter(|line: &&[u8]| !line.is_empty());
        if lines().any(|line| line == b"BARRIER=1") {
            return match (lines().count(), descriptors) {
                (1, 1) => Self { barrier: true, ..Self::default() },
                (1, count) => ignored(Ignored::BarrierDescriptors(count)),
                _ => ignored(Ignored::BarrierWithMore),
            };
        }
        let value = |name: &str| {
            lines().find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        };
        let phase = |line: &[u8]| match line {
            b"READY=1" => Some(Phase::Ready),
            b"RELOADING=1" => Some(Phase::Reloading),
            b"STOPPING=1" => Some(Phase::Stopping),
            _ => None,
        };
        let watchdog = |text: &str| match text {
            "1" => Some(Watchdog::Alive),
            "trigger" => Some(Watchdog::Trigger),
            _ => None,
        };
        let micros = |text: &str| decimal(text).map(Duration::from_micros);
        let stores = value("FDSTORE") == Some(b"1");
        let mut ignored = None;
        let mut read = Reader { value, ignored: &mut ignored };
        let notification = Self {
            phase: lines().filter_map(phase).next_back(),
            watchdog: read.field("WATCHDOG", watchdog),
            watchdog_timeout: read.field("WATCHDOG_USEC", micros),
            extend_timeout: read.field("EXTEND_TIMEOUT_USEC", micros),
            main_pid: read.field("MAINPID", process),
            status: read.field("STATUS", |text| Some(text.to_owned())),
            errno: read.field("ERRNO", |text| i32::try_from(decimal(text)?).ok()),
            fdstore: if stores { descriptors } else { 0 },
            barrier: false,
            ignored: None,
        };
        if ignored.is_none() && descriptors > 0 && !stores {
            ignored = Some(Ignored::Descriptors(descriptors));
        }
        Self { ignored, ..notification }
    }
}

/// Reads the values of names, and remembers the first that can't be read.
struct Reader<'a, V> {
    value: V,
    ignored: &'a mut Option<Ignored>,
}

impl<'a, V: Fn(&str) -> Option<&'a [u8]>> Reader<'_, V> {
    fn field<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = (self.value)(name)?;
        let known = str::from_utf8(value).ok().and_then(read);
        if known.is_none() && self.ignored.is_none() {
            *self.ignored = Some(Ignored::Value { name });
        }
        known
    }
}

/// The number of a process: positive, in 31 bits.
fn process(text: &str) -> Option<u32> {
    let pid = i32::try_from(decimal(text)?).ok().filter(|pid| *pid > 0)?;
    u32::try_from(pid).ok()
}

/// A decimal number without a sign.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(datagram: &[u8], descriptors: usize, expected: &Notification) {
        assert_eq!(&Notification::parse(datagram, descriptors), expected);
    }

    #[test]
    fn every_word_is_understood() {
        let all = b"READY=1\nSTATUS=up = \xc3\xbcber\nWATCHDOG=1\nWATCHDOG_USEC=250000\n\
                    EXTEND_TIMEOUT_USEC=3\nMAINPID=42\nERRNO=2\nBUSERROR=org.x\nFOO=2\nfoo\n\n\0";
        let expected = Notification {
            phase: Some(Phase::Ready),
            watchdog: Some(Watchdog::Alive),
            watchdog_timeout: Some(Duration::from_millis(250)),
            extend_timeout: Some(Duration::from_micros(3)),
            main_pid: Some(42),
            status: Some("up = über".to_owned()),
            errno: Some(2),
            ..Notification::default()
        };
        check(all, 0, &expected);
        check(b"", 0, &Notification::default());
        check(b"\n\n", 0, &Notification::default());
        check(
            b"WATCHDOG=trigger\nSTATUS=",
            0,
            &Notification {
                watchdog: Some(Watchdog::Trigger),
                status: Some(String::new()),
                ..Notification::default()
            },
        );
        check(b"FDSTORE=1\nFDNAME=x", 3, &Notification { fdstore: 3, ..Notification::default() });
    }

    #[test]
    fn the_last_phase_counts_and_the_first_of_the_rest() {
        let phase = |text: &[u8]| Notification::parse(text, 0).phase;
        assert_eq!(phase(b"READY=1\nSTOPPING=1"), Some(Phase::Stopping));
        assert_eq!(phase(b"RELOADING=1\nREADY=1\nREADY=0"), Some(Phase::Ready));
        let notification = Notification::parse(b"STATUS=a\nMAINPID=7\nSTATUS=b\nMAINPID=8", 0);
        assert_eq!(notification.status.as_deref(), Some("a"));
        assert_eq!(notification.main_pid, Some(7));
    }

    #[test]
    fn what_has_no_effect_is_said() {
        for (text, expected) in [
            ("READY=1", None),
            ("WATCHDOG=1", None),
            ("WATCHDOG=trigger", Some("WATCHDOG=trigger")),
            ("READY=1\nWATCHDOG_USEC=5", Some("WATCHDOG_USEC")),
            ("MAINPID=x", Some("MAINPID")),
        ] {
            let said = Notification::parse(text.as_bytes(), 0).without_effect();
            assert_eq!(said.is_some(), expected.is_some(), "{text}");
            assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_ignored_in_part() {
        let ready_but = |why| Notification {
            phase: Some(Phase::Ready),
            ignored: Some(why),
            ..Notification::default()
        };
        for (line, name) in [
            ("MAINPID=0", "MAINPID"),
            ("MAINPID=-1", "MAINPID"),
            ("MAINPID=4294967296", "MAINPID"),
            ("MAINPID=", "MAINPID"),
            ("WATCHDOG=yes", "WATCHDOG"),
            ("WATCHDOG_USEC=0x10", "WATCHDOG_USEC"),
            ("WATCHDOG_USEC=99999999999999999999", "WATCHDOG_USEC"),
            ("EXTEND_TIMEOUT_USEC=+1", "EXTEND_TIMEOUT_USEC"),
            ("ERRNO=2147483648", "ERRNO"),
        ] {
            let text = format!("{line}\nREADY=1");
            check(text.as_bytes(), 0, &ready_but(Ignored::Value { name }));
        }
        check(b"READY=1\nMAINPID=x\nMAINPID=7", 0, &ready_but(Ignored::Value { name: "MAINPID" }));
        check(b"READY=1\nSTATUS=\xff", 0, &ready_but(Ignored::Value { name: "STATUS" }));
        check(b"READY=1", 2, &ready_but(Ignored::Descriptors(2)));
    }

    #[test]
    fn what_is_no_datagram_says_nothing() {
        let ignored = |why| Notification { ignored: Some(why), ..Notification::default() };
        let mut long = b"READY=1\n".repeat(DATAGRAM_BYTES_MAX / 8);
        assert_eq!(Notification::parse(&long, 0).phase, Some(Phase::Ready));
        long.push(b'\n');
        check(&long, 0, &ignored(Ignored::TooLong));
        check(b"READY=1\0STATUS=x", 0, &ignored(Ignored::Nul));
        check(b"READY=1\0\0", 0, &ignored(Ignored::Nul));
    }

    #[test]
    fn a_barrier_comes_alone() {
        let barrier = Notification { barrier: true, ..Notification::default() };
        check(b"BARRIER=1", 1, &barrier);
        check(b"BARRIER=1\n", 1, &barrier);
        let ignored = |why| Notification { ignored: Some(why), ..Notification::default() };
        check(b"BARRIER=1", 0, &ignored(Ignored::BarrierDescriptors(0)));
        check(b"BARRIER=1", 2, &ignored(Ignored::BarrierDescriptors(2)));
        check(b"READY=1\nBARRIER=1", 1, &ignored(Ignored::BarrierWithMore));
    }
}
