//! The same trace has the same effects natively, as wasm32 under wasmtime, and on a Cortex-M4 under QEMU.

#![allow(clippy::unwrap_used, reason = "a test: its helpers fail it too")]

use std::path::Path;
use std::sync::LazyLock;

use duende_replay::{CHECKPOINT_STEPS, Checkpoint, Replay};
use duende_sim::run::run;
use duende_tests::emulator::{emulate, image};
use duende_world::{RECORD_BYTES_MAX, write_step};
use wasmtime::{Engine, Instance, Module, Store, TypedFunc};

/// The run that is recorded.
const SEED: u64 = 3;
const STEPS: u64 = 120_000;

/// A run of the simulator: a record for each step.
static RECORDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut records = Vec::new();
    let outcome = run(SEED, STEPS, &mut |step| {
        let mut record = [0; RECORD_BYTES_MAX];
        let bytes = write_step(step, &mut record).unwrap();
        records.push(record[..bytes].to_vec());
    });
    assert!(outcome.failed.is_none(), "the run itself fails: {:?}", outcome.failed);
    assert!(records.len() >= 100_000, "{} steps", records.len());
    records
});

/// Replays by the code that this test is compiled with. Checkpoints, the last one at the end.
fn natively(trace: &[u8]) -> Vec<Checkpoint> {
    let (mut replay, mut reached) = (Replay::new().unwrap(), Vec::new());
    let mut rest = trace;
    while !rest.is_empty() {
        let spare = replay.spare();
        let bytes = spare.len().min(rest.len());
        spare[..bytes].copy_from_slice(&rest[..bytes]);
        rest = &rest[bytes..];
        replay.filled(bytes, |checkpoint| reached.push(checkpoint)).unwrap();
    }
    reached.push(replay.finish().unwrap());
    reached
}

/// Replays by wasm32 code, in the engine that WOS runs on.
fn under_wasmtime(trace: &[u8]) -> Vec<Checkpoint> {
    let artifacts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../artifacts");
    let file = artifacts.join("replay.wasm");
    assert!(file.is_file(), "{} is not built: run `cargo xtask firmware`", file.display());
    let engine = Engine::default();
    let module = Module::from_file(&engine, file).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let memory = instance.get_memory(&mut store, "memory").unwrap();

    let place = |store: &mut Store<()>, name| -> TypedFunc<(), u32> {
        instance.get_typed_func(store, name).unwrap()
    };
    let number = |store: &mut Store<()>, name| -> TypedFunc<(), u64> {
        instance.get_typed_func(store, name).unwrap()
    };
    let (spare, spare_bytes) = (place(&mut store, "spare"), place(&mut store, "spare_bytes"));
    let filled: TypedFunc<u32, ()> = instance.get_typed_func(&mut store, "filled").unwrap();
    let finish: TypedFunc<(), ()> = instance.get_typed_func(&mut store, "finish").unwrap();
    let steps = number(&mut store, "checkpoint_steps");
    let hash = number(&mut store, "checkpoint_hash");

    let mut reached: Vec<Checkpoint> = Vec::new();
    let mut rest = trace;
    while !rest.is_empty() {
        let at = usize::try_from(spare.call(&mut store, ()).unwrap()).unwrap();
        let room = usize::try_from(spare_bytes.call(&mut store, ()).unwrap()).unwrap();
        let (piece, after) = rest.split_at(room.min(rest.len()));
        memory.write(&mut store, at, piece).unwrap();
        filled.call(&mut store, u32::try_from(piece.len()).unwrap()).unwrap();
        rest = after;
        let steps = steps.call(&mut store, ()).unwrap();
        if steps > reached.last().map_or(0, |last| last.steps) {
            reached.push(Checkpoint { steps, hash: hash.call(&mut store, ()).unwrap() });
        }
    }
    finish.call(&mut store, ()).unwrap();
    let steps = steps.call(&mut store, ()).unwrap();
    reached.push(Checkpoint { steps, hash: hash.call(&mut store, ()).unwrap() });
    reached
}

/// Replays on an emulated board that reads the trace from its host.
fn on_metal(trace: &[u8]) -> Vec<Checkpoint> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("trace"), trace).unwrap();
    let ran = emulate(&image("replay"), folder.path(), "");
    assert!(ran.success, "{ran:#?}");
    let reached = ran.lines.iter().map(|line| {
        let (steps, hash) = line.trim_start_matches("end ").split_once(' ').unwrap();
        Checkpoint { steps: steps.parse().unwrap(), hash: u64::from_str_radix(hash, 16).unwrap() }
    });
    reached.collect()
}

/// The steps between which two replays began to differ: one checkpoint, and the next.
fn first_difference(one: &[Checkpoint], other: &[Checkpoint]) -> Option<(u64, u64)> {
    let mut same = 0;
    for index in 0..one.len().max(other.len()) {
        let (one, other) = (one.get(index), other.get(index));
        if one != other {
            return Some((same, one.or(other).map_or(same, |checkpoint| checkpoint.steps)));
        }
        same = one.map_or(same, |checkpoint| checkpoint.steps);
    }
    None
}

#[test]
fn the_same_trace_has_the_same_effects_on_three_targets() {
    let trace = RECORDS.concat();
    let native = natively(&trace);
    let end = native.last().unwrap();
    println!("{} steps in {} bytes, effect hash {:016x}", end.steps, trace.len(), end.hash);
    assert_eq!(u64::try_from(native.len()).unwrap(), end.steps / CHECKPOINT_STEPS + 1);
    for (target, reached) in [("wasm32", under_wasmtime(&trace)), ("thumbv7em", on_metal(&trace))] {
        let difference = first_difference(&native, &reached);
        assert_eq!(
            difference, None,
            "{target} differs from native between these steps; what `cargo xtask firmware` built must be \
             of the same source"
        );
    }
}

/// What the comparison is worth: one step of all that has no effect on one target is noticed, and where.
#[test]
fn one_step_that_one_target_leaves_out_is_noticed() {
    let native = natively(&RECORDS.concat());
    let mut records = RECORDS.clone();
    records.remove(54_321);
    let trace = records.concat();
    for (target, reached) in [("wasm32", under_wasmtime(&trace)), ("thumbv7em", on_metal(&trace))] {
        let difference = first_difference(&native, &reached);
        assert_eq!(difference, Some((50_000, 60_000)), "{target}");
    }
}
