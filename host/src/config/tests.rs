//! Configurations, good and bad, and what is said about them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use duende_core::backoff::{Backoff, Jitter};
use duende_core::limiter::RestartLimit;
use duende_core::probe::{ProbeSpec, Probes};
use duende_core::restart::{Decision, Exit};
use duende_core::supervise::Strategy as GroupStrategy;
use proptest::prelude::*;

use crate::platform::Surroundings;

use super::*;

/// A directory with what the configurations below name, and the surroundings that find programs in it.
pub(super) fn house() -> (tempfile::TempDir, Surroundings) {
    use std::os::unix::fs::PermissionsExt as _;
    let house = tempfile::tempdir().expect("temporary directory");
    let root = house.path();
    for directory in ["bin", "etc", "logs"] {
        std::fs::create_dir(root.join(directory)).expect("directory");
    }
    for (file, text) in [
        ("bin/webd", ""),
        ("s.wasm", "not looked at here"),
        ("plain.txt", ""),
        ("good.env", "# comment\nA=1\nB=\"two words\"\n\nC='x'\n"),
        ("bad.env", "A=1\nnonsense\n"),
        ("etc/passwd", "root:x:0:0::/:/bin/sh\nweb:x:77:78::/srv/web:\n"),
        ("etc/group", "root:x:0:\nwww:x:99:\nlogs:x:55:a,web\nother:x:56:webb\n"),
    ] {
        std::fs::write(root.join(file), text).expect("file");
    }
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(root.join("bin/webd"), executable).expect("chmod");
    let surroundings = Surroundings {
        vars: [
            ("PATH".into(), root.join("bin").into()),
            ("XDG_RUNTIME_DIR".into(), "/run/u".into()),
        ]
        .into(),
        uid: 0,
        open_files_max: None,
        root: root.to_owned(),
    };
    (house, surroundings)
}

pub(super) fn parse_in(
    house: &Path,
    surroundings: &Surroundings,
    text: &str,
) -> Result<FleetConfig, Diagnostics> {
    parse(text, &house.join("duende.toml"), &Overrides::default(), surroundings)
}

/// Each problem as `line:column key: message | help`, and nothing else. `~` stands for the directory.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let (house, surroundings) = house();
    let found: Vec<String> = match parse_in(house.path(), &surroundings, text) {
        Ok(_) => Vec::new(),
        Err(diagnostics) => {
            assert_eq!(diagnostics.more, 0);
            let line = |problem: &Diagnostic| {
                let place = problem.place.as_ref().expect("a problem in a file has a place");
                format!(
                    "{}:{} {}: {} | {}",
                    place.line, place.column, problem.key, problem.message, problem.help
                )
                .replace(&house.path().display().to_string(), "~")
            };
            diagnostics.problems.iter().map(line).collect()
        }
    };
    assert_eq!(found, expected, "\n{text}");
}

const FLEET: &str = "fleet.name = \"edge\"\n";

/// Checks a fleet with one daemon on WOS and more lines for it, from line 5.
#[track_caller]
fn check_wos(lines: &str, expected: &[&str]) {
    check(&format!("{FLEET}[[daemon]]\nname = \"s\"\nimage = \"s.wasm\"\n{lines}"), expected);
}

/// Checks a fleet with one native daemon and more lines for it, from line 5.
#[track_caller]
fn check_native(lines: &str, expected: &[&str]) {
    check(&format!("{FLEET}[[daemon]]\nname = \"w\"\ncommand = [\"webd\"]\n{lines}"), expected);
}

#[test]
fn a_good_file_becomes_one_snapshot() {
    let (house, surroundings) = house();
    let at = |path: &str| house.path().join(path);
    let text = r#"
[fleet]
name = "edge"
state_dir = "state"
metrics_interval = "100ms"
commit_interval = "2s"

[[group]]
name = "pair"
strategy = "rest-for-one"
restarts = 3
parent = "all"

[[group]]
name = "all"

[[daemon]]
name = "web"
command = ["./bin/webd", "--root", "public"]
env_file = "good.env"
env = { A = "2" }
user = "web"
group = "www"
ready = "notify"
stop_grace = "1min 30s"
kill_timeout = "1s"
stop_signal = "INT"
stop_scope = "process"
notify_access = "all"
pid_file = "logs/web.pid"
watchdog = "30s"
member_of = "pair"
resources = { open_files_max = 1024 }

[[daemon]]
name = "sentinel"
image = "s.wasm"
depends_on = ["helper", "web", "web"]
grant = ["log", "clock", "metric", "channel:lines"]
priority = 0
slice_budget = "250ms"
limits = { memory_bytes = "32MiB", state_bytes = 4_096 }
health = { period = "2s" }
restart = { policy = "always", max_retries = 10, backoff_initial = "0s", limit = 32 }
channel.lines.from = { tail = "logs/access.log" }
channel.tick.from = { interval = "1s" }
[daemon.config]
error_ratio_alert = 0.05
title = "error \"ratio\""
alert = { levels = [1, 0x10], on = true }
servers = [{ address = "a", ports = [1] }]
since = 2026-01-01

[[daemon]]
name = "helper"
binary_path = "webd"
args = ["-v"]
link = true
config = { x = "1" }
"#;
    let fleet =
        parse_in(house.path(), &surroundings, text).unwrap_or_else(|error| panic!("{error}"));

    assert_eq!(fleet.name, "edge");
    assert_eq!(fleet.state_dir, at("state"));
    assert_eq!(fleet.log_dir, at("state/log"));
    assert_eq!(fleet.socket_path(), Path::new("/run/u/duende/edge.sock"));
    let [web, sentinel, helper] = &fleet.daemons[..] else { panic!("{:?}", fleet.daemons) };

    let Isolation::Native(native) = &web.isolation else { panic!("{web:?}") };
    assert_eq!(native.program, at("bin/webd"));
    assert_eq!(native.args, ["--root", "public"]);
    let env: Vec<_> = native.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!((env, &native.env_file), (vec!["A=2".to_owned()], &Some(at("good.env"))));
    let user = native.user.as_ref().unwrap();
    assert_eq!((user.uid, user.gid, &*user.groups), (77, 99, &[55][..]));
    assert_eq!(
        (user.name.as_deref(), &*user.home, &*user.shell),
        (Some("web"), "/srv/web", "/bin/sh")
    );
    assert_eq!((native.stop_signal, native.stop_scope), (2, StopScope::Process));
    assert_eq!(native.notify_access, Some(NotifyAccess::All));
    assert_eq!(
        (&native.pid_file, web.kill_timeout),
        (&Some(at("logs/web.pid")), Duration::from_secs(1))
    );
    let Isolation::Native(plain) = &helper.isolation else { panic!("{helper:?}") };
    assert_eq!((plain.stop_signal, plain.stop_scope), (15, StopScope::Group));
    assert_eq!((plain.notify_access, &plain.pid_file), (None, &None));
    assert_eq!(helper.kill_timeout, KILL_TIMEOUT);
    assert_eq!((native.ready, native.link), (Ready::Notify, None));
    assert_eq!(
        (&native.working_dir, native.open_files_max),
        (&house.path().to_owned(), Some(1024))
    );
    assert_eq!(web.stop_grace, Duration::from_secs(90));
    assert_eq!((web.watchdog, web.is_notified_of()), (Some(Duration::from_secs(30)), true));
    assert_eq!((web.member_of, sentinel.member_of), (Some(1), None));
    let names: Vec<_> = fleet.groups.iter().map(|group| (&*group.name, group.parent)).collect();
    assert_eq!(names, [("all", None), ("pair", Some(0))]);
    assert_eq!(fleet.groups[1].strategy, GroupStrategy::RestForOne);
    assert_eq!(fleet.groups[1].limit, RestartLimit { intensity: 3, ..RestartLimit::OTP });
    assert_eq!(fleet.metrics_interval, Duration::from_millis(100));
    assert_eq!(fleet.commit_interval, Duration::from_secs(2));
    assert!(!web.speaks_contract());

    assert_eq!(
        sentinel.isolation,
        Isolation::Wos(WosConfig {
            image: at("s.wasm"),
            priority: 0,
            slice_budget: Duration::from_millis(250),
            memory_bytes_max: 32 << 20,
            state_bytes_max: 4096,
        })
    );
    assert_eq!(sentinel.depends_on, [0, 2]);
    assert_eq!(fleet.dependencies_first(), [0, 2, 1]);
    assert_eq!(sentinel.grants, Grants { log: true, state: false, metric: true });
    let channel =
        |name: &str, source, granted| ChannelConfig { name: name.into(), source, granted };
    assert_eq!(
        sentinel.channels,
        [
            channel("lines", Source::Tail(TailConfig::new(at("logs/access.log"))), true),
            channel("tick", Source::Interval(Duration::from_secs(1)), false),
        ]
    );
    let two_seconds = Duration::from_secs(2);
    let probe =
        ProbeSpec { initial_delay: two_seconds, period: two_seconds, ..ProbeSpec::default() };
    assert_eq!(sentinel.health, Probes::liveness(probe));
    let default = RestartConfig::default();
    let expected = RestartConfig {
        policy: RestartPolicy::Always,
        max_retries: Some(10),
        backoff: Backoff::exponential(Duration::ZERO, Duration::from_secs(30)),
        limit: RestartLimit { intensity: 32, ..default.limit },
        ..default
    };
    assert_eq!(sentinel.restart, expected);
    let config: Vec<_> = sentinel
        .config
        .iter()
        .map(|(key, value)| format!("{key}: {:?} {}", value.kind, value.text))
        .collect();
    assert_eq!(
        config,
        [
            "alert.levels: Array [1, 16]",
            "alert.levels.0: Integer 1",
            "alert.levels.1: Integer 16",
            "alert.on: Boolean true",
            "error_ratio_alert: Number 0.05",
            "servers: Array [{ address = \"a\", ports = [1] }]",
            "servers.0.address: Text a",
            "servers.0.ports: Array [1]",
            "servers.0.ports.0: Integer 1",
            "since: Text 2026-01-01",
            "title: Text error \"ratio\""
        ]
    );

    let Isolation::Native(native) = &helper.isolation else { panic!("{helper:?}") };
    assert_eq!(native.args, ["-v"]);
    assert_eq!(
        (native.ready, native.link),
        (Ready::Notify, Some(LinkConfig { state_bytes_max: STATE_BYTES }))
    );
    assert!(helper.speaks_contract());
}

