//! Whether a program does something about SIGHUP. One that does not would end of it, which is no way
//! to reload.

use std::fs;

/// SIGHUP in the masks of `/proc/PID/status`.
const HANGUP: u64 = 1;

/// Why a process should not be sent SIGHUP, with the way out; none if it should.
pub(super) fn refusal(pid: u32, name: &str) -> Option<String> {
    match fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => refusal_of(&status, pid, name),
        Err(error) => {
            Some(format!("whether process {pid} does anything about SIGHUP is not known: {error}"))
        }
    }
}

fn refusal_of(status: &str, pid: u32, name: &str) -> Option<String> {
    let field = |wanted: &str| {
        status.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':')).map(str::trim)
    };
    let has_hangup = |mask: &str| {
        let mask = field(mask).and_then(|mask| u64::from_str_radix(mask, 16).ok());
        mask.is_some_and(|mask| mask & HANGUP != 0)
    };
    // What blocks it waits for it: by a descriptor, or in a thread of its own.
    if has_hangup("SigCgt") || has_hangup("SigBlk") {
        return None;
    }
    let (does, would) = match has_hangup("SigIgn") {
        true => ("ignores", "and would not notice"),
        false => ("does nothing about", "and would end of it"),
    };
    let program = field("Name").unwrap_or("it").escape_debug().to_string();
    let shell = match program.as_str() {
        "sh" | "bash" | "dash" | "ash" | "zsh" | "busybox" => {
            "; a shell around the program that is meant starts it by `exec`"
        }
        _ => "",
    };
    Some(format!(
        "its main process {pid} ({program}) {does} SIGHUP, {would}: it was not sent one. \
         `duende restart {name}` makes it read its configuration{shell}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_hears_a_hangup_is_sent_one() {
        for (blocked, ignored, caught, expected) in [
            ("0", "0", "1", None),
            ("0", "1000", "4003", None),
            ("1", "0", "0", None),
            ("0", "0", "4002", Some("does nothing about SIGHUP, and would end of it")),
            ("0", "1", "0", Some("ignores SIGHUP, and would not notice")),
        ] {
            let status = format!(
                "Name:\tweb\nSigPnd:\t1\nSigBlk:\t{blocked:0>16}\nSigIgn:\t{ignored:0>16}\nSigCgt:\t{caught:0>16}\n"
            );
            let found = refusal_of(&status, 7, "web");
            match expected {
                None => assert_eq!(found, None, "{status}"),
                Some(text) => assert!(found.unwrap().contains(text), "{status}"),
            }
        }
    }
}
