//! `wasi:random`: the contract's `entropy`, which is fit for keys; what need not be secure is it, too.

use alloc::vec::Vec;

use wasmtime::component::LinkerInstance;

use super::{super::Data, Function, Interface};
use crate::limits::ENTROPY_BYTES_MAX;

pub(super) const INTERFACES: &[Interface] = &[
    Interface {
        name: "wasi:random/random",
        functions: &[
            Function { name: "get-random-bytes", define: bytes },
            Function { name: "get-random-u64", define: number },
        ],
    },
    Interface {
        name: "wasi:random/insecure",
        functions: &[
            Function { name: "get-insecure-random-bytes", define: bytes },
            Function { name: "get-insecure-random-u64", define: number },
        ],
    },
    Interface {
        name: "wasi:random/insecure-seed",
        functions: &[Function { name: "insecure-seed", define: seed }],
    },
];

fn bytes(instance: &mut LinkerInstance<'_, Data>, name: &str) -> wasmtime::Result<()> {
    instance.func_wrap(name, |store, (length,): (u64,)| {
        let wanted = u32::try_from(length).unwrap_or(u32::MAX);
        let bytes: Result<Vec<u8>, _> = store.data().context.entropy(wanted);
        match bytes {
            Ok(bytes) => Ok((bytes,)),
            Err(_) => wasmtime::bail!(
                "{length} random bytes at once, and a daemon gets at most {ENTROPY_BYTES_MAX}: ask more often"
            ),
        }
    })
}

fn number(instance: &mut LinkerInstance<'_, Data>, name: &str) -> wasmtime::Result<()> {
    instance.func_wrap(name, |store, (): ()| Ok((store.data().context.entropy_number(),)))
}

fn seed(instance: &mut LinkerInstance<'_, Data>, name: &str) -> wasmtime::Result<()> {
    instance.func_wrap(name, |store, (): ()| {
        let context = &store.data().context;
        Ok(((context.entropy_number(), context.entropy_number()),))
    })
}