#[test]
fn the_example_is_valid_once_its_programs_are_built() {
    use std::os::unix::fs::PermissionsExt as _;
    let (house, surroundings) = house();
    for built in [
        "target/debug/webd",
        "target/debug/log-sentinel",
        "artifacts/log-sentinel.wasm",
        "artifacts/flaky.wasm",
        "examples/edge.toml",
    ] {
        let path = house.path().join(built);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        std::fs::write(&path, "").expect("file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    let text = include_str!("../../../examples/edge.toml");
    let file = house.path().join("examples/edge.toml");
    let fleet = parse(text, &file, &Overrides::default(), &surroundings)
        .unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<&str> = fleet.daemons.iter().map(|daemon| daemon.name.as_str()).collect();
    assert_eq!(names, ["web", "sentinel", "sentinel-native", "flaky"]);
    // What the example shows as defaults are the defaults.
    assert_eq!(fleet.daemons[1].health, fleet.daemons[2].health);
    let flaky = RestartConfig { max_retries: None, ..fleet.daemons[3].restart };
    assert_eq!(flaky, RestartConfig::default());
}

#[test]
fn flags_beat_the_environment_and_it_beats_the_file() {
    let (house, mut surroundings) = house();
    let text = "fleet = { name = \"f\", state_dir = \"/file\", log_dir = \"/filelog\" }\n\
                [[daemon]]\nname = \"s\"\nimage = \"s.wasm\"\n";
    let file = house.path().join("duende.toml");
    let mut dirs = |overrides: &Overrides, variable: Option<&str>| {
        if let Some(value) = variable {
            surroundings.vars.insert("DUENDE_STATE_DIR".into(), value.into());
        }
        let fleet = parse(text, &file, overrides, &surroundings).expect("valid");
        [fleet.state_dir, fleet.log_dir]
    };
    let flag = Overrides { state_dir: Some("/flag".into()), log_dir: None };
    assert_eq!(dirs(&Overrides::default(), None), ["/file", "/filelog"].map(PathBuf::from));
    assert_eq!(
        dirs(&Overrides::default(), Some("/env")),
        ["/env/f", "/filelog"].map(PathBuf::from)
    );
    assert_eq!(dirs(&flag, None), ["/flag", "/filelog"].map(PathBuf::from));
}

#[test]
fn a_file_that_is_no_text_or_not_there() {
    let (house, surroundings) = house();
    let check = |name: &str, expected: &str| {
        let path = house.path().join(name);
        let error = load(&path, &Overrides::default(), &surroundings).expect_err("invalid");
        let text = error.to_string().replace(&house.path().display().to_string(), "~");
        assert_eq!(text, expected);
    };
    std::fs::write(house.path().join("latin1.toml"), b"[fleet]\nname = \"\xc3\xa4\xe4\"\n")
        .expect("file");
    check(
        "latin1.toml",
        "error: not UTF-8: byte 0xe4\n --> ~/latin1.toml:2:10\n  |\n2 | name = \"ä\n  |          ^\n  = help: save the file as UTF-8",
    );
    check(
        "gone.toml",
        "error: the configuration can't be read: No such file or directory (os error 2)\n --> ~/gone.toml\n  = help: name the file: `duende up FILE`; examples/edge.toml is one to start from",
    );
    std::fs::write(
        house.path().join("bad.toml"),
        "[fleet]\nname = \"e\"\n[[daemon]]\nname = \"s\"\nimage = \"s.wasm\"\npriority = 12\n",
    )
    .expect("file");
    check(
        "bad.toml",
        "error: daemon.s.priority: out of range\n --> ~/bad.toml:6:12\n  |\n6 | priority = 12\n  |            ^^\n  = help: from 0 to 7",
    );
}

#[test]
fn many_problems_are_counted_and_not_all_shown() {
    let (house, surroundings) = house();
    let lines: String = (0..80).map(|i| format!("key{i} = 1\n")).collect();
    let text = format!("{FLEET}[[daemon]]\nname = \"s\"\nimage = \"s.wasm\"\n{lines}");
    let error = parse_in(house.path(), &surroundings, &text).expect_err("invalid");
    assert_eq!((error.problems.len(), error.more), (DIAGNOSTICS_MAX, 30));
}

#[test]
fn flags_make_a_fleet_of_one() {
    let (house, surroundings) = house();
    let options = SingleDaemon {
        image: house.path().join("s.wasm"),
        channels: vec![("in".into(), SingleSource::Stdin)],
        config: vec![("a.b".into(), "c".into())],
        ..SingleDaemon::default()
    };
    let fleet = single(&options, &Overrides::default(), &surroundings).expect("valid");
    assert_eq!((fleet.name.as_str(), fleet.daemons.len()), ("s", 1));
    let daemon = &fleet.daemons[0];
    assert_eq!(daemon.grants, Grants { log: true, state: true, metric: true });
    assert!(daemon.channels[0].granted);
    assert_eq!(daemon.restart.policy, RestartPolicy::Never);

    let bad = SingleDaemon {
        image: house.path().join("logs"),
        name: Some("A".into()),
        grants: vec!["network".into()],
        channels: vec![("in".into(), SingleSource::Stdin), ("in".into(), SingleSource::Stdin)],
        config: vec![(String::new(), "c".into())],
        restart: None,
    };
    let error = single(&bad, &Overrides::default(), &surroundings).expect_err("invalid");
    let keys: Vec<&str> = error.problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["IMAGE", "--name", "--channel", "--grant", "--config"]);
}

proptest! {
    /// Whatever the text, there is an answer and no panic; and every problem has a place in the text.
    #[test]
    fn any_text_has_an_answer(text in any_configuration()) {
        let (house, surroundings) = house();
        if let Err(diagnostics) = parse_in(house.path(), &surroundings, &text) {
            prop_assert!(!diagnostics.problems.is_empty());
            for problem in &diagnostics.problems {
                let place = problem.place.as_ref().expect("place");
                prop_assert!(place.line <= text.lines().count() + 1, "{problem}");
                prop_assert!(!problem.message.is_empty() && !problem.help.is_empty());
            }
            let _rendered = diagnostics.to_string();
        }
    }

    /// Nor does a file of any bytes.
    #[test]
    fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (house, surroundings) = house();
        let path = house.path().join("any.toml");
        std::fs::write(&path, bytes).expect("file");
        let _answer = load(&path, &Overrides::default(), &surroundings);
    }
}

