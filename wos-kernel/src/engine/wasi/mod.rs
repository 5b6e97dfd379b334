//! WASI 0.2, which toolchains link unasked.
//!
//! A daemon lives from the contract. What compiled it may bring a standard library that speaks WASI all the same:
//! to print a panic, to seed a hash table, to ask for the time. So a daemon of the contract may import any
//! interface of WASI 0.2, of any patch version:
//!
//! | interface | what it is here | file |
//! |---|---|---|
//! | `wasi:cli/stdout`, `stderr`, `stdin` | lines of the daemon's log; no input | [`stdio`], [`io`] |
//! | `wasi:cli/environment`, `exit`, `terminal-*` | no variables, its name as the one argument; the end of the slice; no terminal | [`process`] |
//! | `wasi:clocks/*` | the contract's `clock`, pauses included | [`clocks`] |
//! | `wasi:random/*` | the contract's `entropy` | [`random`] |
//! | `wasi:io/poll` | what is ready at once, and timers that have fired | [`io`] |
//! | `wasi:filesystem/preopens` | there are none | [`filesystem`] |
//!
//! All other functions are there, and trap when they are called, by name: what a daemon does not use keeps it from
//! nothing. So does what would wait: a daemon waits between slices, as it has no stack then.
//!
//! A further interface is a file with its [`Interface`]s, and its row in [`INTERFACES`].

mod clocks;
mod filesystem;
mod io;
mod lines;
mod process;
mod random;
mod resources;
mod stdio;

use alloc::{
    format,
    string::{String, ToString},
};

use wasmtime::component::{Component, Linker, LinkerInstance, types::ComponentItem};

pub(super) use self::resources::Wasi;
use super::Data;

/// All interfaces that are served, by file.
const INTERFACES: [&[Interface]; 6] = [
    stdio::INTERFACES,
    process::INTERFACES,
    clocks::INTERFACES,
    random::INTERFACES,
    io::INTERFACES,
    filesystem::INTERFACES,
];

/// One interface.
struct Interface {
    /// With its package, without a version.
    name: &'static str,
    functions: &'static [Function],
}

/// One function of an interface.
struct Function {
    /// As the component's type has it: of a method, `[method]resource.name`.
    name: &'static str,
    define: fn(&mut LinkerInstance<'_, Data>, &str) -> wasmtime::Result<()>,
}

/// `wasi:io/streams` of `wasi:io/streams@0.2.6`; none: it is nothing of WASI 0.2.
pub(super) fn interface(import: &str) -> Option<&str> {
    let (name, version) = import.split_once('@')?;
    let patch = version.strip_prefix("0.2.")?;
    let is_release = !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit());
    (name.starts_with("wasi:") && is_release).then_some(name)
}

/// A linker that has what this component imports of WASI, beside what it had.
///
/// # Errors
/// The component's imports contradict themselves.
pub(super) fn serve(
    linker: &Linker<Data>,
    component: &Component,
) -> wasmtime::Result<Linker<Data>> {
    let mut linker = linker.clone();
    let engine = linker.engine().clone();
    for (import, item) in component.component_type().imports(&engine) {
        let (Some(name), ComponentItem::ComponentInstance(ty)) = (interface(import), item.ty)
        else {
            continue;
        };
        let served = INTERFACES.iter().copied().flatten().find(|served| served.name == name);
        let mut instance = linker.instance(import)?;
        for (item, found) in ty.exports(&engine) {
            match found.ty {
                ComponentItem::Resource(_) => resources::define(&mut instance, item)?,
                ComponentItem::ComponentFunc(_) => {
                    let function = served.and_then(|served| {
                        served.functions.iter().find(|served| served.name == item)
                    });
                    match function {
                        Some(function) => (function.define)(&mut instance, item)?,
                        None => refuse(&mut instance, item, name)?,
                    }
                }
                _ => {}
            }
        }
    }
    Ok(linker)
}

/// Defines a function that traps by name.
fn refuse(
    instance: &mut LinkerInstance<'_, Data>,
    function: &str,
    interface: &str,
) -> wasmtime::Result<()> {
    let refusal = NotServed { interface: interface.to_string(), function: plain(function) };
    instance.func_new(function, move |_, _, _, _| Err(wasmtime::Error::new(refusal.clone())))
}

/// `resource.method` of `[method]resource.method`.
fn plain(function: &str) -> String {
    function.split_once(']').map_or(function, |(_, name)| name).to_string()
}

/// Something of WASI was called that a daemon does not have.
#[derive(Clone, Debug)]
struct NotServed {
    interface: String,
    function: String,
}

impl core::fmt::Display for NotServed {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { interface, function } = self;
        write!(
            formatter,
            "{interface}#{function}: a daemon does not have this; the contract has state, channels and \
             configuration in the place of files, sockets and variables"
        )
    }
}

impl core::error::Error for NotServed {}

/// Something was called that would wait.
#[derive(Clone, Debug)]
struct WouldWait {
    function: &'static str,
    /// For how long, as far as that is known.
    time_ns: Option<u64>,
}

impl core::fmt::Display for WouldWait {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let how_long = self.time_ns.map(|time| format!(" for {} ms", time.div_ceil(1_000_000)));
        write!(
            formatter,
            "{}: it would wait{}, and a daemon waits between slices alone: return `next.until` from `run`",
            self.function,
            how_long.unwrap_or_default()
        )
    }
}

impl core::error::Error for WouldWait {}

#[cfg(all(test, feature = "pretend"))]
mod tests;
