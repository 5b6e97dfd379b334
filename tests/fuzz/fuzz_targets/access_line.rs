#![no_main]
//! Any bytes, through the checks of `duende_parsers::access_line`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| duende_parsers::access_line::check(input));
