//! Every key of every table, below every other table.

use super::super::tests::{house, parse_in};
use super::super::{Diagnostic, FleetConfig};
use super::*;

/// The tables that have a header, with what makes them valid.
const HEADERS: [(Table, &str); 9] = [
    (Table::Fleet, "[fleet]\nname = \"f\"\n"),
    (Table::Group, "[[group]]\nname = \"g\"\n"),
    (Table::Daemon, "[[daemon]]\nname = \"d\"\n"),
    (Table::Channel, "[daemon.channel.lines]\nfrom = { interval = \"1s\" }\n"),
    (Table::Env, "[daemon.env]\nA = \"b\"\n"),
    (Table::Limits, "[daemon.limits]\nstate_bytes = \"1MiB\"\n"),
    (Table::Health, "[daemon.health]\n"),
    (Table::Probe, "[daemon.health.startup]\nperiod = \"7s\"\n"),
    (Table::Restart, "[daemon.restart]\npolicy = \"always\"\n"),
];

/// A value that each key takes that is not a table, and whether a component has it, or a native program.
fn sample(table: Table, key: &str) -> Option<(&'static str, bool)> {
    const NATIVE: bool = false;
    const COMPONENT: bool = true;
    Some(match (table, key) {
        (Table::Daemon, "priority") => ("3", COMPONENT),
        (Table::Daemon, "slice_budget") => ("\"2s\"", COMPONENT),
        (Table::Limits, "memory_bytes" | "memory_limit") => ("\"32MiB\"", COMPONENT),
        (Table::Daemon, "depends_on") => ("[]", NATIVE),
        (Table::Daemon, "grant") => ("[\"log\", \"channel:lines\"]", NATIVE),
        (Table::Daemon, "args") => ("[\"-v\"]", NATIVE),
        (Table::Daemon, "isolation") => ("\"native\"", NATIVE),
        (Table::Daemon, "ready") => ("\"started\"", NATIVE),
        (Table::Daemon, "env_file") => ("\"good.env\"", NATIVE),
        (Table::Daemon, "user") => ("\"web\"", NATIVE),
        (Table::Daemon, "working_dir") => ("\"logs\"", NATIVE),
        (Table::Daemon, "stop_signal") => ("\"SIGINT\"", NATIVE),
        (Table::Daemon, "stop_scope") => ("\"process\"", NATIVE),
        (Table::Daemon, "notify_access") => ("\"main\"", NATIVE),
        (Table::Daemon, "watchdog") => ("\"9s\"", NATIVE),
        (Table::Daemon, "pid_file") => ("\"logs/d.pid\"", NATIVE),
        (Table::Daemon, "start_timeout" | "stop_grace" | "kill_timeout" | "reload_timeout") => {
            ("\"9s\"", NATIVE)
        }
        (Table::Limits, "open_files_max") => ("64", NATIVE),
        (Table::Restart, "max_retries" | "limit") => ("9", NATIVE),
        (Table::Restart, "backoff") => ("\"kubernetes\"", NATIVE),
        (Table::Restart, "backoff_initial") => ("\"1s\"", NATIVE),
        (Table::Restart, "backoff_max") => ("\"20s\"", NATIVE),
        (Table::Restart, "jitter") => ("\"none\"", NATIVE),
        (Table::Restart, "stable_after" | "window") => ("\"9s\"", NATIVE),
        (Table::Restart, "window_kind") => ("\"fixed\"", NATIVE),
        (Table::Restart, "success_exit" | "prevent_restart_exit" | "force_restart_exit") => {
            ("[9]", NATIVE)
        }
        (Table::Fleet, "state_dir" | "log_dir") => ("\"logs\"", NATIVE),
        (Table::Fleet, "metrics_interval") => ("\"1s\"", NATIVE),
        (Table::Group, "strategy") => ("\"one-for-all\"", NATIVE),
        (Table::Group, "restarts") => ("2", NATIVE),
        (Table::Health, "initial_delay" | "period" | "timeout") => ("\"2s\"", NATIVE),
        (Table::Health, "failures") => ("2", NATIVE),
        // Those that are there already, that are refused, or that name others.
        _ => return None,
    })
}

/// A file with every table that such a daemon can have.
fn file(is_component: bool) -> Vec<String> {
    let own =
        if is_component { "image = \"s.wasm\"\n" } else { "command = [\"webd\"]\nlink = true\n" };
    let tables = HEADERS.iter().filter(|(table, _)| !(is_component && *table == Table::Env));
    let text: String = tables
        .map(|(table, text)| format!("{text}{}", if *table == Table::Daemon { own } else { "" }))
        .collect();
    text.lines().map(str::to_owned).collect()
}

