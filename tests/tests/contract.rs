//! The contract of daemons: released series stay as they are, and what is built for one runs or is refused
//! in words.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use duende_tests::{Fleet, Outcome, component, duende, image_at, linked, wait_for};

/// Released texts of the contract, each with its FNV-1a hash: nobody changes them, whatever is added.
const RELEASED: [(&str, u64); 1] = [("0.1/daemon.wit", 0x739e_d442_31ab_d2ad)];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn golden(file: &str) -> PathBuf {
    root().join("tests/golden").join(file)
}

/// A component by hand, with something replaced, as a file in a fleet's home.
fn by_hand(home: &Path, name: &str, series: &str, from: &str, to: &str) -> PathBuf {
    let text = fs::read_to_string(golden(&format!("{series}/wait.wat"))).unwrap();
    assert!(text.contains(from), "{series} has no {from}");
    let file = home.join(format!("{name}.wasm"));
    fs::write(&file, wat::parse_str(text.replace(from, to)).unwrap()).unwrap();
    file
}

#[test]
fn released_contracts_are_frozen() {
    for (file, expected) in RELEASED {
        let bytes = fs::read(root().join("wit").join(file)).unwrap();
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        assert_eq!(hash, expected, "wit/{file} is released, and was changed ({hash:#x})");
    }
}

const GRANTS: &str = "grant = [\"log\", \"state\"]\nhealth.period = \"100ms\"\n";

/// Those of both series, built with the SDK and by hand, run beside each other in one worker: they are
/// asked how they are, keep what they wrote over a restart, and end when they are asked to.
#[test]
fn daemons_of_both_series_run_side_by_side() {
    let mut fleet = Fleet::new("series", "");
    let config = "[daemon.config]\ninterval_ms = 10\n";
    let mut daemons = component("new", "flaky", &format!("{GRANTS}{config}"));
    for series in ["0.1", "0.2"] {
        let built = golden(&format!("{series}/flaky.wasm"));
        daemons += &image_at(&format!("built-{series}"), &built, &format!("{GRANTS}{config}"));
        let name = format!("hand-{series}");
        let file = by_hand(fleet.home(), &name, series, "hello", "hello");
        daemons += &image_at(&name, &file, GRANTS);
    }
    fleet.configure(&daemons);
    let mut check = duende(fleet.home());
    let outcome = Outcome::of(check.args(["--json", "check"]).arg(fleet.file())).done();
    for (contract, count) in [("duende:daemon@0.1", 2), ("duende:daemon@0.2", 3)] {
        assert_eq!(outcome.stdout.matches(contract).count(), count, "{outcome:?}");
    }

    fleet.start();
    let names = ["new", "built-0.1", "hand-0.1", "built-0.2", "hand-0.2"];
    for name in names {
        let row = fleet.wait_row(name, |row| row.state == "running" && row.health == "healthy");
        let logged = wait_for("its line", || {
            fs::read_to_string(&row.log_path).ok().filter(|text| text.contains("he"))
        });
        assert!(logged.contains("hello") || logged.contains("here, after 0 slices"), "{logged}");
    }
    for name in ["built-0.1", "built-0.2"] {
        let _ = fleet.run(&["restart", name]).done();
        let row = fleet.wait_row(name, |row| row.state == "running" && row.incarnation == 2);
        wait_for("what it had kept", || {
            let text = fs::read_to_string(&row.log_path).ok()?;
            let last = text.rfind("here, after ")?;
            (!text[last..].starts_with("here, after 0 ")).then_some(())
        });
    }
    fleet.down();
    for name in names {
        assert!(fleet.events().iter().any(|event| event.is(name, "stopped")), "{name}");
    }
}

