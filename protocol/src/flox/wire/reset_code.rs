//! Codes by which HTTP/2 streams are reset (RFC 9113, section 7).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A code by which a stream is reset. It is written by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResetCode(u32);

const NAMES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

impl ResetCode {
    /// Something in the server did. This is what Go's server and hyper's say of an answer that they break off.
    pub const INTERNAL_ERROR: Self = Self(0x2);
    /// The request was not looked at.
    pub const REFUSED_STREAM: Self = Self(0x7);

    /// The code of this number.
    pub const fn of(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Is it the one that servers usually reset streams by?
    pub fn is_usual(&self) -> bool {
        *self == Self::INTERNAL_ERROR
    }
}

impl Default for ResetCode {
    fn default() -> Self {
        Self::INTERNAL_ERROR
    }
}

impl fmt::Display for ResetCode {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(NAMES.get(self.0 as usize).copied().unwrap_or("unknown"))
    }
}

/// A text is the name of no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no code of a reset; there are {list}", list = NAMES.join(", "))]
pub struct NoResetCode(String);

impl FromStr for ResetCode {
    type Err = NoResetCode;

    fn from_str(text: &str) -> Result<Self, NoResetCode> {
        let found = (0..).zip(NAMES).find(|(_, name)| *name == text);
        found.map(|(number, _)| Self(number)).ok_or_else(|| NoResetCode(text.to_owned()))
    }
}

impl TryFrom<String> for ResetCode {
    type Error = NoResetCode;

    fn try_from(text: String) -> Result<Self, NoResetCode> {
        text.parse()
    }
}

impl From<ResetCode> for String {
    fn from(code: ResetCode) -> Self {
        code.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_those_of_the_standard() {
        for (name, number) in
            [("NO_ERROR", 0), ("INTERNAL_ERROR", 2), ("REFUSED_STREAM", 7), ("CANCEL", 8), ("ENHANCE_YOUR_CALM", 11)]
        {
            assert_eq!(name.parse(), Ok(ResetCode::of(number)));
            assert_eq!(ResetCode::of(number).to_string(), name);
        }
        assert_eq!(ResetCode::of(14).to_string(), "unknown");
    }

    #[test]
    fn other_names_are_refused_and_the_others_listed() {
        for text in ["unknown", "internal_error", "2", ""] {
            let refused = text.parse::<ResetCode>().unwrap_err().to_string();
            assert!(refused.contains("REFUSED_STREAM") && refused.contains(&format!("{text:?}")), "{refused}");
        }
    }
}
