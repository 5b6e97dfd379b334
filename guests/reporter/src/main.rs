//! `reporter` as a native process.

use std::process::ExitCode;

#[cfg(not(target_arch = "wasm32"))]
fn main() -> ExitCode {
    duende_sdk::native::run::<duende_sdk::Running<reporter::Reporter>>()
}

/// On WebAssembly the library is the program.
#[cfg(target_arch = "wasm32")]
fn main() -> ExitCode {
    ExitCode::FAILURE
}