/// Each mismatch that a component may have is said before anything runs, by the function or the interface.
#[test]
fn what_does_not_fit_is_refused_by_name() {
    let home = tempfile::TempDir::new().unwrap();
    let cases = [
        // What an export takes and gives.
        ("0.1", "\"reload\" \"resumed\"))", "\"reload\" \"resumed\" \"more\"))", "lifecycle.run: "),
        (
            "0.2",
            "\"stopping\" \"notice\"))",
            "\"stopping\" \"notice\" \"more\"))",
            "lifecycle.run: ",
        ),
        ("0.2", "\"degraded\" \"unhealthy\"))", "\"degraded\"))", "lifecycle.health-check: "),
        ("0.2", "(field \"count\" u64)))", "(field \"count\" u32)))", "lifecycle.metrics: "),
        (
            "0.2",
            "    (export \"metrics\" (func $metrics))",
            "",
            "lifecycle has no function metrics",
        ),
        ("0.1", "(export \"init\" (func $init))", "", "lifecycle has no function init"),
        (
            "0.1",
            "(export \"shutdown\" (func $shutdown))",
            "(export \"shutdown\" (func $init))",
            "lifecycle.shutdown: ",
        ),
        // What an import takes and gives.
        ("0.2", "(case \"full\")", "", "export `write` has the wrong type"),
        ("0.2", "\"error\" \"critical\"))", "\"error\" \"critical\" \"worse\"))", "log@0.2.0"),
        // Versions.
        ("0.2", "lifecycle@0.2.0", "lifecycle@0.3.0", "lifecycle@0.3.0"),
        ("0.2", "daemon/log@0.2.0", "daemon/log@0.1.0", "one series of the contract"),
        ("0.1", "lifecycle@0.1.0", "lifecycle@0.2.0", "one series of the contract"),
        ("0.1", "lifecycle@0.1.0", "lifecycle@0.1.0-rc.1", "0.1.0-rc.1"),
        ("0.2", "daemon/log@0.2.0", "daemon/rocket@0.2.0", "daemon/rocket@0.2.0"),
    ];
    for (number, (series, from, to, part)) in cases.into_iter().enumerate() {
        let file = by_hand(home.path(), &format!("bad-{number}"), series, from, to);
        for arguments in [&["--json", "run"][..], &["--json", "check"]] {
            let mut command = duende(home.path());
            let fleet = home.path().join("fleet.toml");
            let text = format!("[fleet]\nname = \"bad\"\n{}", image_at("bad", &file, ""));
            fs::write(&fleet, text).unwrap();
            let target = if arguments[1] == "run" { &file } else { &fleet };
            let outcome = Outcome::of(command.args(arguments).arg(target));
            assert_ne!(outcome.code, Some(0), "{to}: {outcome:?}");
            let said = format!("{}{}", outcome.stdout, outcome.stderr);
            assert!(said.contains(part), "{from} → {to}, {arguments:?}: {outcome:?}");
        }
    }
    // A later patch is the same series.
    let patched = by_hand(home.path(), "patched", "0.2", "lifecycle@0.2.0", "lifecycle@0.2.7");
    let fleet = home.path().join("fleet.toml");
    fs::write(&fleet, format!("[fleet]\nname = \"bad\"\n{}", image_at("d", &patched, ""))).unwrap();
    let _ = Outcome::of(duende(home.path()).args(["--json", "check"]).arg(&fleet)).done();
}