/// Lines that often are, and sometimes just are not, a configuration.
fn any_configuration() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        "(fleet|name|daemon|image|command|args|isolation|grant|channel|lines|from|tail|stdin|interval)",
        "(limits|memory_bytes|restart|backoff_max|policy|depends_on|config|env|ready|link|health|period)",
        "[a-z\"]{1,4}",
    ];
    let value = prop_oneof![
        "\"(s.wasm|webd|wos|native|10s|1MiB|s|channel:lines|notify|)\"",
        "-?[0-9]{1,30}",
        "(true|inf|1e400|1979-05-27|\\[\\]|\\{\\}|\\[\"s\", 1\\]|\\{ tail = \"x\" \\}|0xff|ä)",
        ".{0,6}",
    ];
    let dotted = proptest::collection::vec(key, 1..4).prop_map(|keys| keys.join("."));
    let line = prop_oneof![
        4 => (dotted.clone(), value).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => dotted.prop_map(|key| format!("[{key}]")),
        2 => Just("[[daemon]]".to_owned()),
        1 => Just("[fleet]".to_owned()),
    ];
    proptest::collection::vec(line, 0..20).prop_map(|lines| lines.join("\n"))
}

#[test]
fn the_document_as_a_whole() {
    check(
        "",
        &[
            "1:1 fleet: this table is missing | add:  [fleet]  name = \"edge\"",
            "1:1 daemon: no daemon is configured | add:  [[daemon]]  name = \"web\"  command = [\"webd\"]",
        ],
    );
    check(
        "fleet = 1\n[daemon]\nname = \"w\"\n",
        &[
            "1:9 fleet: expected a table, found an integer | write for example `fleet = { name = \"edge\" }`",
            "2:2 daemon: one table, where a list of tables belongs | write [[daemon]], with two brackets on each side",
        ],
    );
    check(
        "[fleet]\nname = edge\n[[daemon]\n",
        &[
            "2:8 : string values must be quoted, expected literal string | texts stand in quotes: key = \"value\"",
            "3:10 : unclosed array table, expected `]` | one `key = value` a line, texts in quotes, tables as [name]; see https://toml.io",
        ],
    );
    check(
        "[fleet]\nname = \"a\"\nname = \"b\"\n",
        &["3:1 : duplicate key `name` | remove one of the two"],
    );
    check(
        "[fleet]\nnmae = \"edge\"\n[[deamon]]\nname = \"w\"\n",
        &[
            "2:1 fleet.nmae: unknown key | did you mean `name`?",
            "3:3 deamon: unknown key | did you mean `daemon`?",
        ],
    );
    check(
        "fleet.name = \"Edge\"\nfleet.log_dir = \"\"\ndaemon = [1]\n",
        &[
            "1:14 fleet.name: `Edge` is not a name | a name has 1 to 64 of `a-z 0-9 . _ -` and starts with a letter or digit",
            "2:17 fleet.log_dir: an empty path | name a file or directory",
            "3:11 daemon: expected a table, found an integer | each element is a table, for example { name = \"web\" }",
        ],
    );
}

#[test]
fn relations_between_daemons() {
    let daemon = |name: &str, more: &str| {
        format!("[[daemon]]\nname = \"{name}\"\nimage = \"s.wasm\"\n{more}\n")
    };
    check(
        &format!("{FLEET}{}{}", daemon("a", ""), daemon("a", "")),
        &[
            "7:8 daemon.a.name: duplicate name: line 3 has a daemon of the same name | give each its own: those of this name begin at duende.toml:2:1 and duende.toml:6:1",
        ],
    );
    check(
        &format!("{FLEET}{}{}", daemon("web", ""), daemon("b", "depends_on = [\"wbe\", \"xyz\"]")),
        &[
            "9:15 daemon.b.depends_on: no daemon is named `wbe` | did you mean `web`?",
            "9:22 daemon.b.depends_on: no daemon is named `xyz` | add a [[daemon]] with name = \"xyz\", or remove it here",
        ],
    );
    check(
        &format!(
            "{FLEET}{}{}{}",
            daemon("a", "depends_on = [\"b\"]"),
            daemon("b", "depends_on = [\"c\"]"),
            daemon("c", "depends_on = [\"a\", \"c\"]")
        ),
        &[
            "13:15 daemon.c.depends_on: cycle: a -> b -> c -> a | remove one of these dependencies",
            "13:20 daemon.c.depends_on: cycle: c -> c | remove one of these dependencies",
        ],
    );
    let stdin = "channel.in.from = { stdin = true }";
    check(
        &format!("{FLEET}{}{}", daemon("a", stdin), daemon("b", stdin)),
        &[
            "9:9 daemon.b.channel: `a` reads standard input already | feed one channel from standard input",
        ],
    );
}

