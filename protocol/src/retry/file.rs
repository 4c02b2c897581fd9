//! Policies in TOML.
//!
//! A file is one [`Policy`], field by field, or a preset with some fields of its own:
//!
//! ```toml
//! preset = "full-jitter"
//! retries = 5
//! deadline = "2m"
//!
//! [budget.token-bucket]
//! tokens = 5
//! ratio = 0.1
//! ```

use schemars::{Schema, schema_for};
use thiserror::Error;
use toml::{Table, Value};

use super::policy::{Policy, PolicyError, Warning};
use super::presets;

/// Why a file is no policy.
#[derive(Debug, Error)]
pub enum FileError {
    /// It is not TOML, or a field is wrong.
    #[error("line {line}, column {column}: {why}")]
    At {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong.
        why: String,
    },
    /// Its preset is none.
    #[error("line {line}, column {column}: no preset is called {name}; `squall list` knows them")]
    NoSuchPreset {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What stands there.
        name: String,
    },
    /// It makes no sense.
    #[error("line {line}, column {column}: {why}")]
    Nonsense {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What of it makes none.
        #[source]
        why: PolicyError,
    },
}

/// Reads a policy, and says what is dangerous about it.
///
/// # Errors
/// [`FileError`] with the place.
pub fn read(text: &str) -> Result<(Policy, Vec<Warning>), FileError> {
    let error = |error: toml::de::Error| at(text, &error);
    let mut own: Table = toml::from_str(text).map_err(error)?;
    let policy = match own.remove(PRESET) {
        None => toml::from_str(text).map_err(error)?,
        Some(name) => {
            let Some(preset) = name.as_str().and_then(presets::find) else {
                let (line, column) = place_of(text, PRESET);
                return Err(FileError::NoSuchPreset { line, column, name: name.to_string() });
            };
            over(&preset.policy, own, text)?
        }
    };
    let warnings = policy.check().map_err(|why| {
        let (line, column) = place_of(text, why.field());
        FileError::Nonsense { line, column, why }
    })?;
    Ok((policy, warnings))
}

/// The field that names what a file starts from.
const PRESET: &str = "preset";

/// A preset with fields of its own.
fn over(preset: &Policy, own: Table, text: &str) -> Result<Policy, FileError> {
    // The file alone, with a wait in the place of its preset, is read first: its mistakes are told where they are.
    let stands_in = if own.contains_key("wait") { "" } else { "wait = \"none\"" };
    let (preset_line, _) = place_of(text, PRESET);
    let lines = text.lines().enumerate().map(|(n, line)| if n + 1 == preset_line { stands_in } else { line });
    let alone = lines.collect::<Vec<_>>().join("\n");
    toml::from_str::<Policy>(&alone).map_err(|error| at(&alone, &error))?;
    let mut all = Table::try_from(preset).expect("policies are written as they are read");
    all.extend(own);
    Value::Table(all).try_into().map_err(|error| at(text, &error))
}

fn at(text: &str, error: &toml::de::Error) -> FileError {
    let (line, column) = place(text, error.span().map_or(0, |span| span.start));
    let why = error.message().trim().replace('\n', ", ");
    // A preset is no field of a policy, and may stand in for all of them.
    let why = why.replace("missing field `wait`", "missing field `wait`, or `preset` to start from");
    let why = why.replace("expected one of `wait`", "expected one of `preset`, `wait`");
    FileError::At { line, column, why }
}

/// The line and the column of a byte, from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// Where a field is set, or the first line when it comes from a preset that the file names.
fn place_of(text: &str, field: &str) -> (usize, usize) {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '-';
    let sets = |at: &usize| {
        let (before, after) = (&text[..*at], text[at + field.len()..].trim_start_matches([' ', '\t']));
        !before.ends_with(is_word) && after.starts_with(['=', ']'])
    };
    let found = text.match_indices(field).map(|(at, _)| at).find(sets);
    match found {
        Some(at) => place(text, at),
        None if field == PRESET => (1, 1),
        None => place_of(text, PRESET),
    }
}

