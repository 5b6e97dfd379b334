//! `wasi:io`: two outputs that take everything at once, an input that has ended, and pollables that are ready or
//! trap.

use alloc::{string::ToString, vec::Vec};

use wasmtime::{
    StoreContextMut,
    component::{ComponentType, Lift, LinkerInstance, Lower, Resource},
};

use super::{
    super::Data,
    Function, Interface, WouldWait,
    resources::{InputStream, IoError, OutputStream, Pollable, Readiness, Stream},
};

/// What an output takes at once, in bytes.
const WRITE_BYTES_MAX: u64 = 65_536;

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

type Written = (Result<(), StreamError>,);

pub(super) const INTERFACES: &[Interface] = &[
    Interface {
        name: "wasi:io/error",
        functions: &[Function {
            name: "[method]error.to-debug-string",
            define: |instance, name| {
                instance.func_wrap(name, |_, (_,): (Resource<IoError>,)| {
                    Ok(("an error of a stream".to_string(),))
                })
            },
        }],
    },
    Interface {
        name: "wasi:io/poll",
        functions: &[
            Function {
                name: "[method]pollable.ready",
                define: |instance, name| {
                    instance.func_wrap(name, |store, (pollable,): (Resource<Pollable>,)| {
                        Ok((time_left(&store, &pollable) == 0,))
                    })
                },
            },
            Function {
                name: "[method]pollable.block",
                define: |instance, name| {
                    instance.func_wrap(name, |store, (pollable,): (Resource<Pollable>,)| {
                        match time_left(&store, &pollable) {
                            0 => Ok(()),
                            left => would_wait("wasi:io/poll#pollable.block", Some(left)),
                        }
                    })
                },
            },
            Function { name: "poll", define: poll },
        ],
    },
    Interface {
        name: "wasi:io/streams",
        functions: &[
            Function { name: "[method]input-stream.read", define: read },
            Function { name: "[method]input-stream.blocking-read", define: read },
            Function { name: "[method]input-stream.skip", define: skip },
            Function { name: "[method]input-stream.blocking-skip", define: skip },
            Function {
                name: "[method]input-stream.subscribe",
                define: |instance, name| {
                    instance.func_wrap(name, |mut store, (_,): (Resource<InputStream>,)| {
                        Ok((store.data_mut().wasi.pollable(Readiness::Now)?,))
                    })
                },
            },
            Function {
                name: "[method]output-stream.subscribe",
                define: |instance, name| {
                    instance.func_wrap(name, |mut store, (_,): (Resource<OutputStream>,)| {
                        Ok((store.data_mut().wasi.pollable(Readiness::Now)?,))
                    })
                },
            },
            Function {
                name: "[method]output-stream.check-write",
                define: |instance, name| {
                    instance.func_wrap(name, |_, (_,): (Resource<OutputStream>,)| {
                        Ok((Ok::<u64, StreamError>(WRITE_BYTES_MAX),))
                    })
                },
            },
            Function { name: "[method]output-stream.write", define: write },
            Function { name: "[method]output-stream.blocking-write-and-flush", define: write },
            Function { name: "[method]output-stream.flush", define: flush },
            Function { name: "[method]output-stream.blocking-flush", define: flush },
        ],
    },
];

fn time_left(store: &StoreContextMut<'_, Data>, pollable: &Resource<Pollable>) -> u64 {
    let data = store.data();
    data.wasi.time_left(pollable, data.context.clock_monotonic())
}

fn would_wait<T>(function: &'static str, time_ns: Option<u64>) -> wasmtime::Result<T> {
    Err(wasmtime::Error::new(WouldWait { function, time_ns }))
}

/// Which of them are ready. None at all would be waited for.
fn poll(instance: &mut LinkerInstance<'_, Data>, name: &str) -> wasmtime::Result<()> {
    instance.func_wrap(name, |store, (pollables,): (Vec<Resource<Pollable>>,)| {
        let left: Vec<u64> = pollables.iter().map(|one| time_left(&store, one)).collect();
        let ready: Vec<u32> =
            (0_u32..).zip(&left).filter(|(_, left)| **left == 0).map(|(index, _)| index).collect();
        if ready.is_empty() {
            return would_wait("wasi:io/poll#poll", left.into_iter().min());
        }
        Ok((ready,))
    })
}

/// There is nothing to be read.
fn read(instance: &mut LinkerInstance<'_, Data>, name: &str) -> wasmtime::Result<()> {
    instance.func_wrap(name, |_, (_, _): (Resource<InputStream>, u64)| {
        Ok((Err::<Vec<u8>, _>(StreamError::Closed),))
    })
}

fn skip(instance: &mut LinkerInstance<'_, Data>, name: &str) -> wasmtime::Result<()> {
    instance.func_wrap(name, |_, (_, _): (Resource<InputStream>, u64)| {
        Ok((Err::<u64, _>(StreamError::Closed),))
    })
}

fn write(instance: &mut LinkerInstance<'_, Data>, name: &str) -> wasmtime::Result<()> {
    instance.func_wrap(
        name,
        |mut store: StoreContextMut<'_, Data>,
         (stream, bytes): (Resource<OutputStream>, Vec<u8>)| {
            let Data { context, wasi, .. } = store.data_mut();
            wasi.write(Stream::of(&stream), &bytes, context);
            let written: Written = (Ok(()),);
            Ok(written)
        },
    )
}

/// What was written is in the log, but for the beginning of a line.
fn flush(instance: &mut LinkerInstance<'_, Data>, name: &str) -> wasmtime::Result<()> {
    instance.func_wrap(name, |_, (_,): (Resource<OutputStream>,)| {
        let written: Written = (Ok(()),);
        Ok(written)
    })
}
