//! Why an image can't be used.

use std::{io, path::Path};

use crate::compile::{CompileError, Refusal};

/// Why an image can't be used. The file is named first.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It can't be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is over [`COMPONENT_BYTES_MAX`](super::component::COMPONENT_BYTES_MAX).
    #[error("{path}: it has {bytes} bytes, an image has at most {max}")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// It does not begin as WebAssembly does.
    #[error("{path}: not a WebAssembly file: it does not begin with \\0asm")]
    NotWebAssembly {
        /// The file.
        path: String,
    },
    /// It is a core module.
    #[error(
        "{path}: a core module, not a component; in Rust, .cargo/config.toml needs below \
         [target.wasm32-unknown-unknown] the line linker = \"wasm-component-ld\", as duende new writes it; of another \
         language's core module wasm-tools component new or jco new makes a component (docs/languages.md)"
    )]
    CoreModule {
        /// The file.
        path: String,
    },
    /// There is no machine code of it.
    #[error("{path}: {source}")]
    Compile {
        /// The file.
        path: String,
        /// Why.
        source: CompileError,
    },
    /// What was compiled can be kept nowhere.
    #[error("{path}: what was compiled of it can't be kept in {directory}: {source}")]
    Keep {
        /// The file.
        path: String,
        /// Where it was tried last.
        directory: String,
        /// Why.
        source: io::Error,
    },
    /// The engine can't be asked what it is called.
    #[error("the engine can't be asked: {0}")]
    Engine(String),
}

impl ImageError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.display().to_string(), source }
    }

    pub(super) fn refused(path: &Path, refusal: Refusal) -> Self {
        Self::Compile { path: path.display().to_string(), source: CompileError::Refused(refusal) }
    }

    /// Whether the same file may be an image another time: the machine is to blame, not the file.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Read { .. } | Self::Keep { .. } | Self::Engine(_) => true,
            Self::Compile { source, .. } => source.may_pass(),
            Self::TooLarge { .. } | Self::NotWebAssembly { .. } | Self::CoreModule { .. } => false,
        }
    }
}