#[test]
fn what_is_run() {
    let daemon = |lines: &str| format!("{FLEET}[[daemon]]\nname = \"d\"\n{lines}");
    check(
        &daemon(""),
        &[
            "2:1 daemon.d: nothing to run | add:  image = \"daemon.wasm\"  for a component, or  command = [\"daemon\"]  for a native program",
        ],
    );
    check(
        &daemon("image = \"s.wasm\"\ncommand = [\"webd\"]\n"),
        &[
            "5:1 daemon.d.command: both `image` and `command` | keep `image` for a component, or `command` for a native program",
        ],
    );
    check(
        &daemon("image = \"s.wasm\"\nisolation = \"native\"\n"),
        &[
            "4:1 daemon.d.image: a component does not run natively | use isolation = \"wos\", or `command` for a native program",
        ],
    );
    check(
        &daemon("command = \"webd\"\nisolation = \"wos\"\n"),
        &[
            "4:1 daemon.d.command: a native program does not run on WOS | use isolation = \"native\", or `image` for a component",
        ],
    );
    check(
        &daemon("image = \"s.wasm\"\nisolation = \"microvm\"\n"),
        &[
            "5:13 daemon.d.isolation: isolation `microvm` is not in this version | use isolation = \"wos\"",
        ],
    );
    check(
        &daemon("command = \"webd\"\nisolation = \"systemd\"\n"),
        &[
            "5:13 daemon.d.isolation: isolation `systemd` is not in this version | use isolation = \"native\"",
        ],
    );
    check(
        &daemon("command = \"webd\"\nisolation = \"natvie\"\n"),
        &["5:13 daemon.d.isolation: unknown value `natvie` | did you mean `native`?"],
    );
    check(
        &daemon("image = \"gone.wasm\"\n"),
        &[
            "4:9 daemon.d.image: ~/gone.wasm does not exist | paths are relative to the directory of the configuration file",
        ],
    );
    check(
        &daemon("image = \"logs\"\n"),
        &["4:9 daemon.d.image: ~/logs is a directory, not a file | name a file"],
    );
    check(
        &daemon("command = [\"gone\"]\n"),
        &[
            "4:11 daemon.d.command: no program `gone` in PATH | install it, or write a path with a slash: \"./gone\"",
        ],
    );
    check(
        &daemon("command = \"webd --root public\"\n"),
        &[
            "4:11 daemon.d.command: no program `webd --root public` in PATH | write program and arguments apart: [\"webd\", \"--root\", \"public\"]",
        ],
    );
    check(
        &daemon("command = [\"./gone\"]\n"),
        &[
            "4:11 daemon.d.command: ~/gone does not exist | build or install it; a path with a slash is relative to the directory of the configuration file",
        ],
    );
    check(
        &daemon("command = [\"./plain.txt\"]\n"),
        &[
            "4:11 daemon.d.command: ~/plain.txt can't be executed | name a program; if it is one: chmod +x ~/plain.txt",
        ],
    );
    check(
        &daemon("command = []\n"),
        &["4:11 daemon.d.command: no program | write the program as the first element"],
    );
    check(
        &daemon("command = [\"webd\", 1, \"a\\u0000b\"]\n"),
        &[
            "4:20 daemon.d.command: expected a string, found an integer | each element is a string, for example \"…\"",
            "4:23 daemon.d.command: contains a zero character | remove `\\u0000`",
        ],
    );
    check(
        &daemon("command = [\"webd\", \"-v\"]\nargs = [\"x\"]\n"),
        &["5:1 daemon.d.args: `command` has arguments already | put them all into `command`"],
    );
    check(
        &daemon("command = [\"webd\"]\nbinary_path = \"webd\"\n"),
        &[
            "5:1 daemon.d.binary_path: the same as `command`, which is also given | keep `command` and remove `binary_path`",
        ],
    );
    check(
        &format!("{FLEET}[[daemon]]\nname = \"../x\"\nimage = \"s.wasm\"\n"),
        &[
            "3:8 daemon.name: `../x` is not a name | a name has 1 to 64 of `a-z 0-9 . _ -` and starts with a letter or digit",
        ],
    );
    check(
        &format!("{FLEET}[[daemon]]\nname = \"manager\"\nimage = \"s.wasm\"\n"),
        &[
            "3:8 daemon.name: this name is reserved for a log of the manager itself | choose another name",
        ],
    );
    check(
        &format!("{FLEET}[[daemon]]\nimage = \"s.wasm\"\n"),
        &["2:1 daemon.name: this key is missing | add:  name = \"web\""],
    );
}

