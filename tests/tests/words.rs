//! What people are told: nothing of it drives a terminal, nobody waits for it, and it names what has it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: its helpers fail it too")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use duende_tests::{Fleet, Outcome, artifact, component, duende, wait_for};
use serde_json::Value;

/// What a terminal would obey: a title, a colour, the other direction of writing, and the one byte that begins
/// a sequence in ISO 6429.
const EVIL: &str = "\x1b]0;pwn\x07\x1b[31m\u{202e}\u{9b}2J\r";

#[track_caller]
fn drives_nothing(what: &str, outcome: &Outcome) {
    for printed in [&outcome.stdout, &outcome.stderr] {
        let drives = |character: char| {
            (character.is_control() && character != '\n') || character == '\u{202e}'
        };
        assert!(!printed.contains(drives), "{what}: {printed:?}");
    }
    assert!(!outcome.stdout.is_empty() || !outcome.stderr.is_empty(), "{what} said nothing");
}

/// Runs a command that must end by itself soon.
#[track_caller]
fn ends(command: &mut Command) -> Outcome {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let what = format!("the end of {command:?}");
    let status = wait_for(&what, || child.try_wait().unwrap());
    let mut outcome = Outcome { code: status.code(), stdout: String::new(), stderr: String::new() };
    child.stdout.take().unwrap().read_to_string(&mut outcome.stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut outcome.stderr).unwrap();
    outcome
}

/// The verbs that `--help` lists.
fn verbs(home: &Path, of: &[&str]) -> BTreeSet<String> {
    let help = Outcome::of(duende(home).args(of).arg("--help")).done().stdout;
    let (_, list) = help.split_once("Commands:\n").unwrap();
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_verb_lets_a_name_or_a_path_drive_the_terminal() {
    let home = tempfile::TempDir::new().unwrap();
    let file = home.path().join(format!("f{EVIL}.toml"));
    fs::write(
        &file,
        format!("[fleet]\nname = \"f\"\n[[daemon]]\nname = \"d\"\nimage = \"{}\"\n# {EVIL}\u{202e}\nx = 1\n", artifact("flaky").display())
            .replace('\r', ""),
    )
    .unwrap();
    let image = home.path().join(format!("y{EVIL}.wasm"));
    fs::write(&image, "no component").unwrap();
    let export = home.path().join(format!("e{EVIL}"));
    fs::write(&export, "no export").unwrap();
    let (file, image, export) =
        (file.to_str().unwrap(), image.to_str().unwrap(), export.to_str().unwrap());

    let mut tried = BTreeSet::new();
    let mut check = |arguments: &[&str]| {
        tried.insert(arguments[0].to_owned());
        for json in [false, true] {
            let mut command = duende(home.path());
            command.args(json.then_some("--json")).args(arguments);
            drives_nothing(&format!("{arguments:?}"), &ends(&mut command));
        }
    };
    for verb in ["down", "ps", "status", "events"] {
        check(&[verb, "--fleet", EVIL]);
        check(&[verb, "--file", file]);
    }
    for verb in
        ["status", "logs", "start", "stop", "restart", "pause", "resume", "reload", "history"]
    {
        check(&[verb, EVIL]);
        check(&[verb, EVIL, "--fleet", "nobody"]);
        check(&[verb, EVIL, "--file", file]);
    }
    check(&["logs", "--manager", "--file", file]);
    for verb in ["up", "check"] {
        check(&[verb, file]);
        check(&[verb, EVIL]);
    }
    check(&["up", "--detach", file]);
    check(&["up", "--detach", "--read-only-socket", EVIL, "--read-only-mode", EVIL, file]);
    check(&["run", image]);
    check(&[
        "run",
        image,
        "--name",
        EVIL,
        "--tail",
        EVIL,
        "--grant",
        EVIL,
        "-c",
        &format!("{EVIL}=1"),
    ]);
    check(&["run", image, "--interval", &format!("{EVIL}=1s")]);
    check(&["run", image, "--interval", &format!("a={EVIL}")]);
    for verb in ["ls", "export"] {
        check(&["state", verb, EVIL, "--state-dir", EVIL]);
        check(&["state", verb, EVIL, "--fleet", EVIL]);
    }
    check(&["state", "import", export, "--state-dir", EVIL]);
    check(&["state", "import", export, "--as", EVIL]);
    check(&["doctor", EVIL]);
    // What is no command line at all.
    for verb in verbs(home.path(), &[]) {
        check(&[&verb, &format!("--{EVIL}")]);
    }
    for verb in verbs(home.path(), &["state"]) {
        check(&["state", &verb, &format!("--{EVIL}")]);
    }
    check(&[EVIL]);
    tried.remove(EVIL);
    assert_eq!(tried, verbs(home.path(), &[]), "each verb is tried");
}

/// Attached, whatever the daemons and the paths are called.
#[test]
fn an_attached_fleet_drives_no_terminal() {
    let home = tempfile::TempDir::new().unwrap();
    let evil = EVIL.replace('\r', "");
    let directory = home.path().join(format!("d{evil}"));
    fs::create_dir(&directory).unwrap();
    let file = directory.join("f.toml");
    fs::write(
        &file,
        format!(
            "[fleet]\nname = \"f\"\n\
             [[daemon]]\nname = \"says\"\ncommand = [\"/bin/sh\", \"-c\", \"printf '%b' '\\\\033]0;pwn\\\\007\\\\n'; exit 3\"]\n\
             [daemon.restart]\npolicy = \"never\"\n\
             [[daemon]]\nname = \"sentinel\"\nimage = \"{}\"\ngrant = [\"log\", \"state\", \"metric\", \"channel:lines\"]\n\
             [daemon.channel.lines]\nfrom = {{ tail = \"a.log\" }}\n",
            artifact("log-sentinel").display()
        ),
    )
    .unwrap();
    fs::create_dir(directory.join("unused")).unwrap();
    for json in [false, true] {
        let mut up = duende(home.path());
        up.args(json.then_some("--json")).arg("up").arg(&file);
        let mut child = up.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("both to be settled", || {
            let ps = Outcome::of(duende(home.path()).args(["--json", "ps", "--fleet", "f"]));
            let ps: Value = serde_json::from_str(&ps.stdout).ok()?;
            let states: Vec<&str> =
                ps["daemons"].as_array()?.iter().filter_map(|row| row["state"].as_str()).collect();
            (states == ["failed", "running"]).then_some(())
        });
        for verb in [
            &["status"][..],
            &["status", "says"],
            &["logs", "says"],
            &["logs", "--manager"],
            &["events"],
        ] {
            for json in [false, true] {
                let mut command = duende(home.path());
                command.args(json.then_some("--json")).args(verb).args(["--fleet", "f"]);
                drives_nothing(&format!("{verb:?}"), &Outcome::of(&mut command).done());
            }
        }
        Outcome::of(duende(home.path()).args(["down", "--fleet", "f"])).done();
        let mut said = Outcome { code: Some(0), stdout: String::new(), stderr: String::new() };
        child.stdout.take().unwrap().read_to_string(&mut said.stdout).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut said.stderr).unwrap();
        child.wait().unwrap();
        drives_nothing("up", &said);
    }
}

