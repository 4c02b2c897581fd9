//! What nobody asked for.

use proptest::prelude::*;

/// Texts that are no body of any call.
pub const TEXTS: [&str; 8] = ["", "null", "7", "true", "\"x\"", "{", "[[[[[[", "<html>"];

/// Bodies: [`TEXTS`], JSON of these shapes, and any bytes.
pub fn bodies(shapes: &[&'static str]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let texts = [&TEXTS[..], shapes].concat();
    prop_oneof![
        3 => proptest::sample::select(texts).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
    ]
}
