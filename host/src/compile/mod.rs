//! Components meet the compiler in a process of its own: `duende compile-worker`.
//!
//! The validator and Cranelift make no promise about what a component may cost them: 358 KB of nested
//! components took 14.7 GB, and 4 KB of instance types panicked. So the file goes to a process that has
//! nothing to lose: limits of its address space, its processor time and what it writes, which it sets itself
//! before it reads a byte; no right to open a file or a socket ([`crate::confine`]); and as long as its
//! asker lets it live. Whatever becomes of it, a panic, a crash, a limit, the system's OOM killer, is one
//! image that can't be used, with the reason
//! (`tests/tests/components.rs::what_the_compiler_cannot_bear_is_one_refused_image`).
//!
//! What crosses: the component as a sealed file in memory (standard input), the verdict and the machine code
//! as another (standard output), its last words as a third (standard error). Nobody waits for a pipe.
//!
//! In that process, in this order, each step cheaper than the next: [`survey`] parses, and holds what it
//! finds against our own limits and the contract's names; [`skeleton`] compiles the component without its
//! code, so that its types can be held against the contract in milliseconds; then it is compiled.

mod apart;
mod limits;
mod process;
mod skeleton;
mod survey;

use serde::{Deserialize, Serialize};

pub(crate) use self::process::ENGINE_ARGUMENT;
pub use self::{
    apart::{CompileError, Compiler, Running},
    limits::CompileLimits,
    process::{CompileProcessError, main},
    survey::Survey,
};

/// Why a component can't be used, whatever the machine does. In words: what, the number, the limit and the
/// way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// It is no well-formed component.
    Invalid(String),
    /// It is one, and has more of something than we take.
    TooMuch(String),
    /// It uses a feature of WebAssembly that is off here.
    Feature(String),
    /// It is no daemon of the contract.
    Contract(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(reason) => {
                write!(
                    formatter,
                    "not a valid component: {reason}; if it was copied, copy it again"
                )
            }
            Self::TooMuch(reason) | Self::Contract(reason) => formatter.write_str(reason),
            Self::Feature(reason) => write!(
                formatter,
                "it uses a feature of WebAssembly that is off here: {reason}; build it without"
            ),
        }
    }
}

/// What the process says, in front of the machine code.
#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    /// The machine code follows.
    Compiled(Survey),
    Refused(Refusal),
}
