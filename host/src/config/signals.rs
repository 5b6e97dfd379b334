//! Signals by their names.

/// Names and numbers, as Linux has them on the processors that this is built for.
const SIGNALS: [(&str, i32); 31] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
];

/// All names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SIGNALS.into_iter().map(|(name, _)| name)
}

/// The signal that a daemon is asked to end with if nothing is said.
pub(crate) const SIGTERM: i32 = 15;

/// The number of a name.
pub(crate) fn number(name: &str) -> Option<i32> {
    SIGNALS.into_iter().find(|(known, _)| *known == name).map(|(_, number)| number)
}

/// The name of a number; a real-time signal has none.
pub(crate) fn name_of(number: i32) -> Option<&'static str> {
    SIGNALS.into_iter().find(|(_, known)| *known == number).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_system() {
        use rustix::process::Signal;
        for (signal, name) in [
            (Signal::HUP, "SIGHUP"),
            (Signal::USR1, "SIGUSR1"),
            (Signal::USR2, "SIGUSR2"),
            (Signal::CHILD, "SIGCHLD"),
            (Signal::CONT, "SIGCONT"),
            (Signal::STOP, "SIGSTOP"),
            (Signal::SYS, "SIGSYS"),
        ] {
            assert_eq!(number(name), Some(signal.as_raw()), "{name}");
            assert_eq!(name_of(signal.as_raw()), Some(name));
        }
        assert!(names().all(|known| number(known).and_then(name_of) == Some(known)));
        assert_eq!((number("HUP"), name_of(0), name_of(34)), (None, None, None));
    }
}