/// What a daemon says of its end counts, on WOS and natively: 75 waits and is charged to nobody, 78 is
/// final until somebody asks.
#[test]
fn one_table_of_exit_codes_for_every_isolation() {
    let rest = |mode: &str| {
        format!(
            "grant = [\"log\"]\nrestart = {{ policy = \"always\", limit = 2, backoff_initial = \"10ms\", \
             backoff_max = \"20ms\" }}\n[daemon.config]\nmode = \"{mode}\"\nafter_slices = 1\n\
             interval_ms = 1\n"
        )
    };
    let mut daemons = String::new();
    for mode in ["later", "config", "exit"] {
        daemons += &component(&format!("wos-{mode}"), "flaky", &rest(mode));
        daemons += &linked(&format!("native-{mode}"), "flaky", &rest(mode));
    }
    let script = |name: &str, code: u32| {
        format!(
            "[[daemon]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", \"sleep 0.02; exit {code}\"]\n\
             restart = {{ policy = \"always\", limit = 2, backoff_initial = \"10ms\", backoff_max = \
             \"20ms\" }}\n"
        )
    };
    daemons += &script("script-later", 75);
    daemons += &script("script-config", 78);
    daemons += &script("script-exit", 0);
    let mut fleet = Fleet::up("codes", &daemons);
    for place in ["wos", "native", "script"] {
        let later = fleet.wait_row(&format!("{place}-later"), |row| row.restarts > 10);
        assert!(["waiting", "running", "starting"].contains(&&*later.state), "{later:?}");
        let config = fleet.wait_state(&format!("{place}-config"), "failed");
        assert_eq!(config.incarnation, 1, "{config:?}");
        // Both are told apart from what is charged.
        let _ = fleet.wait_state(&format!("{place}-exit"), "quarantined");
    }
    let text = |mode: &str| fleet.row(&format!("wos-{mode}")).last_exit.unwrap_or_default();
    assert!(text("config").contains("told to give up"), "{}", text("config"));
    fleet.down();
}

/// A stop takes the slices that the daemon needs, a configuration is refused, a message is given up: on
/// WOS and natively.
#[test]
fn a_daemon_drains_refuses_and_rejects() {
    let commands = "[daemon.channel.commands]\nfrom = { tail = \"{home}/NAME.commands\" }\n";
    let rest = |name: &str, mode: &str, channel: bool| {
        let grant = if channel { ", \"channel:commands\"" } else { "" };
        let channel = if channel { commands.replace("NAME", name) } else { String::new() };
        format!(
            "grant = [\"log\", \"state\"{grant}]\n{channel}[daemon.config]\nmode = \"{mode}\"\n\
             interval_ms = 20\n"
        )
    };
    let mut fleet = Fleet::new("drain", "");
    let mut daemons = String::new();
    for place in ["wos", "native"] {
        for (mode, channel) in [("drain", false), ("reject", true)] {
            let name = format!("{place}-{mode}");
            fs::write(fleet.home().join(format!("{name}.commands")), "").unwrap();
            daemons += &match place {
                "wos" => component(&name, "flaky", &rest(&name, mode, channel)),
                _ => linked(&name, "flaky", &rest(&name, mode, channel)),
            };
        }
    }
    fleet.configure(&daemons);
    fleet.start();
    for place in ["wos", "native"] {
        let name = format!("{place}-reject");
        let _ = fleet.wait_state(&name, "running");
        fs::write(fleet.home().join(format!("{name}.commands")), "reject\n").unwrap();
        let given_up = fleet.next(&name, "rejected");
        assert_eq!(given_up.detail, "it gives up message 1 of channel commands: told to");
    }
    let told = fs::read_to_string(fleet.file()).unwrap().replace("= 20", "= 21");
    fs::write(fleet.file(), told).unwrap();
    for place in ["wos", "native"] {
        let outcome = fleet.run(&["reload", &format!("{place}-reject")]);
        assert_ne!(outcome.code, Some(0), "{outcome:?}");
        assert!(format!("{outcome:?}").contains("told to"), "{outcome:?}");
        let _ = fleet.wait_state(&format!("{place}-reject"), "running");
        let drain = format!("{place}-drain");
        let log = fleet.wait_state(&drain, "running").log_path;
        let _ = fleet.run(&["stop", &drain]).done();
        let text = fs::read_to_string(log).unwrap();
        assert_eq!(text.matches("draining").count(), 3, "{text}");
    }
    fleet.down();
}