#[test]
fn a_component_on_wos() {
    check_wos(
        "comand = 1\nprioritty = 3\nxyzzy = 1\n",
        &[
            "5:1 daemon.s.comand: unknown key | did you mean `command`?",
            "6:1 daemon.s.prioritty: unknown key | did you mean `priority`?",
            "7:1 daemon.s.xyzzy: unknown key | known here: name, image, command, binary_path, args, isolation, depends_on, grant, channel, config and 23 more",
        ],
    );
    check_wos(
        "env = {}\nready = \"notify\"\nlimits.open_files_max = 9\n",
        &[
            "5:1 daemon.s.env: a component has no such thing | remove the key; what a component needs to know goes into [daemon.config]",
            "6:1 daemon.s.ready: a component is ready when its `init` returns | remove the key",
            "7:8 daemon.s.limits.open_files_max: a component has no descriptors | remove the key",
        ],
    );
    check_wos("priority = 8\n", &["5:12 daemon.s.priority: out of range | from 0 to 7"]);
    check_wos("priority = -1\n", &["5:12 daemon.s.priority: out of range | from 0 to 7"]);
    check_wos(
        "priority = \"4\"\n",
        &[
            "5:12 daemon.s.priority: expected a whole number, found a string | write for example `priority = 0`",
        ],
    );
    check_wos(
        "stop_grace = 10\nstart_timeout = \"10\"\nslice_budget = \"0s\"\n",
        &[
            "5:14 daemon.s.stop_grace: expected a duration, found an integer | write for example `stop_grace = \"10s\"`",
            "6:17 daemon.s.start_timeout: not a duration: a number without a unit | write \"10s\" for seconds, \"10ms\" for milliseconds",
            "7:16 daemon.s.slice_budget: out of range: too short | from 1ms to 1day",
        ],
    );
    check_wos(
        "limits = { memory_bytes = \"1B\", state_bytes = \"much\" }\n",
        &[
            "5:27 daemon.s.limits.memory_bytes: out of range | from 64.0 KiB to 4.0 GiB",
            "5:47 daemon.s.limits.state_bytes: not a size | write for example \"256MiB\" or \"1.5GB\"",
        ],
    );
    check_wos(
        "limits = { memory_bytes = 1, memory_limit = 65536, cpu_shares = 5 }\n",
        &[
            "5:27 daemon.s.limits.memory_bytes: out of range | from 64.0 KiB to 4.0 GiB",
            "5:30 daemon.s.limits.memory_limit: the same as `memory_bytes`, which is also given | keep `memory_bytes` and remove `memory_limit`",
            "5:52 daemon.s.limits.cpu_shares: not enforced in this version | remove the key",
        ],
    );
    check_wos(
        "grant = [\"log\", \"stat\", \"channel:lnes\", \"network\", 3]\nchannel.lines.from = { stdin = true }\n",
        &[
            "5:17 daemon.s.grant: unknown capability `stat` | did you mean `state`?",
            "5:25 daemon.s.grant: no channel `lnes` is configured | did you mean `lines`?",
            "5:41 daemon.s.grant: unknown capability `network` | one of: log, clock, entropy, config, state, metric, channel:NAME",
            "5:52 daemon.s.grant: expected a string, found an integer | each element is a string, for example \"…\"",
        ],
    );
    check_wos(
        "channel.a = {}\nchannel.b.from = { tail = \"x\", stdin = true }\nchannel.c.from = { fail = \"x\" }\nchannel.D.from = { stdin = false }\n",
        &[
            "5:13 daemon.s.channel.a.from: this key is missing | add:  from = { tail = \"access.log\" }",
            "6:18 daemon.s.channel.b.from: a channel has exactly one source | write { tail = \"FILE\" }, { stdin = true } or { interval = \"1s\" }",
            "7:20 daemon.s.channel.c.from.fail: unknown key | did you mean `tail`?",
            "8:9 daemon.s.channel.D: `D` is not a name | a name has 1 to 64 of `a-z 0-9 . _ -` and starts with a letter or digit",
            "8:28 daemon.s.channel.D.from.stdin: a channel without a source | write true, or another source",
        ],
    );
    check_wos(
        "channel.a.from = { tail = \"~me/x.log\" }\nchannel.b.from = { tail = \"logs/*.log\" }\nchannel.c = { from = { interval = \"1s\" }, start = \"end\" }\nchannel.d = { from = { tail = \"x\" }, start = \"middle\" }\n",
        &[
            "5:27 daemon.s.channel.a.from.tail: `~` is not expanded here | write the whole path; a file of that name is \"./~me/x.log\"",
            "6:27 daemon.s.channel.b.from.tail: a pattern, and no file has this name | name one file; patterns such as `*` are not expanded",
            "7:43 daemon.s.channel.c.start: not a key of this source | leave it out: only a source of { tail = \"FILE\" } has it",
            "8:46 daemon.s.channel.d.start: where does reading start? | write \"begin\" or \"end\"",
        ],
    );
    check_wos(
        "channel.a.from = { tail = \"/dev/null\" }\nchannel.b.from = { tail = \"logs\" }\nchannel.c.from = { interval = \"1\" }\n",
        &[
            "5:27 daemon.s.channel.a.from.tail: /dev/null is a device: it has no lines to go back to | name a regular file",
            "6:27 daemon.s.channel.b.from.tail: ~/logs is a directory: it has no lines to go back to | name a file in it",
            "7:31 daemon.s.channel.c.from.interval: not a duration: a number without a unit | write \"1s\" for seconds, \"1ms\" for milliseconds",
        ],
    );
    check_wos(
        "health = { period = \"1 parsec\", failures = 0, retries = 3 }\n",
        &[
            "5:21 daemon.s.health.period: not a duration: there is no unit `parsec` | units are ms, s, min, h, day; for example \"10s\", \"1min 30s\"",
            "5:44 daemon.s.health.failures: out of range | from 1 to 1000",
            "5:47 daemon.s.health.retries: unknown key | known here: initial_delay, period, timeout, failures, successes, startup, liveness, readiness",
        ],
    );
    check_wos(
        "restart = { policy = \"onfailure\", max_retries = -1, limit = 33 }\n",
        &[
            "5:22 daemon.s.restart.policy: unknown value `onfailure` | did you mean `on-failure`?",
            "5:49 daemon.s.restart.max_retries: out of range | from 0 to 10000",
            "5:61 daemon.s.restart.limit: out of range | from 0 to 32",
        ],
    );
    check_wos(
        "restart = { backoff_initial = \"1min\" }\n",
        &[
            "5:31 daemon.s.restart.backoff_initial: backoff_initial (1m) is more than backoff_max (30s) | lower backoff_initial or raise backoff_max",
        ],
    );
    check_wos(
        "restart = { backoff = \"constant\", backoff_max = \"1s\", jitter = \"some\" }\n",
        &[
            "5:35 daemon.s.restart.backoff_max: a backoff that is `constant` has no such key | remove the key, or choose another backoff",
            "5:64 daemon.s.restart.jitter: unknown value `some` | one of: full, equal, none",
        ],
    );
    check_wos(
        "restart = { backoff = \"steps\", window_kind = \"fixd\", success_exit = [1, \"SIGTERM\"] }\n",
        &[
            "5:11 daemon.s.restart.backoff_steps: this key is missing | add:  backoff_steps = 5",
            "5:46 daemon.s.restart.window_kind: unknown value `fixd` | did you mean `fixed`?",
            "5:73 daemon.s.restart.success_exit: no signal ends a component | write the exit codes that it says, as numbers",
        ],
    );
    check_wos(
        "watchdog = \"1s\"\nmember_of = \"nobody\"\n",
        &[
            "5:1 daemon.s.watchdog: a component sends no signs of life: its slices have a budget | use slice_budget and health",
            "6:13 daemon.s.member_of: no group is named `nobody` | add a [[group]] with name = \"nobody\", or remove it here",
        ],
    );
    check_wos(
        "health = { period = \"1s\", liveness = {}, startup = { successes = 2 } }\n",
        &[
            "5:27 daemon.s.health.liveness: liveness is said twice: here, and by the keys of `health` itself | keep one of the two",
            "5:54 daemon.s.health.startup.successes: only readiness can ask for several successes in a row | remove the key, or set health.readiness",
        ],
    );
    check_wos(
        "[daemon.config]\n\"a.b\" = 1\na = { b = 2 }\n",
        &[
            "7:7 daemon.s.config.a.b: `a.b` is there twice once tables are joined with dots | rename one of them",
        ],
    );
}

