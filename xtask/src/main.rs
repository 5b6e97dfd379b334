//! `cargo xtask VERB`: everything that is done with this repository beside `cargo build`.
//!
//! Each verb is a file of this crate and a row of [`VERBS`]. Verbs say what they do while they do
//! it, are quick when there is nothing to do, and leave the machine's settings alone.

use std::process::ExitCode;

mod bench;
mod debian;
mod demo;
mod deny;
mod falsify;
mod firmware;
mod fuzz;
mod guests;
mod languages;
mod mutants;
mod nightly;
mod setup;
mod shell;
mod sim;
mod steps;
mod test;
mod tools;
mod wasm;

use shell::Error;

/// A verb: its name, one line of help, and what it does with the arguments after its name.
type Verb = (&'static str, &'static str, fn(&[String]) -> Result<(), Error>);

const VERBS: &[Verb] = &[
    ("setup", "finds or fetches compilers and tools; nothing is installed", setup::run),
    (
        "guests",
        "build the daemons that are shipped as components, into artifacts/; --all: one in five languages too",
        guests::run,
    ),
    ("firmware", "the core on a Cortex-M4: builds the image and runs it in QEMU", firmware::run),
    (
        "demo",
        "a fleet at work: its daemons are killed, and no request is lost or counted twice",
        demo::run,
    ),
    ("test", "everything that must hold, or single steps of it; -v shows all output", test::run),
    (
        "nightly",
        "what is too slow for each change, or single steps: long fuzz, soaks, two builds, cargo-deny",
        nightly::run,
    ),
    (
        "sim",
        "the core's machines, whole `fleets`, or followed `sources`, through millions of faults, from a seed; --help says more",
        sim::run,
    ),
    (
        "falsify",
        "the specification's claims, tried: all, a category (A to E) or single ones (F014)",
        falsify::run,
    ),
    (
        "fuzz",
        "the parsers under a fuzzer: all or single ones, ten minutes each or --seconds N",
        fuzz::run,
    ),
    (
        "mutants",
        "changes that no test notices: all of the core, single modules of it, `manager/decide` or `keep`; hours",
        mutants::run,
    ),
    (
        "bench",
        "timings beside what they are measured against, as table and JSON; `bench core`: the core's",
        bench::run,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        print_help();
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print_help();
        return ExitCode::SUCCESS;
    }
    let Some((_, _, run)) = VERBS.iter().find(|(verb, _, _)| verb == name) else {
        eprintln!("xtask: there is no verb `{name}`");
        print_help();
        return ExitCode::from(2);
    };
    match run(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Reported) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_help() {
    eprintln!("usage: cargo xtask VERB");
    for (verb, help, _) in VERBS {
        eprintln!("  {verb:<10} {help}");
    }
}