/// A pipe that nobody writes into, a device that never ends, links in a circle: in the place of every file.
#[test]
fn check_waits_for_nothing() {
    let home = tempfile::TempDir::new().unwrap();
    let at = |name: &str| home.path().join(name).display().to_string();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    std::os::unix::fs::symlink("loop", at("loop")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
    for (name, words) in [
        ("fifo", "FIFO"),
        ("zero", "device"),
        ("loop", "symbolic links"),
        ("gone/*.wasm", "pattern"),
        ("~/x", "not expanded"),
        ("$HOME/x", "not expanded"),
    ] {
        for daemon in [
            format!("image = \"{name}\"\n"),
            format!("command = [\"true\"]\nenv_file = \"{name}\"\n"),
            format!("command = [\"true\"]\nworking_dir = \"{name}\"\n"),
        ] {
            let file = at("f.toml");
            fs::write(&file, format!("[fleet]\nname = \"f\"\n[[daemon]]\nname = \"d\"\n{daemon}"))
                .unwrap();
            let outcome = ends(duende(home.path()).args(["check", &file]));
            assert_eq!(outcome.code, Some(3), "{daemon}: {outcome:?}");
            assert!(outcome.stderr.contains(words), "{daemon}: {outcome:?}");
        }
    }
    for name in ["fifo", "zero", "loop", ".", "/dev/null"] {
        for verb in [&["check"][..], &["up"], &["up", "--detach"], &["ps", "--file"]] {
            let outcome = ends(duende(home.path()).args(verb).arg(name));
            assert_eq!(outcome.code, Some(3), "{verb:?} {name}: {outcome:?}");
        }
    }
}

#[test]
fn what_is_probably_not_meant_is_told_and_refuses_nothing() {
    let unread = "[daemon.channel.lines]\nfrom = { tail = \"{home}/a.log\" }\n";
    let fleet = Fleet::new("warned", &component("d", "flaky", unread));
    let check = |arguments: &[&str]| {
        let mut command = duende(fleet.home());
        Outcome::of(command.args(arguments).arg(fleet.file())).done()
    };
    let plain = check(&["check"]).stdout;
    assert!(
        plain.contains("warning: daemon.d.channel.lines: ") && plain.contains(": valid"),
        "{plain}"
    );
    let found: Value = check(&["--json", "check"]).json();
    assert_eq!(found["valid"], true);
    assert_eq!(found["warnings"][0]["line"], 6, "{found}");
    assert_eq!(found["warnings"][0]["severity"], "warning");
    let up = check(&["up", "--detach", "--wait"]);
    assert!(up.stderr.contains("warning: daemon.d.channel.lines: "), "{up:?}");
    fleet.run(&["down"]).done();
}

/// The log that is named has something in it, and can be shown while the fleet runs and afterwards.
#[test]
fn a_fleet_has_a_log_of_its_own() {
    let fleet = Fleet::new("own", &component("d", "flaky", "grant = [\"log\"]\n"));
    let mut up = duende(fleet.home());
    let outcome = Outcome::of(up.args(["up", "--detach", "--wait"]).arg(fleet.file())).done();
    let (_, log) = outcome.stdout.trim_end().rsplit_once(", log ").unwrap();
    assert!(fs::read_to_string(log).unwrap().contains("d running"), "{log}");
    let shown = || {
        let mut logs = duende(fleet.home());
        Outcome::of(logs.args(["logs", "--manager", "--file"]).arg(fleet.file())).done().stdout
    };
    assert!(shown().contains("d running"), "{}", shown());
    fleet.run(&["down"]).done();
    assert!(shown().contains("shutdown"), "{}", shown());
    assert_eq!(fleet.run(&["logs", "--manager", "d"]).code, Some(2));
}

/// What of a changed file is not in force is told by line and key, whoever might think that it is.
#[test]
fn changes_that_were_not_taken_are_told() {
    let daemon = |bytes: &str, level: u32| {
        format!("[daemon.limits]\nmemory_bytes = \"{bytes}\"\n[daemon.config]\nlevel = {level}\n")
    };
    let daemons = |bytes: &str, level: u32| {
        component("a", "flaky", &daemon(bytes, level))
            + &component("b", "flaky", &daemon("32MiB", 1))
    };
    let mut fleet = Fleet::up("changed", &daemons("32MiB", 1));
    for name in ["a", "b"] {
        fleet.wait_state(name, "running");
    }
    let told = |verb: &[&str]| -> Vec<String> {
        let mut command = duende(fleet.home());
        let said = Outcome::of(command.args(verb).args(["--fleet", "changed"])).done().stdout;
        let place = fleet.file().display().to_string();
        let changes = said.lines().filter(|line| line.contains("takes effect"));
        changes.map(|line| line.replace(&place, "F")).collect()
    };
    assert!(told(&["status"]).is_empty() && told(&["restart", "a"]).is_empty());

    fleet.configure(&daemons("16MiB", 2));
    let memory = "F:7: changed, but takes effect with the next up: daemon.a.limits.memory_bytes";
    let level = "F:9: changed, but takes effect with `duende reload a`: daemon.a.config.level";
    assert_eq!(told(&["status"]), [memory, level]);
    assert_eq!(told(&["status", "a"]), [memory, level]);
    assert!(told(&["status", "b"]).is_empty());
    assert_eq!(told(&["restart", "a"]), [memory, level]);
    assert!(told(&["restart", "b"]).is_empty());
    assert_eq!(told(&["reload", "a"]), [memory]);
    assert_eq!(told(&["status"]), [memory]);
    let found: Value = fleet.run(&["reload", "a"]).done().json();
    assert_eq!(
        found["config_changes"],
        serde_json::json!([{ "daemon": "a", "key": "limits.memory_bytes", "line": 7, "takes_effect": "up" }])
    );

    // A file that can't be used now is told, and changes nothing.
    fs::write(fleet.file(), "[fleet]\nname = \n").unwrap();
    let mut command = duende(fleet.home());
    let said = Outcome::of(command.args(["status", "--fleet", "changed"])).done().stdout;
    assert!(said.contains("is not valid now") && said.contains("fleet.toml:2:"), "{said}");
    fleet.down();
}
