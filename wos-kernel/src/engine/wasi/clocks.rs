//! `wasi:clocks`: the contract's clocks. The monotonic one stands while the daemon is paused.

use wasmtime::component::{ComponentType, Lower};

use super::{Function, Interface, resources::Readiness};

#[derive(ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

pub(super) const INTERFACES: &[Interface] = &[
    Interface {
        name: "wasi:clocks/monotonic-clock",
        functions: &[
            Function {
                name: "now",
                define: |instance, name| {
                    instance.func_wrap(name, |store, (): ()| {
                        Ok((store.data().context.clock_monotonic(),))
                    })
                },
            },
            Function {
                name: "resolution",
                define: |instance, name| instance.func_wrap(name, |_, (): ()| Ok((1_u64,))),
            },
            Function {
                name: "subscribe-instant",
                define: |instance, name| {
                    instance.func_wrap(name, |mut store, (at_ns,): (u64,)| {
                        Ok((store.data_mut().wasi.pollable(Readiness::At(at_ns))?,))
                    })
                },
            },
            Function {
                name: "subscribe-duration",
                define: |instance, name| {
                    instance.func_wrap(name, |mut store, (time_ns,): (u64,)| {
                        let now_ns = store.data().context.clock_monotonic();
                        let ready = Readiness::At(now_ns.saturating_add(time_ns));
                        Ok((store.data_mut().wasi.pollable(ready)?,))
                    })
                },
            },
        ],
    },
    Interface {
        name: "wasi:clocks/wall-clock",
        functions: &[
            Function {
                name: "now",
                define: |instance, name| {
                    instance.func_wrap(name, |store, (): ()| {
                        let (seconds, nanoseconds) = store.data().context.clock_datetime();
                        // Before 1970 it has no word for the time.
                        let seconds = u64::try_from(seconds).unwrap_or(0);
                        Ok((Datetime { seconds, nanoseconds },))
                    })
                },
            },
            Function {
                name: "resolution",
                define: |instance, name| {
                    instance
                        .func_wrap(name, |_, (): ()| Ok((Datetime { seconds: 0, nanoseconds: 1 },)))
                },
            },
        ],
    },
];