/// The schema of policy files, as JSON Schema.
pub fn schema() -> Schema {
    let mut schema = schema_for!(Policy);
    if let Some(properties) = schema.get_mut("properties").and_then(|properties| properties.as_object_mut()) {
        let about = "A preset to start from, as `squall list` names it; every field of the file replaces one of it.";
        properties.insert(PRESET.to_owned(), serde_json::json!({ "type": "string", "description": about }));
    }
    // Either the wait is given or a preset has it.
    schema.remove("required");
    schema.insert("anyOf".to_owned(), serde_json::json!([{ "required": ["wait"] }, { "required": [PRESET] }]));
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::budget::Budget;
    use crate::retry::span::Span;
    use crate::retry::wait::{Exponential, Jitter, Wait};

    #[test]
    fn a_file_says_everything_or_what_differs_from_a_preset() {
        let whole = "retries = 5\ndeadline = \"2m\"\n[wait.exponential]\nbase = \"1s\"\ncap = \"60s\"\njitter = \"full\"\n\
                     [budget.token-bucket]\n";
        let (policy, warnings) = read(whole).expect("a policy");
        let wait = Exponential::doubling(Span::secs(1), Span::secs(60)).jittered(Jitter::Full);
        assert_eq!(
            policy,
            Policy {
                retries: Some(5),
                deadline: Some(Span::mins(2)),
                budget: Some(Budget::TokenBucket { tokens: 5, ratio: 0.1 }),
                ..Policy::of(Wait::Exponential(wait))
            }
        );
        assert!(warnings.is_empty());
        let (policy, _) = read("preset = \"full-jitter\"\nretries = 7\n").expect("a policy");
        let preset = presets::find("full-jitter").expect("it is there").policy;
        assert_eq!(policy, Policy { retries: Some(7), ..preset });
    }

    #[test]
    fn errors_name_the_line_and_the_column() {
        let told = |text: &str| read(text).expect_err("no policy").to_string();
        assert_eq!(
            told("retries = 3\n[wait.exponential]\nbase = \"soon\"\n"),
            "line 3, column 8: \"soon\" is no span of time; write 250ms, 30s, 1m30s or 2h"
        );
        assert!(told("wait = \"none\"\nretires = 3\n").starts_with("line 2, column 1: unknown field `retires`"));
        assert!(told("wait = \"none\"\nretries = -1\n").starts_with("line 2, column 11: "));
        assert!(told("wait = {\n").starts_with("line 1, column "), "{}", told("wait = {\n"));
        let best = "line 2, column 1: no preset is called \"best\"; `squall list` knows them";
        assert_eq!(told("\npreset = \"best\""), best);
        assert!(told("preset = 3").starts_with("line 1, column 1: no preset is called 3"));
        assert!(told("preset = \"full-jitter\"\n\nretries = \"many\"").starts_with("line 3, column 11: "));
        assert!(told("preset = \"grpc\"\nretires = 3\n").starts_with("line 2, column 1: unknown field `retires`"));
        assert!(told("preset = \"grpc\"\nwait = \"long\"\n").starts_with("line 2, column 8: "));
    }

    #[test]
    fn nonsense_is_told_with_its_place() {
        let told = |text: &str| read(text).expect_err("no policy").to_string();
        let below = "line 3, column 1: the cap of 1s is below the base of 2s";
        assert!(told("[wait.exponential]\nbase = \"2s\"\ncap = \"1s\"\n").starts_with(below));
        let inline = "wait = { exponential = { base = \"2s\", jitter = { add = -1.0 } } }\n";
        assert!(told(inline).starts_with("line 1, column 39: jitter of -1"), "{}", told(inline));
        assert!(told("preset = \"grpc\"\nlayers = 9\n").starts_with("line 2, column 1: 9 layers"));
        let share = "preset = \"full-jitter\"\n[budget.token-bucket]\nratio = -0.5\n";
        assert!(told(share).starts_with("line 3, column 1: a budget's ratio of -0.5"), "{}", told(share));
    }

    #[test]
    fn every_preset_is_written_as_it_is_read() {
        for preset in presets::all() {
            let text = toml::to_string(&preset.policy).unwrap_or_else(|error| panic!("{}: {error}", preset.name));
            assert_eq!(read(&text).expect("a policy").0, preset.policy, "{}\n{text}", preset.name);
        }
    }

    #[test]
    fn the_schema_knows_every_field() {
        let schema = serde_json::to_value(schema()).expect("a schema is JSON");
        let policy = serde_json::to_value(Policy::of(Wait::None)).expect("plain data");
        for field in policy.as_object().expect("an object").keys() {
            assert!(schema["properties"].get(field).is_some(), "{field}");
        }
        assert!(schema["properties"].get(PRESET).is_some());
    }
}