#[test]
fn a_native_program() {
    check_native(
        "grant = [\"log\"]\nchannel.a.from = { stdin = true }\nconfig.x = 1\nhealth.period = \"1s\"\n",
        &[
            "5:1 daemon.w.grant: a native program that is not built with the SDK can't have this | set link = true if it is built with the SDK, or remove the key",
            "6:1 daemon.w.channel: a native program that is not built with the SDK can't have this | set link = true if it is built with the SDK, or remove the key",
            "7:1 daemon.w.config: a native program that is not built with the SDK can't have this | set link = true if it is built with the SDK, or remove the key",
            "8:1 daemon.w.health: a native program that is not built with the SDK can't have this | set link = true if it is built with the SDK, or remove the key",
        ],
    );
    check_native(
        "restart.prevent_restart_exit = [256, \"SIGTEM\", 1.5]\nwatchdog = \"0s\"\n",
        &[
            "5:33 daemon.w.restart.prevent_restart_exit: out of range | from 0 to 255",
            "5:38 daemon.w.restart.prevent_restart_exit: no signal is named `SIGTEM` | did you mean `SIGTERM`?",
            "5:48 daemon.w.restart.prevent_restart_exit: expected a whole number, found a float | each element is a whole number, for example 0",
            "6:12 daemon.w.watchdog: out of range: too short | from 1ms to 1day",
        ],
    );
    check_native(
        "priority = 3\nslice_budget = \"1s\"\nlimits.memory_bytes = \"1MiB\"\nlimits.state_bytes = 5000\n",
        &[
            "5:1 daemon.w.priority: only WOS schedules slices | remove the key, or run a component on WOS",
            "6:1 daemon.w.slice_budget: only WOS schedules slices | remove the key, or run a component on WOS",
            "7:8 daemon.w.limits.memory_bytes: not enforced for native programs in this version | remove the key, or run a component on WOS",
            "8:8 daemon.w.limits.state_bytes: a native program that is not built with the SDK has no state | remove the key",
        ],
    );
    check_native(
        "ready = { http = \"http://127.0.0.1/\" }\n",
        &[
            "5:9 daemon.w.ready: readiness by `http` is not in this version | use \"notify\" (sd_notify) or \"started\"",
        ],
    );
    check_native(
        "ready = \"redy\"\nlink = \"yes\"\n",
        &[
            "5:9 daemon.w.ready: unknown value `redy` | one of: started, notify",
            "6:8 daemon.w.link: expected a boolean, found a string | write for example `link = true`",
        ],
    );
    check_native(
        "env_file = \"bad.env\"\nenv = { A = 1, \"B=\" = \"x\" }\n",
        &[
            "5:12 daemon.w.env_file: ~/bad.env:2: not a variable | write NAME=value, or start a comment with #",
            "6:13 daemon.w.env.A: expected a string, found an integer | write for example `A = \"…\"`",
            "6:16 daemon.w.env.B=: `B=` can't be the name of a variable | use letters, digits and `_`, and no digit first",
        ],
    );
    check_native(
        "env_file = \"gone.env\"\nworking_dir = \"s.wasm\"\n",
        &[
            "5:12 daemon.w.env_file: ~/gone.env does not exist | paths are relative to the directory of the configuration file",
            "6:15 daemon.w.working_dir: ~/s.wasm is a file, not a directory | name a directory",
        ],
    );
    check_native(
        "user = \"nobody-here\"\ngroup = \"www\"\n",
        &[
            "5:8 daemon.w.user: no user `nobody-here` on this machine | create the user, for example: useradd --system nobody-here",
        ],
    );
    check_native(
        "env = { \"1A\" = \"x\", \"A-B\" = \"x\" }\n",
        &[
            "5:9 daemon.w.env.1A: `1A` can't be the name of a variable | use letters, digits and `_`, and no digit first",
            "5:21 daemon.w.env.A-B: `A-B` can't be the name of a variable | use letters, digits and `_`, and no digit first",
        ],
    );
    check_native(
        "stop_signal = 2\nstop_scope = \"grop\"\nnotify_access = \"main process\"\npid_file = \"gone/x.pid\"\n",
        &[
            "5:15 daemon.w.stop_signal: signals have names here: their numbers differ between machines | write for example \"SIGINT\"",
            "6:14 daemon.w.stop_scope: unknown value `grop` | did you mean `group`?",
            "7:17 daemon.w.notify_access: unknown value `main process` | one of: main, exec, all, none",
            "8:12 daemon.w.pid_file: the directory ~/gone does not exist | create it, or name a file in another directory",
        ],
    );
    check_native(
        "stop_signal = \"SIGKILL\"\npid_file = \"logs\"\nkill_timeout = \"0s\"\n",
        &[
            "5:15 daemon.w.stop_signal: SIGKILL asks no program to end | use \"SIGTERM\" or another signal that it catches; stop_grace = \"0s\" kills at once",
            "6:12 daemon.w.pid_file: ~/logs is there and not a regular file | name a file of its own: it is written at each start",
            "7:16 daemon.w.kill_timeout: out of range: too short | from 1ms to 1day",
        ],
    );
    check_native(
        "ready = \"notify\"\nnotify_access = \"none\"\nwatchdog = \"1s\"\n",
        &[
            "6:17 daemon.w.notify_access: with ready = \"notify\" it could never be ready | remove one of them, or name whose word counts: \"main\"",
            "7:12 daemon.w.watchdog: with notify_access = \"none\" no sign of life would count | remove one of them, or name whose word counts: \"main\"",
        ],
    );
    check_native(
        "stop_signal = \"SIGTREM\"\n",
        &["5:15 daemon.w.stop_signal: no signal `SIGTREM` | did you mean `SIGTERM`?"],
    );
    check_native(
        "group = \"www\"\n",
        &["5:1 daemon.w.group: a group without a user | add:  user = \"…\""],
    );
}

/// Whoever may not look is not told that nothing is there.
#[test]
fn what_is_barred_is_said_to_be() {
    use std::os::unix::fs::PermissionsExt as _;
    let (house, mut surroundings) = house();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let locked = house.path().join("locked");
    std::fs::create_dir_all(locked.join("in")).unwrap();
    std::fs::copy(house.path().join("bin/webd"), locked.join("webd")).unwrap();
    for file in ["s.wasm", "good.env"] {
        std::fs::copy(house.path().join(file), locked.join(file)).unwrap();
    }
    let text = |keys: &str| format!("{FLEET}[[daemon]]\nname = \"d\"\n{keys}\n");
    let native = |key: &str| text(&format!("command = [\"/bin/sh\"]\n{key}"));
    let cases = [
        text("command = [\"./locked/webd\"]"),
        text("image = \"locked/s.wasm\""),
        native("env_file = \"locked/good.env\""),
        native("working_dir = \"locked/in\""),
        native("pid_file = \"locked/d.pid\""),
        native("pid_file = \"locked/in/d.pid\""),
        // In PATH.
        text("command = [\"webd\"]"),
    ];
    surroundings.vars.insert("PATH".into(), locked.clone().into());
    mode(house.path(), 0o755);
    mode(&locked, 0o000);
    crate::reach::as_nobody(|uid| {
        let words = format!("permission denied: user {uid} may not pass {}", locked.display());
        for text in &cases {
            let error = parse_in(house.path(), &surroundings, text).unwrap_err();
            let [problem] = &error.problems[..] else { panic!("{text}: {error}") };
            assert!(problem.message.contains(&words), "{text}: {}", problem.message);
            assert!(problem.help.contains("chmod o+x"), "{text}: {}", problem.help);
        }
    });
    mode(&locked, 0o700);
    check(
        &text("command = [\"./bin\"]"),
        &["4:11 daemon.d.command: ~/bin is a directory | name a program in it"],
    );
}

#[test]
fn a_fleet_that_needs_more_open_files_than_there_are_is_told() {
    let (house, mut surroundings) = house();
    let mut text = "[fleet]\nname = \"f\"\n".to_owned();
    for number in 0..100 {
        text += &format!("[[daemon]]\nname = \"d{number}\"\ncommand = \"webd\"\n");
    }
    let needed = keep_open_files_needed(100);
    surroundings.open_files_max = Some(needed);
    assert!(parse_in(house.path(), &surroundings, &text).is_ok());
    surroundings.open_files_max = Some(needed - 1);
    let error = parse_in(house.path(), &surroundings, &text).unwrap_err().to_string();
    assert!(error.contains("need 332 open files, and this session may have 331"), "{error}");
    // README's promise: a thousand fit where a session may have 4,096.
    assert!(keep_open_files_needed(DAEMONS_MAX as u64) <= 4_096);
}

/// README's promise: a thousand, components too, and not one more.
#[test]
fn a_fleet_of_more_daemons_than_there_is_room_for_is_told() {
    let (house, surroundings) = house();
    let fleet = |components: usize| {
        let mut text = FLEET.to_owned();
        for number in 0..components {
            text += &format!("[[daemon]]\nname = \"c{number}\"\nimage = \"s.wasm\"\n");
        }
        parse_in(house.path(), &surroundings, &text)
    };
    assert_eq!(fleet(1_000).unwrap().components(), 1_000);
    let diagnostics = fleet(1_001).unwrap_err();
    let [problem] = diagnostics.problems.as_slice() else { panic!("{diagnostics}") };
    assert_eq!((problem.key.as_str(), problem.message.as_str()), ("daemon", "1001 daemons"));
    assert!(problem.help.contains("at most 1000 daemons"), "{problem}");
}