fn read(lines: &[String]) -> Result<FleetConfig, Vec<Diagnostic>> {
    let (house, surroundings) = house();
    let text = lines.join("\n");
    let read = parse_in(house.path(), &surroundings, &text);
    // The house is another one each time.
    read.map(|mut fleet| {
        let strip = |path: &std::path::Path| {
            path.strip_prefix(house.path()).map_or_else(|_| path.to_owned(), ToOwned::to_owned)
        };
        fleet.state_dir = strip(&fleet.state_dir);
        fleet.log_dir = strip(&fleet.log_dir);
        fleet
    })
    .map_err(|error| error.problems)
}

/// The last line of a table: before the next header.
fn end_of(lines: &[String], header: usize) -> usize {
    let next = lines.iter().skip(header + 1).position(|line| line.starts_with('['));
    next.map_or(lines.len(), |next| header + 1 + next)
}

/// Where the help says that a line is to be moved: the index before which it then stands.
fn destination(message: &str) -> usize {
    let number = |words: &str| {
        let (_, rest) = message.split_once(words)?;
        rest.split(|after: char| !after.is_ascii_digit()).next()?.parse::<usize>().ok()
    };
    match (number("move it above line "), number("move it below line ")) {
        (Some(line), None) => line - 1,
        (None, Some(line)) => line,
        other => panic!("{message}: {other:?}"),
    }
}

#[test]
fn a_key_below_the_wrong_table_is_told_where_to_go() {
    let mut tried = 0;
    for home in HEADERS.map(|(table, _)| table) {
        for key in home.keys() {
            let Some((value, is_component)) = sample(home, key) else { continue };
            let lines = file(is_component);
            assert!(read(&lines).is_ok(), "{:?}", read(&lines));
            for (here, header) in HEADERS {
                let header = header.lines().next().unwrap();
                let Some(at) = lines.iter().position(|line| line == header) else { continue };
                if here == home || here.keys().contains(key) || here == Table::Env {
                    continue;
                }
                let at = end_of(&lines, at);
                let mut wrong = lines.clone();
                wrong.insert(at, format!("{key} = {value}"));
                let problems = read(&wrong).expect_err("a key below the wrong table");
                let [problem] = &problems[..] else { panic!("{key} in {here:?}: {problems:?}") };
                assert_eq!(problem.place.as_ref().map(|place| place.line), Some(at + 1));
                let message = &problem.message;
                assert!(message.starts_with("a key of ["), "{key} in {here:?}: {message}");

                if home.is_within_daemon() && matches!(here, Table::Fleet | Table::Group) {
                    // There may be several daemons.
                    let of = format!("move it below a line {}", home.header());
                    assert!(message.ends_with(&of), "{message}");
                    continue;
                }
                // Whoever does what is said has what was meant.
                let line = wrong.remove(at);
                let to = destination(message);
                wrong.insert(if to > at { to - 1 } else { to }, line);
                let moved = read(&wrong);
                assert!(moved.is_ok(), "{key} in {here:?}: {message}: {moved:?}");
                assert_ne!(moved, read(&lines), "{key} in {here:?}: {message}");
                tried += 1;
            }
        }
    }
    assert!(tried > 200, "{tried}");
}

/// The only problem of a daemon with these lines, as `line message | help`; none: it is valid.
fn problem(lines: &str) -> Option<String> {
    let text = format!("[fleet]\nname = \"f\"\n[[daemon]]\nname = \"d\"\n{lines}");
    match read(&text.lines().map(str::to_owned).collect::<Vec<_>>()) {
        Ok(_) => None,
        Err(problems) => {
            let [problem] = &problems[..] else { panic!("{problems:?}") };
            let line = problem.place.as_ref().map_or(0, |place| place.line);
            Some(format!("{line} {} | {}", problem.message, problem.help))
        }
    }
}