/// What a peer says first, as octal escapes of `printf`, and what is said of it: frames of the past and the
/// future, of a liar, twice, damaged, of no link at all.
#[test]
fn a_link_begins_with_versions_and_ends_with_words() {
    let cases = [
        (
            "past",
            r"\104\165\001\002\002\000\000\000\120\154\313\022\000\002",
            "did not say which versions of the link it speaks",
        ),
        (
            "future",
            r"\104\165\001\011\061\000\000\000\313\076\011\161\011\000\014\000\000\000\000\000\000\000\000\000\000\000\002\000\003\164\145\163\164\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000",
            "speaks versions 9 to 12 of the link, this side 3 to 3",
        ),
        (
            "short",
            r"\104\165\001\011\061\000\000\000\226\261\350\341\003\000\003\000\000\000\000\000\000\000\000\000\350\003\000\000\003\164\145\163\164\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000",
            "takes frames of 1000 bytes",
        ),
        (
            "twice",
            r"\104\165\001\011\061\000\000\000\142\152\033\055\003\000\003\000\000\000\000\000\000\000\000\000\000\000\002\000\003\164\145\163\164\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\104\165\001\011\061\000\000\000\142\152\033\055\003\000\003\000\000\000\000\000\000\000\000\000\000\000\002\000\003\164\145\163\164\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000",
            "message of kind 9 where kind 2 is read",
        ),
        (
            "liar",
            r"\104\165\001\011\061\000\000\000\000\000\000\000\003\000\003\000\000\000\000\000\000\000\000\000\000\000\002\000\003\164\145\163\164\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000",
            "checksum",
        ),
        (
            "noise",
            r"\107\105\124\040\057\040\110\124\124\120\057\061\056\061\015\012\015\012",
            "not a frame",
        ),
        (
            "strange",
            r"\104\165\001\011\061\000\000\000\142\152\033\055\003\000\003\000\000\000\000\000\000\000\000\000\000\000\002\000\003\164\145\163\164\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\104\165\001\077\001\000\000\000\315\301\331\107\170",
            "message of kind 63 where kind 2 is read",
        ),
        // What it says for the bystander, which is daemon 0.
        (
            "ends-another",
            r"\104\165\001\011\061\000\000\000\142\152\033\055\003\000\003\000\000\000\000\000\000\000\000\000\000\000\002\000\003\164\145\163\164\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\104\165\001\002\007\000\000\000\144\220\260\173\015\000\001\000\000\000\000",
            "it spoke for daemon 0, incarnation 1",
        ),
        (
            "logs-for-another",
            r"\104\165\001\011\061\000\000\000\142\152\033\055\003\000\003\000\000\000\000\000\000\000\000\000\000\000\002\000\003\164\145\163\164\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\104\165\001\002\014\000\000\000\025\145\216\041\001\000\001\000\002\006\146\157\162\147\145\144",
            "it spoke for daemon 0, incarnation 1",
        ),
    ];
    let speaker = |name: &str, octal: &str, rest: &str| {
        let script = format!("eval \"printf '{octal}' >&$DUENDE_LINK_FD\"; sleep 1000");
        format!(
            "[[daemon]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", '''{script}''']\nlink = true\n\
             restart.policy = \"never\"\n{rest}"
        )
    };
    let mut daemons =
        component("bystander", "flaky", "grant = [\"log\"]\n[daemon.config]\ninterval_ms = 10\n");
    for (name, octal, _) in cases {
        daemons += &speaker(name, octal, "");
    }
    // It says which versions it speaks, and something that may be skipped; or nothing at all. Neither is ever
    // ready, and that is what ends them.
    let skipped = r"\104\165\001\011\061\000\000\000\142\152\033\055\003\000\003\000\000\000\000\000\000\000\000\000\000\000\002\000\003\164\145\163\164\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\104\165\001\177\010\000\000\000\160\204\040\342\167\150\141\164\145\166\145\162";
    daemons += &speaker("skipped", skipped, "start_timeout = \"1s\"\n");
    daemons += &speaker("silent", "", "start_timeout = \"1s\"\n");
    let mut fleet = Fleet::up("hello", &daemons);
    for (name, _, part) in cases {
        let row = fleet.wait_row(name, |row| row.state == "failed");
        assert!(row.last_exit.as_deref().is_some_and(|why| why.contains(part)), "{part}: {row:?}");
    }
    for name in ["skipped", "silent"] {
        let row = fleet.wait_row(name, |row| row.state == "failed");
        assert!(row.last_exit.as_deref().is_some_and(|why| why.contains("not ready")), "{row:?}");
    }
    let bystander = fleet.wait_state("bystander", "running");
    assert_eq!(bystander.incarnation, 1);
    assert!(!fs::read_to_string(bystander.log_path).unwrap().contains("forged"));
    fleet.down();
}