/// What would never start, because no program can be given so much.
#[test]
fn more_words_than_a_program_can_be_given_are_refused_by_name() {
    let (house, mut surroundings) = house();
    let (large, half) = ("x".repeat(200_000), "x".repeat(70_000));
    std::fs::write(house.path().join("half.env"), format!("HALF={half}\nB=1\n")).expect("file");
    std::fs::write(house.path().join("large.env"), format!("LARGE={large}\n")).expect("file");
    let mut check = |inherited: &str, lines: &str, expected: &[&str]| {
        surroundings.vars.insert("INHERITED".into(), inherited.into());
        let text = format!("{FLEET}[[daemon]]\nname = \"w\"\ncommand = \"webd\"\n{lines}\n");
        let found = parse_in(house.path(), &surroundings, &text).map_err(|error| error.to_string());
        match (found, expected) {
            (Ok(_), []) => {}
            (Err(found), [_, ..])
                if expected.iter().all(|part| found.contains(part))
                    && found.matches("error:").count() == 1 => {}
            (found, _) => panic!("{expected:?}: {found:?}"),
        }
    };
    // One alone …
    let word = "131071";
    check("", &format!("args = [\"{large}\"]"), &["daemon.w.args", "200000 bytes", word]);
    check("", &format!("env = {{ LARGE = \"{large}\" }}"), &["daemon.w.env.LARGE", word]);
    check("", "env_file = \"large.env\"", &["daemon.w.env_file", "`LARGE`", word]);
    // … and those that are too long together, wherever they come from.
    check("", &format!("args = [\"{half}\"]"), &[]);
    check("", &format!("env = {{ HALF = \"{half}\" }}\nenv_file = \"half.env\""), &[]);
    let together = ["daemon.w: ", "122880 is the most", "70"];
    for (inherited, lines, largest) in [
        ("", format!("args = [\"{half}x\", \"{half}\"]"), "argument 1"),
        ("", format!("args = [\"{half}\"]\nenv_file = \"half.env\""), "variable `HALF`"),
        (half.as_str(), format!("env = {{ A = \"{half}x\" }}"), "variable `INHERITED`"),
        (half.as_str(), format!("env = {{ AVERYLONGNAME = \"{half}\" }}"), "`AVERYLONGNAME`"),
    ] {
        check(inherited, &lines, &[&together[..], &[largest]].concat());
    }
}

/// Every curve, jitter, window and list of exits, as the core takes them.
#[test]
fn restarts_as_other_systems_do_them() {
    let seconds = Duration::from_secs;
    let read = |restart: &str| {
        let (house, surroundings) = house();
        let text = format!(
            "fleet.name = \"f\"\n[[daemon]]\nname = \"w\"\ncommand = [\"webd\"]\nrestart = {{ {restart} }}\n"
        );
        let fleet = parse_in(house.path(), &surroundings, &text);
        fleet.unwrap_or_else(|error| panic!("{error}")).daemons.remove(0).restart
    };
    assert_eq!(read(""), RestartConfig::default());
    let systemd = read(
        "backoff = \"steps\", backoff_initial = \"1s\", backoff_max = \"16s\", backoff_steps = 4, \
         limit = 5, window = \"10s\", window_kind = \"fixed\"",
    );
    assert_eq!(systemd.backoff, Backoff::systemd(seconds(1), 4, seconds(16)));
    assert_eq!(systemd.limit, RestartLimit::SYSTEMD);
    let kubernetes = read("backoff = \"kubernetes\"");
    assert_eq!(
        (kubernetes.backoff, kubernetes.stable_after),
        (Backoff::kubernetes(), seconds(600))
    );
    let constant = read("backoff = \"constant\", backoff_initial = \"200ms\"");
    assert_eq!(constant.backoff, Backoff::dinit());
    let equal = read("jitter = \"equal\"").backoff;
    assert_eq!(equal, Backoff { jitter: Jitter::Equal, ..Backoff::default() });

    let exits =
        read("success_exit = [3], prevent_restart_exit = [\"SIGUSR1\"], force_restart_exit = [0]");
    let decision = |exit| {
        let classified = exits.exits.classify(exit);
        (classified.failure.is_none(), classified.decision)
    };
    assert_eq!(decision(Exit::Code(3)), (true, Decision::ByPolicy));
    assert_eq!(decision(Exit::Signal(10)), (false, Decision::Prevented));
    assert_eq!(decision(Exit::Code(0)), (true, Decision::Forced));
    assert_eq!(decision(Exit::Signal(15)), (true, Decision::ByPolicy));
}

#[test]
fn groups_form_a_tree() {
    let daemon = "[[daemon]]\nname = \"s\"\nimage = \"s.wasm\"\n";
    let problems = |groups: &str, expected: &[&str]| {
        check(&format!("{FLEET}{groups}{daemon}"), expected);
    };
    problems(
        "[[group]]\nname = \"a\"\nparent = \"b\"\n[[group]]\nname = \"b\"\nparent = \"a\"\n",
        &[
            "4:10 group.parent: a group is its own parent, by way of `b` | remove one of these parents",
        ],
    );
    problems(
        "[[group]]\nname = \"a\"\nstrategy = \"one-for-al\"\nparent = \"c\"\n[[group]]\nname = \"a\"\nrestarts = 99\n",
        &[
            "4:12 group.a.strategy: unknown value `one-for-al` | did you mean `one-for-all`?",
            "5:10 group.a.parent: no group is named `c` | did you mean `a`?",
            "7:8 group.a.name: duplicate name | give each group its own name",
            "8:12 group.a.restarts: out of range | from 0 to 32",
        ],
    );
    problems(
        "group = { name = \"a\" }\n",
        &[
            "2:1 group: one table, where a list of tables belongs | write [[group]], with two brackets on each side",
        ],
    );
}

/// One slip, one message: what follows from it is not told as well.
#[test]
fn one_slip_has_one_message() {
    for (lines, expected) in [
        (
            "grant = [\"channel:lines\"]\nchannel.lines.from = { tial = \"a.log\" }\n",
            "6:24 daemon.s.channel.lines.from.tial: unknown key | did you mean `tail`?",
        ),
        (
            "grant = [\"channel:lines\"]\nchannel.lines.from = { file = \"a.log\" }\n",
            "6:24 daemon.s.channel.lines.from.file: unknown key | known here: tail, stdin, interval",
        ),
        (
            "grant = [\"channel:lines\"]\nchannel.lines.from = { interval = \"100\" }\n",
            "6:35 daemon.s.channel.lines.from.interval: not a duration: a number without a unit | write \"100s\" for seconds, \"100ms\" for milliseconds",
        ),
        (
            "grant = [\"channel:lines\"]\nchannel.lines.form = { stdin = true }\n",
            "6:15 daemon.s.channel.lines.form: unknown key | did you mean `from`?",
        ),
        (
            "grant = [\"channel:lines\"]\nchannel = \"lines\"\n",
            "6:11 daemon.s.channel: expected a table, found a string | write for example `channel = { lines = { from = { tail = \"access.log\" } } }`",
        ),
        (
            "slice-budget = \"1s\"\n",
            "5:1 daemon.s.slice-budget: unknown key | did you mean `slice_budget`?",
        ),
    ] {
        check_wos(lines, &[expected]);
    }
    check(
        &format!(
            "{FLEET}[[daemon]]\nname = \"Web\"\nimage = \"s.wasm\"\n[[daemon]]\nname = \"b\"\nimage = \"s.wasm\"\ndepends_on = [\"Web\"]\n"
        ),
        &[
            "3:8 daemon.name: `Web` is not a name | a name has 1 to 64 of `a-z 0-9 . _ -` and starts with a letter or digit",
        ],
    );
    check(
        &format!(
            "{FLEET}[[daemon]]\nnmae = \"a\"\nimage = \"s.wasm\"\n[[daemon]]\nname = \"b\"\nimgae = \"s.wasm\"\n"
        ),
        &[
            "3:1 daemon.nmae: unknown key | did you mean `name`?",
            "7:1 daemon.b.imgae: unknown key | did you mean `image`?",
        ],
    );
    check(
        "name = \"edge\"\n[[daemon]]\nname = \"s\"\nimage = \"s.wasm\"\n",
        &[
            "1:1 name: a key of [fleet]: move it below a line [fleet] | it has no meaning in the file's top",
        ],
    );
    check(
        &format!("{FLEET}[daemon.channel.lines]\nfrom = {{ stdin = true }}\n"),
        &[
            "2:2 daemon: a table of a daemon, and no [[daemon]] stands above it | write [[daemon]], with two brackets on each side, and its name above it",
        ],
    );
}

