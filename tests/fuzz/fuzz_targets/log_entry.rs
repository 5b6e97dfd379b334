#![no_main]
//! Any bytes, through the checks of `duende_parsers::log_entry`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| duende_parsers::log_entry::check(input));
