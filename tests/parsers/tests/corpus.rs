//! Every input that was ever worth keeping, through the checks of its parser.

use std::fs;
use std::path::Path;

use duende_parsers::PARSERS;

#[test]
fn the_corpus_keeps_every_promise() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, check) in PARSERS {
        let mut inputs = 0;
        for entry in fs::read_dir(corpus.join(name)).expect(name) {
            let path = entry.expect(name).path();
            let input = fs::read(&path).expect(name);
            if let Err(panic) = std::panic::catch_unwind(|| check(&input)) {
                eprintln!("by {}", path.display());
                std::panic::resume_unwind(panic);
            }
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no corpus");
    }
}

/// Every parser has its target, and every target its parser.
#[test]
fn targets_and_parsers_are_the_same() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("the targets' manifest");
    let targets: Vec<_> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""))
        .collect();
    let parsers: Vec<_> = PARSERS.iter().map(|(name, _)| *name).collect();
    assert_eq!(targets, parsers);
}