/// What is allowed and probably not meant, as `line key: message | help`.
#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let (house, surroundings) = house();
    let path = house.path().join("f.toml");
    let warnings = |daemons: &str| -> Vec<String> {
        std::fs::write(&path, format!("{FLEET}{daemons}")).expect("file");
        let checked = super::check(&path, &Overrides::default(), &surroundings);
        let checked = checked.unwrap_or_else(|error| panic!("{error}"));
        let line = |warning: &Diagnostic| {
            assert_eq!(warning.severity, Severity::Warning);
            assert!(warning.to_string().starts_with("warning: "), "{warning}");
            let line = warning.place.as_ref().map_or(0, |place| place.line);
            format!("{line} {}: {} | {}", warning.key, warning.message, warning.help)
        };
        checked.warnings.iter().map(line).collect()
    };
    let wasm = "[[daemon]]\nname = \"s\"\nimage = \"s.wasm\"\n";
    let lines = "[daemon.channel.lines]\nfrom = { tail = \"a.log\" }\n";
    let ungranted = "daemon.s.channel.lines: it has a source and no grant, so the daemon can't read it | add \"channel:lines\" to `grant`, or remove the channel";
    assert_eq!(warnings(&format!("{wasm}{lines}")), [format!("5 {ungranted}")]);
    assert_eq!(warnings(&format!("{wasm}grant = [\"log\"]\n{lines}")), [format!("6 {ungranted}")]);
    assert!(warnings(&format!("{wasm}grant = [\"channel:lines\"]\n{lines}")).is_empty());

    let swallowed = "[daemon.config]\nx = 1\n[daemon.config.alert]\ny = 1\nstop_grace = \"1s\"\n";
    assert_eq!(
        warnings(&format!("{wasm}{swallowed}")),
        [
            "9 daemon.s.config.alert.stop_grace: a key of [[daemon]]: move it above line 5 | if it is meant for [daemon.config] all the same, say in [[daemon]] itself what `stop_grace` is, too"
        ]
    );
    assert!(
        warnings(&format!("{wasm}[daemon.config]\nalert = {{ stop_grace = \"1s\" }}\n")).is_empty()
    );

    let unexpanded = |place: &str, found: &str| {
        format!(
            "{place}: `{found}` is not expanded here: the program gets it as it stands | write the whole path"
        )
    };
    let native = "[[daemon]]\nname = \"w\"\n";
    assert_eq!(
        warnings(&format!(
            "{native}command = [\"webd\", \"~/public\", \"-c\", \"$HOME/x\"]\nenv = {{ PATH = \"/opt:$PATH\", A = \"5 $\" }}\n"
        )),
        [unexpanded("4 daemon.w.command", "~"), unexpanded("5 daemon.w.env.PATH", "$PATH")]
    );
    assert_eq!(
        warnings(&format!("{native}binary_path = \"webd\"\nargs = [\"$HOME/x\"]\n")),
        [unexpanded("5 daemon.w.args", "$HOME")]
    );
}

/// Whatever stands in the place of a file: it is named, and nobody waits for it.
#[test]
fn what_is_no_file_is_named_and_nobody_waits_for_it() {
    let (house, surroundings) = house();
    let at = |name: &str| house.path().join(name);
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), mode).expect("a FIFO");
    std::os::unix::fs::symlink("loop", at("loop")).expect("a link");
    std::os::unix::fs::symlink("/dev/zero", at("zero")).expect("a link");
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket");
    let kinds = [
        ("fifo", "a pipe (FIFO)"),
        ("zero", "a device"),
        ("socket", "socket"),
        ("loop", "lead in a circle"),
    ];
    for (name, words) in kinds {
        for (lines, key) in [
            (format!("image = \"{name}\"\n"), "daemon.d.image"),
            (format!("command = [\"webd\"]\nenv_file = \"{name}\"\n"), "daemon.d.env_file"),
            (format!("command = [\"webd\"]\nworking_dir = \"{name}\"\n"), "daemon.d.working_dir"),
        ] {
            let text = format!("{FLEET}[[daemon]]\nname = \"d\"\n{lines}");
            let error = parse_in(house.path(), &surroundings, &text).expect_err("no file");
            let [problem] = &error.problems[..] else { panic!("{error}") };
            assert_eq!(problem.key, key);
            assert!(problem.message.contains(words), "{problem}");
        }
        let error = load(&at(name), &Overrides::default(), &surroundings).expect_err("no file");
        // To open a socket is an error of its own, and a circle has the system's name.
        let is_named = error.to_string().contains(words) || matches!(name, "socket" | "loop");
        assert!(is_named, "{error}");
    }
    for directory in ["fifo", "s.wasm"] {
        let daemon = "[[daemon]]\nname = \"d\"\nimage = \"s.wasm\"\n";
        let text = format!("{FLEET}fleet.state_dir = \"{directory}\"\n{daemon}");
        let error = parse_in(house.path(), &surroundings, &text).expect_err("no directory");
        assert_eq!(error.problems[0].key, "fleet.state_dir", "{error}");
    }
}

/// README's promise: of a link, the directory in which the link lies.
#[test]
fn relative_paths_are_relative_to_the_directory_of_the_link() {
    let (house, surroundings) = house();
    let elsewhere = house.path().join("logs/real.toml");
    std::fs::write(&elsewhere, format!("{FLEET}[[daemon]]\nname = \"s\"\nimage = \"s.wasm\"\n"))
        .expect("file");
    let link = house.path().join("fleet.toml");
    std::os::unix::fs::symlink(&elsewhere, &link).expect("a link");
    let fleet = load(&link, &Overrides::default(), &surroundings).expect("valid");
    let Isolation::Wos(wos) = &fleet.daemons[0].isolation else { panic!("{fleet:?}") };
    assert_eq!(wos.image, house.path().join("s.wasm"));
    assert!(load(&elsewhere, &Overrides::default(), &surroundings).is_err());
}

/// What can't be handed over as what it is.
#[test]
fn config_values_are_what_they_are() {
    check_wos(
        "[daemon.config]\na = 99999999999999999999\nb = [1, -9223372036854775809]\nc = { d = 0x1ffffffffffffffff }\n",
        &[
            "6:5 daemon.s.config.a: a whole number beyond 64 bits | from -9223372036854775808 to 9223372036854775807; in quotes it is handed over as a text",
            "7:9 daemon.s.config.b: a whole number beyond 64 bits | from -9223372036854775808 to 9223372036854775807; in quotes it is handed over as a text",
            "8:11 daemon.s.config.c.d: a whole number beyond 64 bits | from -9223372036854775808 to 9223372036854775807; in quotes it is handed over as a text",
        ],
    );
    for lines in ["l = [1]\n\"l.0\" = 2\n", "\"l.0\" = 2\nl = [1]\n"] {
        let (house, surroundings) = house();
        let text = format!(
            "{FLEET}[[daemon]]\nname = \"s\"\nimage = \"s.wasm\"\n[daemon.config]\n{lines}"
        );
        let error = parse_in(house.path(), &surroundings, &text).expect_err("ambiguous");
        let [problem] = &error.problems[..] else { panic!("{error}") };
        assert!(problem.message.contains("`l.0` is there twice"), "{problem}");
    }
}
