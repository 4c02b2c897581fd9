//! Cases as tokens: one word to paste into a chat or a terminal.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use thiserror::Error;

use crate::case::Case;
use crate::case_file::{self, CaseFileError};

/// How every token begins.
pub const PREFIX: &str = "squall:";
/// The best compression there is.
const LEVEL: u8 = 10;
/// No case is larger than this.
const CASE_BYTES_MAX: usize = 16 << 20;

/// Why a word is no token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CaseTokenError {
    /// A letter is missing, or another one is in its place.
    #[error("a part of it is missing or was changed; a token is one word without spaces, as it was printed")]
    Damaged,
    /// It is whole, and what it holds is no case.
    #[error(transparent)]
    Case(#[from] CaseFileError),
}

/// A case as a token: its JSON, compressed, in letters that no shell and no chat changes.
pub fn to_token(case: &Case) -> String {
    let json = serde_json::to_vec(case).expect("a case is plain data");
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(compress_to_vec_zlib(&json, LEVEL)))
}

/// Reads a token. Line breaks that a chat put into it do not matter.
///
/// # Errors
/// [`CaseTokenError`]: it was damaged, or another version of the program wrote it.
pub fn parse(token: &str) -> Result<Case, CaseTokenError> {
    let word: String = token.split_whitespace().collect();
    let letters = word.strip_prefix(PREFIX).ok_or(CaseTokenError::Damaged)?;
    let compressed = URL_SAFE_NO_PAD.decode(letters).map_err(|_| CaseTokenError::Damaged)?;
    let json = decompress_to_vec_zlib_with_limit(&compressed, CASE_BYTES_MAX).map_err(|_| CaseTokenError::Damaged)?;
    let json = String::from_utf8(json).map_err(|_| CaseTokenError::Damaged)?;
    Ok(case_file::parse(&json)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::case::CASE_VERSION;
    use crate::fault::{Fault, FaultKind, FaultPlan, Target};

    fn case() -> Case {
        let fault = Fault { kind: FaultKind::Crash, target: Target::default(), at_ms: 1_000, for_ms: 60_000 };
        Case {
            version: CASE_VERSION,
            scenario: "queue".to_owned(),
            variant: "upstream".to_owned(),
            seed: u64::MAX,
            end_ms: 3_600_000,
            choices: json!({"ack": "before_effect"}),
            parameters: json!({"agents": 3, "lease": null}),
            workload: json!({"jobs": [1, 2]}),
            plan: FaultPlan { faults: vec![fault; 9], heal_at_ms: 1_800_000 },
        }
    }

    #[test]
    fn a_token_is_one_short_word_that_holds_its_case() {
        let token = to_token(&case());
        let json = serde_json::to_string(&case()).expect("plain data");
        assert!(token.len() * 2 < json.len(), "{} of {} characters", token.len(), json.len());
        assert!(token.chars().all(|c| c.is_ascii_alphanumeric() || "-_:".contains(c)), "{token}");
        assert_eq!(parse(&token), Ok(case()));
        let (one, other) = token.split_at(token.len() / 2);
        assert_eq!(parse(&format!("  {one}\n  {other}\n")), Ok(case()), "as a chat breaks it");
    }

    #[test]
    fn a_token_that_was_changed_anywhere_is_refused() {
        let token = to_token(&case());
        for at in 0..token.len() {
            let other = if &token[at..=at] == "A" { "B" } else { "A" };
            let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
            assert!(parse(&changed) == Err(CaseTokenError::Damaged) || parse(&changed) == Ok(case()), "at {at}");
            assert_eq!(parse(&token[..at]), Err(CaseTokenError::Damaged), "cut at {at}");
        }
        assert_eq!(parse("squall"), Err(CaseTokenError::Damaged));
    }

    #[test]
    fn a_token_of_the_future_says_so() {
        let newer = to_token(&Case { version: 999, ..case() });
        let refused = parse(&newer).expect_err("another version").to_string();
        assert_eq!(refused, "it is of version 999, and this Squall reads version 1: a newer Squall wrote it");
    }
}
