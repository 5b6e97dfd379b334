//! What a C compiler lacks to make a component, from crates of the registry:
//!
//! - `bindings WIT OUT`: the C bindings of the world `daemon` of the file `WIT`, into the folder `OUT`, and the
//!   BLAKE3 hash of `WIT` beside them, by which it is seen when they are those of another contract;
//! - `component CORE OUT`: the component `OUT` from the core module `CORE`.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

use wasi_preview1_component_adapter_provider as adapter;
use wit_bindgen_core::{Files, wit_parser::Resolve};
use wit_component::ComponentEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bindings", wit, out] => bindings(wit.as_ref(), out.as_ref()),
        ["component", core, out] => component(core.as_ref(), out.as_ref()),
        _ => Err("usage: bindings WIT OUT | component CORE OUT".into()),
    }
}

fn bindings(wit: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some("daemon"))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    fs::create_dir_all(out)?;
    for (name, content) in files.iter() {
        fs::write(out.join(name), content)?;
    }
    let name = wit.file_name().ok_or("the WIT has no name")?.to_string_lossy();
    let hash = blake3::hash(&fs::read(wit)?).to_hex();
    fs::write(out.join(format!("{name}.b3")), format!("{hash}\n"))?;
    Ok(())
}

fn component(core: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&fs::read(core)?)?
        .adapter(
            adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            adapter::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        )?
        .encode()?;
    fs::write(out, component)?;
    Ok(())
}
