//! What WASI's resources are here: markers for their types, and the little that a daemon holds of them.

use alloc::{collections::BTreeMap, string::String};

use wasmtime::component::{LinkerInstance, Resource, ResourceType};

use super::{super::Data, lines::Lines};
use crate::context::Context;

/// Most pollables that a daemon holds. One that makes more lost the others.
const POLLABLES_MAX: usize = 4_096;

/// `wasi:io/poll`'s.
pub(super) struct Pollable;
/// `wasi:io/streams`'s: there is one, and nothing comes from it.
pub(super) struct InputStream;
/// `wasi:io/streams`'s: its number is a [`Stream`].
pub(super) struct OutputStream;
/// `wasi:io/error`'s: no function here makes one.
pub(super) struct IoError;
/// `wasi:cli/terminal-input`'s and `terminal-output`'s: no function here makes one.
pub(super) struct Terminal;

/// Which of its outputs it writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

impl Stream {
    pub(super) fn resource(self) -> Resource<OutputStream> {
        Resource::new_own(match self {
            Self::Out => 1,
            Self::Err => 2,
        })
    }

    pub(super) fn of(resource: &Resource<OutputStream>) -> Self {
        if resource.rep() == 2 { Self::Err } else { Self::Out }
    }
}

/// When a pollable is ready.
#[derive(Clone, Copy, Debug)]
pub(super) enum Readiness {
    /// It is.
    Now,
    /// At this instant of the contract's clock, in nanoseconds.
    At(u64),
}

/// What a daemon holds of WASI.
#[derive(Default)]
pub(in super::super) struct Wasi {
    out: Lines,
    err: Lines,
    pollables: BTreeMap<u32, Readiness>,
    next_pollable: u32,
}

impl Wasi {
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8], context: &mut Context) {
        match stream {
            Stream::Out => self.out.write(bytes, |line| context.printed(false, line)),
            Stream::Err => self.err.write(bytes, |line| context.printed(true, line)),
        }
    }

    /// The slice is over: what was begun is a line. Gives what was said last on the standard error output.
    pub(in super::super) fn end_slice(&mut self, context: &mut Context) -> Option<String> {
        self.out.end(|line| context.printed(false, line));
        self.err.end(|line| context.printed(true, line));
        self.out.take_last();
        self.err.take_last()
    }

    /// A pollable; none if there are too many.
    pub(super) fn pollable(
        &mut self,
        readiness: Readiness,
    ) -> wasmtime::Result<Resource<Pollable>> {
        if self.pollables.len() >= POLLABLES_MAX {
            wasmtime::bail!(
                "a daemon holds at most {POLLABLES_MAX} pollables: drop those that are not needed"
            );
        }
        while self.pollables.contains_key(&self.next_pollable) {
            self.next_pollable = self.next_pollable.wrapping_add(1);
        }
        let number = self.next_pollable;
        self.pollables.insert(number, readiness);
        self.next_pollable = number.wrapping_add(1);
        Ok(Resource::new_own(number))
    }

    /// For how long it is not ready yet, in nanoseconds; 0: it is.
    pub(super) fn time_left(&self, pollable: &Resource<Pollable>, now_ns: u64) -> u64 {
        match self.pollables.get(&pollable.rep()) {
            Some(Readiness::At(at_ns)) => at_ns.saturating_sub(now_ns),
            Some(Readiness::Now) | None => 0,
        }
    }
}

/// Defines a resource, wherever an interface names it. One that is not served has no value: what would make one
/// traps.
pub(super) fn define(instance: &mut LinkerInstance<'_, Data>, name: &str) -> wasmtime::Result<()> {
    let ty = match name {
        "pollable" => {
            let ty = ResourceType::host::<Pollable>();
            return instance.resource(name, ty, |mut store, number| {
                store.data_mut().wasi.pollables.remove(&number);
                Ok(())
            });
        }
        "input-stream" => ResourceType::host::<InputStream>(),
        "output-stream" => ResourceType::host::<OutputStream>(),
        "error" => ResourceType::host::<IoError>(),
        "terminal-input" | "terminal-output" => ResourceType::host::<Terminal>(),
        _ => ResourceType::host::<()>(),
    };
    instance.resource(name, ty, |_, _| Ok(()))
}
