//! See the function that is called.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brasa_fuzz::resp_decode(data));