/// What a daemon refuses is not used by its next incarnation either; what it takes is.
#[test]
fn a_refused_configuration_does_not_come_back_with_a_restart() {
    let rest = "grant = [\"log\", \"state\", \"metric\", \"channel:lines\"]\n[daemon.channel.lines]\n\
                from = { tail = \"{home}/access.log\" }\n[daemon.config]\nwindow = 10 # of NAME\n";
    let daemons = component("wos", "log-sentinel", &rest.replace("NAME", "wos"))
        + &linked("native", "log-sentinel", &rest.replace("NAME", "native"));
    let mut fleet = Fleet::up("refusals", &daemons);
    let write = |fleet: &Fleet, from: &str, to: &str| {
        let text = fs::read_to_string(fleet.file()).unwrap();
        fs::write(fleet.file(), text.replace(from, to)).unwrap();
    };
    for name in ["wos", "native"] {
        let _ = fleet.wait_state(name, "running");
    }
    write(&fleet, "window = 10 ", "window = 0 ");
    for name in ["wos", "native"] {
        let refused = fleet.run(&["reload", name]);
        assert!(refused.code != Some(0), "{refused:?}");
        assert!(format!("{refused:?}").contains("`window = 0` must be"), "{refused:?}");
        let _ = fleet.run(&["restart", name]).done();
        assert_eq!(fleet.wait_state(name, "running").incarnation, 2);
    }
    write(&fleet, "window = 0 ", "window = 20 ");
    for name in ["wos", "native"] {
        let _ = fleet.run(&["reload", name]).done();
    }
    fleet.down();
}

/// A daemon that is one `async` function counts each line once, on WOS and natively, over a restart and while
/// lines come; a stop is told to it.
#[test]
fn a_program_runs_on_wos_and_natively() {
    let mut fleet = Fleet::new("program", "");
    let rest = format!(
        "grant = [\"log\", \"state\", \"channel:lines\"]\n[daemon.channel.lines]\nfrom = {{ tail = \
         \"{}\" }}\n[daemon.config]\nperiod_ms = 20\n",
        fleet.home().join("lines").display()
    );
    let daemons = component("wos", "reporter", &rest) + &linked("native", "reporter", &rest);
    fleet.configure(&daemons);
    let mut lines = fs::File::create(fleet.home().join("lines")).unwrap();
    fleet.start();
    let mut append = |count: usize| lines.write_all(&b"a line\n".repeat(count)).unwrap();
    let said = |name: &str, text: &str| {
        let row = fleet.wait_row(name, |row| row.state == "running");
        let line = format!(" {text}\n");
        wait_for(text, || fs::read_to_string(&row.log_path).ok().filter(|log| log.contains(&line)));
        row.log_path
    };
    append(700);
    for name in ["wos", "native"] {
        let expected = if name == "wos" { "700 lines" } else { "1000 lines" };
        let _ = said(name, expected);
        append(300);
        let _ = fleet.run(&["restart", name]).done();
    }
    let logs = ["wos", "native"].map(|name| said(name, "1300 lines"));
    fleet.down();
    for log in logs {
        let log = fs::read_to_string(log).unwrap();
        assert!(log.contains("1300 lines, and no more"), "{log}");
    }
}
