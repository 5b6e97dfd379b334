#![no_main]
//! Any bytes, through the checks of `duende_parsers::notification`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| duende_parsers::notification::check(input));
