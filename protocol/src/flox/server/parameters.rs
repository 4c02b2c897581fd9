//! What a publisher is like: what is known of the real one, and what is not.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::flox::wire::ResetCode;

/// The publisher of the incident, measured in curl's units: 30.0M (MiB), of which 14.3M had come at 182k (KiB) a second
/// when the stream was reset after 1:20 (flox/flox#2916).
pub mod incident {
    use std::time::Duration;

    /// 30.0 MiB.
    pub const SIZE_BYTES: u64 = 30 << 20;
    /// 182.5 KiB a second: curl's meter leaves out what comes after the point.
    pub const RATE_BYTES_PER_S: u64 = 365 << 9;
    /// Such a time limit is what Go's HTTP/2 server calls its write time-out.
    pub const CUT_OFF: Duration = Duration::from_millis(80_400);
}

/// A publisher of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The versions that are there, the newest last.
    pub versions: Vec<String>,
    /// The architecture of its files.
    pub arch: String,
    /// The size of each file.
    pub size_bytes: u64,
    /// How fast it sends an answer.
    pub rate_bytes_per_s: u64,
    /// How often a piece of an answer goes out.
    pub pace: Duration,
    /// Its time limit for HTTP/2 answers.
    pub http2_cut_off: CutOff,
    /// Its time limit for HTTP/1.1 answers. Unknown: in the incident HTTP/1.1 helped.
    pub http1_cut_off: CutOff,
    /// By which code it resets an HTTP/2 stream that it cuts off. Unknown but for the incident's.
    #[serde(default, skip_serializing_if = "ResetCode::is_usual")]
    pub http2_reset: ResetCode,
    /// What it makes of a Range header. Unknown.
    pub ranges: Ranges,
    /// By what it tells one content from another. Unknown.
    pub validator: Validator,
}

/// When an answer is cut off, however much of it is missing: HTTP/2 resets the stream, HTTP/1.1 closes the
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutOff {
    /// Never.
    Never,
    /// So long after the request came.
    After(Duration),
}

/// What a publisher makes of a Range header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ranges {
    /// It sends what is asked for, with 206.
    Honoured,
    /// It sends everything, with 200.
    Ignored,
}

/// By what a publisher tells one content of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Validator {
    /// A strong entity tag.
    Strong,
    /// A weak one, by which no bytes may be put together.
    Weak,
    /// None.
    Absent,
}

impl Default for Parameters {
    /// The one of the incident.
    fn default() -> Self {
        Self {
            versions: vec!["1.80.3".to_owned(), "1.82.0".to_owned()],
            arch: "amd64".to_owned(),
            size_bytes: incident::SIZE_BYTES,
            rate_bytes_per_s: incident::RATE_BYTES_PER_S,
            pace: Duration::from_millis(500),
            http2_cut_off: CutOff::After(incident::CUT_OFF),
            http1_cut_off: CutOff::Never,
            http2_reset: ResetCode::INTERNAL_ERROR,
            ranges: Ranges::Honoured,
            validator: Validator::Strong,
        }
    }
}
