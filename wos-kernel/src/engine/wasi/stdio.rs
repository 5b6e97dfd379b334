//! `wasi:cli/stdin`, `stdout` and `stderr`: there is no input, and what is printed are lines of the log.

use wasmtime::component::Resource;

use super::{
    Function, Interface,
    resources::{InputStream, Stream},
};

pub(super) const INTERFACES: &[Interface] = &[
    Interface {
        name: "wasi:cli/stdin",
        functions: &[Function {
            name: "get-stdin",
            define: |instance, name| {
                instance.func_wrap(name, |_, (): ()| Ok((Resource::<InputStream>::new_own(0),)))
            },
        }],
    },
    Interface {
        name: "wasi:cli/stdout",
        functions: &[Function {
            name: "get-stdout",
            define: |instance, name| {
                instance.func_wrap(name, |_, (): ()| Ok((Stream::Out.resource(),)))
            },
        }],
    },
    Interface {
        name: "wasi:cli/stderr",
        functions: &[Function {
            name: "get-stderr",
            define: |instance, name| {
                instance.func_wrap(name, |_, (): ()| Ok((Stream::Err.resource(),)))
            },
        }],
    },
];
