//! `wasi:cli/environment`, `exit` and terminals.

use alloc::{
    string::{String, ToString},
    vec,
    vec::Vec,
};

use wasmtime::component::{LinkerInstance, Resource};

use super::{super::Data, Function, Interface, resources::Terminal};

pub(super) const INTERFACES: &[Interface] = &[
    Interface {
        name: "wasi:cli/environment",
        functions: &[
            Function {
                name: "get-environment",
                define: |instance, name| {
                    instance.func_wrap(name, |_, (): ()| Ok((Vec::<(String, String)>::new(),)))
                },
            },
            Function {
                name: "get-arguments",
                define: |instance, name| {
                    instance.func_wrap(name, |store, (): ()| {
                        Ok((vec![store.data().context.name().to_string()],))
                    })
                },
            },
            Function {
                name: "initial-cwd",
                define: |instance, name| {
                    instance.func_wrap(name, |_, (): ()| Ok((None::<String>,)))
                },
            },
        ],
    },
    Interface {
        name: "wasi:cli/exit",
        functions: &[
            Function {
                name: "exit",
                define: |instance, name| {
                    instance.func_wrap(
                        name,
                        |_, (status,): (Result<(), ()>,)| -> wasmtime::Result<()> {
                            Err(wasmtime::Error::new(Exited(u8::from(status.is_err()))))
                        },
                    )
                },
            },
            Function {
                name: "exit-with-code",
                define: |instance, name| {
                    instance.func_wrap(name, |_, (code,): (u8,)| -> wasmtime::Result<()> {
                        Err(wasmtime::Error::new(Exited(code)))
                    })
                },
            },
        ],
    },
    Interface {
        name: "wasi:cli/terminal-stdin",
        functions: &[Function { name: "get-terminal-stdin", define: no_terminal }],
    },
    Interface {
        name: "wasi:cli/terminal-stdout",
        functions: &[Function { name: "get-terminal-stdout", define: no_terminal }],
    },
    Interface {
        name: "wasi:cli/terminal-stderr",
        functions: &[Function { name: "get-terminal-stderr", define: no_terminal }],
    },
];

fn no_terminal(instance: &mut LinkerInstance<'_, Data>, name: &str) -> wasmtime::Result<()> {
    instance.func_wrap(name, |_, (): ()| Ok((None::<Resource<Terminal>>,)))
}

/// It ended its process, as it believes. A daemon ends by what `run` and `shutdown` return; this is a failure of
/// its slice, whatever the code.
#[derive(Debug)]
struct Exited(u8);

impl core::fmt::Display for Exited {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            formatter,
            "it called exit with code {}: a daemon ends by returning `next.exit` from `run`",
            self.0
        )
    }
}

impl core::error::Error for Exited {}
