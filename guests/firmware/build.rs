//! Hands the memory layout to the linker, for the image only.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=memory.x");
    if env::var_os("CARGO_FEATURE_BOARD").is_none() {
        return Ok(());
    }
    let out = env::var_os("OUT_DIR").unwrap_or_default();
    fs::copy("memory.x", Path::new(&out).join("memory.x"))?;
    println!("cargo::rustc-link-search={}", Path::new(&out).display());
    // cortex-m-rt's script, which includes ours.
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    // Sections need not begin at a page: there are none.
    println!("cargo::rustc-link-arg-bins=--nmagic");
    Ok(())
}