#[test]
fn a_key_of_the_daemon_below_its_config_is_ambiguous() {
    let above = |key: &str| {
        Some(format!(
            "8 a key of [[daemon]]: move it above line 6 | if it is meant for [daemon.config] all the same, \
             say in [[daemon]] itself what `{key}` is, too"
        ))
    };
    let wasm = "image = \"s.wasm\"\n[daemon.config]\nx = 1\n";
    for (line, expected) in [
        ("stop_grace = \"1s\"", above("stop_grace")),
        ("priority = 3", above("priority")),
        ("depends_on = []", above("depends_on")),
        // What does not fit the key, what such a daemon has not, and what it has already.
        ("priority = \"high\"", None),
        ("stop_grace = 5", None),
        ("user = \"web\"", None),
        ("watchdog = \"1s\"", None),
        ("name = \"x\"", None),
        ("limits = { rate = 1 }", None),
        ("policy = \"always\"", None),
    ] {
        assert_eq!(problem(&format!("{wasm}{line}\n")), expected, "{line}");
    }
    // Whoever says the daemon's own says both.
    assert_eq!(problem(&format!("priority = 2\n{wasm}priority = 3\n")), None);
    let native = "command = [\"webd\"]\n[daemon.env]\nA = \"b\"\n";
    for (line, expected) in [
        ("user = \"web\"", true),
        ("priority = 3", true),
        ("stop_grace = \"1s\"", true),
        ("USER = \"web\"", false),
        ("stop_grace = \"long\"", false),
    ] {
        let found = problem(&format!("{native}{line}\n"));
        assert_eq!(found.is_some(), expected, "{line}: {found:?}");
        assert!(found.is_none_or(|found| found.contains("move it above line 6")), "{line}");
    }
}

#[test]
fn tables_in_the_wrong_place_are_told_their_whole_name() {
    #[track_caller]
    fn check(lines: &str, expected: &str) {
        assert_eq!(problem(lines).as_deref(), Some(expected), "{lines}");
    }
    let wasm = "image = \"s.wasm\"\n";
    let whole = "the whole name of a table stands in its header";
    check(
        &format!("{wasm}[limits]\nmemory_bytes = \"1MiB\"\n"),
        &format!("6 a table of [[daemon]]: write [daemon.limits] | {whole}"),
    );
    check(
        &format!("{wasm}[daemon.restart.health]\nperiod = \"1s\"\n"),
        &format!("6 a table of [[daemon]]: write [daemon.health] | {whole}"),
    );
    check(
        &format!("{wasm}[daemon.readiness]\n"),
        &format!("6 a table of [daemon.health]: write [daemon.health.readiness] | {whole}"),
    );
    check(
        &format!("{wasm}[[fleet.group]]\nname = \"g\"\n"),
        &format!("6 a table of its own: write [[group]] | {whole}"),
    );
    check(
        &format!("{wasm}[[daemon.limits]]\nstate_bytes = 5000\n"),
        "6 a list of tables, where one belongs | write [daemon.limits], with one bracket on each side",
    );
    check(
        &format!("{wasm}limits = {{ priority = 3 }}\n"),
        "6 a key of [[daemon]]: move it out of this table | it has no meaning in [daemon.limits]",
    );
    check(
        &format!("{wasm}[daemon.restart]\nslice-budget = \"1s\"\n"),
        "7 unknown key | did you mean `slice_budget`, a key of [[daemon]]: move it above line 6",
    );
    check(
        &format!("{wasm}[daemon.channel]\npriority = 3\n"),
        "7 a key of [[daemon]]: move it above line 6 | what follows the header of a table belongs to that table",
    );
}

/// What the readers ask for, and nothing else: a key that is missing here is checked where they ask.
#[test]
fn the_schema_is_what_the_readers_ask_for() {
    for (table, key, value) in [
        (Table::Daemon, "command", "[\"webd\"]"),
        (Table::Daemon, "binary_path", "\"webd\""),
        (Table::Limits, "pids_max", "1"),
        (Table::Restart, "backoff_steps", "1"),
        (Table::Probe, "successes", "1"),
        (Table::Source, "stdin", "true"),
    ] {
        assert!(table.keys().contains(&key), "{key} = {value}");
    }
    for (table, _) in HEADERS {
        for key in table.keys() {
            let Some((value, is_component)) = sample(table, key) else { continue };
            let mut lines = file(is_component);
            let header = HEADERS.iter().find(|(other, _)| *other == table).unwrap().1;
            let header = header.lines().next().unwrap();
            let at = lines.iter().position(|line| line == header).unwrap();
            let at = end_of(&lines, at);
            lines.insert(at, format!("{key} = {value}"));
            assert!(read(&lines).is_ok(), "{key}: {:?}", read(&lines));
        }
    }
}
