//! Cases as files: JSON for people, read strictly. Their schema is `case.schema.json`, beside this crate's manifest.

use serde::Deserialize;
use serde_json::Value;
use serde_json::error::Category;
use thiserror::Error;

use crate::case::{CASE_VERSION, Case};

/// Why a text is not a case.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CaseFileError {
    /// The text ends too early: the file was cut off, or is still being written.
    #[error("it ends in the middle, at line {line}; a case file is one whole JSON object")]
    Truncated {
        /// Where, from 1.
        line: usize,
    },
    /// The text is something else.
    #[error("it is not JSON: {why}; a case file is one JSON object, as `squall replay --format case` prints one")]
    NotJson {
        /// What is wrong, and where.
        why: String,
    },
    /// Another version of the program wrote it.
    #[error("it is of version {version}, and this Squall reads version {CASE_VERSION}{}", newer(.version))]
    Version {
        /// The version it states.
        version: String,
    },
    /// A field is missing, or has a value of the wrong kind.
    #[error("it is not a case: {why}")]
    Misshapen {
        /// What is wrong.
        why: String,
    },
    /// A field that means nothing: a misspelling would silently run another case.
    #[error("it has a field {path} that no case has")]
    UnknownField {
        /// Where, such as `plan.faults[0].percnt`.
        path: String,
    },
}

/// A case as readable JSON.
pub fn to_text(case: &Case) -> String {
    let mut text = serde_json::to_string_pretty(case).expect("a case is plain data");
    text.push('\n');
    text
}

/// Reads a case.
///
/// # Errors
/// [`CaseFileError`], with everything that a reader needs to mend the file.
pub fn parse(text: &str) -> Result<Case, CaseFileError> {
    let read: Value = serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Eof => CaseFileError::Truncated { line: error.line() },
        _ => CaseFileError::NotJson { why: error.to_string() },
    })?;
    check_version(&read)?;
    let case = Case::deserialize(&read).map_err(|error| CaseFileError::Misshapen { why: error.to_string() })?;
    let understood = serde_json::to_value(&case).expect("a case is plain data");
    match unknown_field(&read, &understood, "") {
        Some(path) => Err(CaseFileError::UnknownField { path }),
        None => Ok(case),
    }
}

fn check_version(read: &Value) -> Result<(), CaseFileError> {
    match read.get("version") {
        Some(version) if version.as_u64() == Some(u64::from(CASE_VERSION)) => Ok(()),
        Some(version) => Err(CaseFileError::Version { version: version.to_string() }),
        None => Err(CaseFileError::Misshapen { why: "it has no `version`".to_owned() }),
    }
}

fn newer(version: &str) -> &'static str {
    match version.parse::<u64>() {
        Ok(version) if version > u64::from(CASE_VERSION) => ": a newer Squall wrote it",
        _ => "",
    }
}

/// The first field that was read but not understood. A `null` is as good as no field.
fn unknown_field(read: &Value, understood: &Value, path: &str) -> Option<String> {
    match (read, understood) {
        (Value::Object(read), Value::Object(understood)) => read.iter().find_map(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match understood.get(name) {
                Some(known) => unknown_field(value, known, &path),
                None if value.is_null() => None,
                None => Some(path),
            }
        }),
        (Value::Array(read), Value::Array(understood)) => {
            let mut pairs = read.iter().zip(understood).enumerate();
            pairs.find_map(|(n, (value, known))| unknown_field(value, known, &format!("{path}[{n}]")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::fault::{Fault, FaultKind, FaultPlan, Target, When};

    fn case() -> Case {
        let kind = FaultKind::Status { status: 503, when: When::AfterCommit, retry_after: None, percent: 30 };
        let target = Target { node: Some("server".to_owned()), ..Target::default() };
        let fault = Fault { kind, target, at_ms: 1_000, for_ms: 60_000 };
        Case {
            version: CASE_VERSION,
            scenario: "queue".to_owned(),
            variant: "upstream".to_owned(),
            seed: u64::MAX,
            end_ms: 3_600_000,
            choices: json!({"ack": "before_effect"}),
            parameters: json!({"agents": 3, "lease": null}),
            workload: json!([1, 2]),
            plan: FaultPlan { faults: vec![fault], heal_at_ms: 1_800_000 },
        }
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Result<Case, CaseFileError> {
        let mut value = serde_json::to_value(case()).expect("plain data");
        change(&mut value);
        parse(&value.to_string())
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(parse(&to_text(&case())), Ok(case()));
    }

    /// With `SQUALL_WRITE_SCHEMA=1` the test writes the schema instead.
    #[test]
    fn the_published_schema_is_that_of_the_program() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("case.schema.json");
        let mut schema = schemars::schema_for!(Case);
        schema.insert("title".to_owned(), "A case of Squall".into());
        schema.insert("additionalProperties".to_owned(), false.into());
        let schema = serde_json::to_string_pretty(&schema).expect("JSON") + "\n";
        if std::env::var_os("SQUALL_WRITE_SCHEMA").is_some() {
            fs::write(&path, &schema).expect("there is room");
        }
        let published = fs::read_to_string(&path).expect("it is there");
        assert!(published == schema, "it is old: run this test with SQUALL_WRITE_SCHEMA=1");
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_says_so() {
        let text = to_text(&case());
        for cut in 0..text.trim_end().len() {
            assert!(matches!(parse(&text[..cut]), Err(CaseFileError::Truncated { .. })), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_case_is_refused_with_the_reason() {
        assert!(matches!(parse("hello"), Err(CaseFileError::NotJson { .. })));
        assert!(matches!(parse("[]"), Err(CaseFileError::Misshapen { .. })));
        assert!(matches!(parse(r#"{"version":1}"#), Err(CaseFileError::Misshapen { .. })));
        let newer = parse(r#"{"version":999}"#).expect_err("from the future");
        assert_eq!(newer.to_string(), "it is of version 999, and this Squall reads version 1: a newer Squall wrote it");
        let odd = parse(r#"{"version":"1"}"#).expect_err("a text is no version");
        assert_eq!(odd, CaseFileError::Version { version: "\"1\"".to_owned() });
    }

    #[test]
    fn a_misspelt_field_is_found_at_any_depth() {
        let outer = changed(|value| value["sed"] = json!(1));
        assert_eq!(outer, Err(CaseFileError::UnknownField { path: "sed".to_owned() }));
        let inner = changed(|value| value["plan"]["faults"][0]["percnt"] = json!(1));
        assert_eq!(inner, Err(CaseFileError::UnknownField { path: "plan.faults[0].percnt".to_owned() }));
        let target = changed(|value| value["plan"]["faults"][0]["target"]["nod"] = json!("x"));
        assert_eq!(target, Err(CaseFileError::UnknownField { path: "plan.faults[0].target.nod".to_owned() }));
        assert!(changed(|value| value["plan"]["faults"][0]["target"]["peer"] = Value::Null).is_ok());
    }

    #[test]
    fn a_fault_of_no_known_kind_is_refused() {
        let unknown = changed(|value| value["plan"]["faults"][0]["kind"] = json!("earthquake"));
        assert!(matches!(unknown, Err(CaseFileError::Misshapen { why }) if why.contains("earthquake")));
    }
}
