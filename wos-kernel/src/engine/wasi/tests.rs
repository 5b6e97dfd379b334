//! Daemons by hand that call WASI in `init`, in a kernel.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use std::path::PathBuf;

use duende_core::wire::link::{Address, Command, Description, Event, Grants, Limits};
use wasmtime::{Config, Engine, component::Component};

use crate::{
    ImageState, Kernel, Machine,
    engine::{Image, ImageLinker, ImageSource, WasmtimeExecutor},
};

/// The clock stands at 1 ns.
struct Still;

impl Machine for Still {
    fn monotonic_ns(&self) -> u64 {
        1
    }
    fn wall_ns(&self) -> i64 {
        5_000_000_007
    }
    fn entropy(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
    fn attention(&self) -> bool {
        false
    }
}

struct One(Image);

impl ImageSource for One {
    fn image(&mut self, _: &str) -> ImageState<Image> {
        ImageState::Ready(self.0.clone())
    }
}

/// A function that `init` uses: the interface's instance, its name there, its core name and core type.
type Used = (&'static str, &'static str, &'static str, &'static str);

/// The daemon by hand of contract 0.2, which imports these interfaces and whose `init` is this.
fn daemon(imports: &str, used: &[Used], init: &str) -> Vec<u8> {
    let path: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "../tests/golden/0.2/wait.wat"].iter().collect();
    let mut text = std::fs::read_to_string(path).unwrap();
    let mut lowered = String::new();
    let mut taken = "(import \"wasi\" \"memory\" (memory 1))\n".to_string();
    let mut given = "(export \"memory\" (memory $memory \"memory\"))".to_string();
    for (instance, function, name, ty) in used {
        lowered += &format!(
            "(core func ${name} (canon lower (func ${instance} \"{function}\")
               (memory (core memory $memory \"memory\")) (realloc (core func $memory \"realloc\"))))\n"
        );
        taken += &format!("(import \"wasi\" \"{name}\" (func ${name} {ty}))\n");
        given += &format!("(export \"{name}\" (func ${name}))");
    }
    for (before, more) in [
        ("  (core module $memory", imports),
        ("  (core module $daemon", &*lowered),
        ("    (func (export \"init\")", &*taken),
        ("    (with \"log\"", &*format!("(with \"wasi\" (instance {given}))")),
    ] {
        assert!(text.contains(before), "{before}");
        text = text.replacen(before, &format!("{more}\n{before}"), 1);
    }
    let hello = "(call $write (i32.const 2) (i32.const 1024) (i32.const 5) (i32.const 512))";
    assert!(text.contains(hello));
    wat::parse_str(text.replacen(hello, init, 1)).unwrap()
}

/// What it printed, and why it ended, if it did.
fn run(component: &[u8]) -> (Vec<String>, Option<String>) {
    let mut config = Config::new();
    config.epoch_interruption(true).concurrency_support(false);
    let engine = Engine::new(&config).unwrap();
    let linker = ImageLinker::new(&engine).unwrap();
    let image = linker.link(&Component::new(&engine, component).unwrap()).unwrap();
    let mut kernel = Kernel::new(WasmtimeExecutor::new(One(image)), 4, Arc::new(Still));
    let at = Address::of(0, 1);
    let limits =
        Limits { memory_bytes_max: 8 << 20, slice_budget_ns: u64::MAX, state_bytes_max: 4_096 };
    let said =
        Description { at, name: "it", image: "it", level: 4, limits, grants: Grants::default() };
    let (mut lines, mut end) = (Vec::new(), None);
    let mut see = |event: Event<'_>| match event {
        Event::Log { level, text, .. } => lines.push(format!("{level:?} {text}")),
        Event::Exited { reason, .. } => end = Some(reason.to_string()),
        _ => {}
    };
    for command in said.commands().chain([Command::Start { at }]) {
        kernel.command(command, &mut see).unwrap();
    }
    for _ in 0..50 {
        kernel.step(&mut see).unwrap();
    }
    (lines, end)
}

const STREAMS: &str = r#"
(import "wasi:io/error@0.2.6" (instance $io-error (export "error" (type (sub resource)))))
(alias export $io-error "error" (type $io-err))
(import "wasi:io/streams@0.2.6" (instance $streams
  (export "output-stream" (type $os (sub resource)))
  (alias outer 1 $io-err (type $e'))
  (export "error" (type $e (eq $e')))
  (type $stream-error' (variant (case "last-operation-failed" (own $e)) (case "closed")))
  (export "stream-error" (type $stream-error (eq $stream-error')))
  (export "[method]output-stream.blocking-write-and-flush" (func (param "self" (borrow $os))
    (param "contents" (list u8)) (result (result (error $stream-error)))))))
(alias export $streams "output-stream" (type $output-stream))
(import "wasi:cli/stdout@0.2.6" (instance $stdout
  (alias outer 1 $output-stream (type $os'))
  (export "output-stream" (type $os (eq $os')))
  (export "get-stdout" (func (result (own $os))))))
(import "wasi:cli/stderr@0.2.0" (instance $stderr
  (alias outer 1 $output-stream (type $os'))
  (export "output-stream" (type $os (eq $os')))
  (export "get-stderr" (func (result (own $os))))))
"#;

const PRINTS: [Used; 3] = [
    (
        "streams",
        "[method]output-stream.blocking-write-and-flush",
        "print",
        "(param i32 i32 i32 i32)",
    ),
    ("stdout", "get-stdout", "out", "(result i32)"),
    ("stderr", "get-stderr", "err", "(result i32)"),
];

/// No grant is needed to be heard.
#[test]
fn what_is_printed_are_lines_of_the_log() {
    let print = |stream: &str| {
        format!("(call $print (call ${stream}) (i32.const 1024) (i32.const 5) (i32.const 512))")
    };
    let newline = "(i32.store8 (i32.const 1028) (i32.const 10))";
    let init = format!("{}{}{newline}{}{}", print("out"), print("err"), print("out"), print("out"));
    let (lines, end) = run(&daemon(STREAMS, &PRINTS, &init));
    assert_eq!(lines, ["Info hellohell", "Info hell", "Error hello"]);
    assert_eq!(end, None);
}

/// A trap says where it was, in which function, and what was said before it.
#[test]
fn a_trap_says_what_was_printed_and_where() {
    let init =
        "(call $print (call $err) (i32.const 1024) (i32.const 5) (i32.const 512)) (unreachable)";
    let (lines, end) = run(&daemon(STREAMS, &PRINTS, init));
    assert_eq!(lines, ["Error hello"]);
    let end = end.unwrap();
    assert!(end.starts_with("init: wasm trap: wasm `unreachable`"), "{end}");
    assert!(end.contains("; it said: hello; in "), "{end}");
}

const CLOCKS: &str = r#"
(import "wasi:io/poll@0.2.3" (instance $poll
  (export "pollable" (type $p (sub resource)))
  (export "[method]pollable.ready" (func (param "self" (borrow $p)) (result bool)))
  (export "[method]pollable.block" (func (param "self" (borrow $p))))
  (export "poll" (func (param "in" (list (borrow $p))) (result (list u32))))))
(alias export $poll "pollable" (type $pollable))
(import "wasi:clocks/monotonic-clock@0.2.3" (instance $clock
  (alias outer 1 $pollable (type $p'))
  (export "pollable" (type $p (eq $p')))
  (export "now" (func (result u64)))
  (export "subscribe-instant" (func (param "when" u64) (result (own $p))))
  (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
(import "wasi:clocks/wall-clock@0.2.3" (instance $wall
  (type $d' (record (field "seconds" u64) (field "nanoseconds" u32)))
  (export "datetime" (type $d (eq $d')))
  (export "now" (func (result $d)))))
(import "wasi:random/random@0.2.3" (instance $random
  (export "get-random-u64" (func (result u64)))
  (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
(import "wasi:cli/exit@0.2.3" (instance $exit (export "exit" (func (param "status" (result))))))
(import "wasi:sockets/network@0.2.3" (instance $network (export "network" (type (sub resource)))))
(alias export $network "network" (type $net))
(import "wasi:sockets/instance-network@0.2.3" (instance $instance-network
  (alias outer 1 $net (type $n'))
  (export "network" (type $n (eq $n')))
  (export "instance-network" (func (result (own $n))))))
"#;

/// All of it is linked, whatever is called of it.
#[test]
fn each_function_is_served_or_traps_by_name() {
    let used: [Used; 10] = [
        ("poll", "[method]pollable.ready", "ready", "(param i32) (result i32)"),
        ("poll", "[method]pollable.block", "block", "(param i32)"),
        ("poll", "poll", "poll", "(param i32 i32 i32)"),
        ("clock", "now", "now", "(result i64)"),
        ("clock", "subscribe-instant", "at", "(param i64) (result i32)"),
        ("clock", "subscribe-duration", "after", "(param i64) (result i32)"),
        ("wall", "now", "wall", "(param i32)"),
        ("random", "get-random-u64", "random", "(result i64)"),
        ("random", "get-random-bytes", "bytes", "(param i64 i32)"),
        ("instance-network", "instance-network", "network", "(result i32)"),
    ];
    let exit: Used = ("exit", "exit", "exit", "(param i32)");
    let used: Vec<Used> = used.into_iter().chain([exit]).collect();
    let unless = |holds: &str| format!("(if (i32.eqz {holds}) (then (unreachable)))");
    let cases: [(String, Option<&str>); 11] = [
        (unless("(i64.eq (call $now) (i64.const 1))"), None),
        (unless("(i64.eq (call $random) (i64.const 0x0707070707070707))"), None),
        (
            format!(
                "(call $wall (i32.const 2048)) {} {}",
                unless("(i64.eq (i64.load (i32.const 2048)) (i64.const 5))"),
                unless("(i32.eq (i32.load (i32.const 2056)) (i32.const 7))"),
            ),
            None,
        ),
        // What is ready can be waited for.
        (unless("(call $ready (call $at (i64.const 1)))"), None),
        ("(call $block (call $at (i64.const 0)))".into(), None),
        (unless("(i32.eqz (call $ready (call $after (i64.const 1))))"), None),
        (
            "(call $block (call $after (i64.const 5000000)))".into(),
            Some("wasi:io/poll#pollable.block: it would wait for 5 ms"),
        ),
        (
            "(i32.store (i32.const 2048) (call $after (i64.const 7000000)))
             (call $poll (i32.const 2048) (i32.const 1) (i32.const 2056))"
                .into(),
            Some(
                "wasi:io/poll#poll: it would wait for 7 ms, and a daemon waits between slices alone",
            ),
        ),
        (
            "(call $bytes (i64.const 65537) (i32.const 2048))".into(),
            Some("65537 random bytes at once, and a daemon gets at most 65536"),
        ),
        ("(call $exit (i32.const 1))".into(), Some("it called exit with code 1")),
        (
            "(drop (call $network))".into(),
            Some("wasi:sockets/instance-network#instance-network: a daemon does not have this"),
        ),
    ];
    for (init, words) in cases {
        let (lines, end) = run(&daemon(CLOCKS, &used, &init));
        match (words, end) {
            (None, None) => {}
            (Some(words), Some(end)) => assert!(end.contains(words), "{init}: {end}"),
            (words, end) => panic!("{init}: {words:?}, but {end:?}"),
        }
        assert_eq!(lines, [] as [&str; 0], "{init}");
    }
}

/// A handle that was never given, and pollables without end.
#[test]
fn what_lies_is_trapped() {
    let used: [Used; 2] = [
        ("poll", "[method]pollable.ready", "ready", "(param i32) (result i32)"),
        ("clock", "subscribe-instant", "at", "(param i64) (result i32)"),
    ];
    for (init, words) in [
        ("(drop (call $ready (i32.const 77)))", "unknown handle"),
        ("(loop (drop (call $at (i64.const 0))) (br 0))", "a daemon holds at most 4096 pollables"),
    ] {
        let (_, end) = run(&daemon(CLOCKS, &used, init));
        assert!(end.as_ref().is_some_and(|end| end.contains(words)), "{init}: {end:?}");
    }
}
