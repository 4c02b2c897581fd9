//! Policies on one line: `exp(base=1s,cap=60s,jitter=full)+limit(retries=5)+token-bucket(ratio=0.1)`.
//!
//! The first part is a preset's name or a wait; the others, each after a `+`, add to it. A part without arguments needs
//! no parentheses.

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::policy::{Policy, PolicyError};
use super::presets;

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExpressionError {
    /// A part is not written as it should be.
    #[error("at character {column}: {why}")]
    At {
        /// From 1.
        column: usize,
        /// What is wrong.
        why: String,
    },
    /// A part has no such arguments.
    #[error("{part}: {why}")]
    Part {
        /// The part's name.
        part: String,
        /// What is wrong.
        why: String,
    },
    /// It makes no sense.
    #[error(transparent)]
    Nonsense(#[from] PolicyError),
}

/// Reads a policy.
///
/// # Errors
/// [`ExpressionError`] with the place or the part.
pub fn parse(text: &str) -> Result<Policy, ExpressionError> {
    let mut parts = parts(text)?.into_iter();
    let first = parts.next().expect("there is a first part");
    let mut policy = start(&first)?;
    for part in parts {
        add(&mut policy, &part)?;
    }
    policy.check()?;
    Ok(policy)
}

/// What may follow a wait or a preset, each with an example; the first of them are waits.
pub const WAITS: [&str; 9] =
    ["none", "fixed", "linear", "exp", "decorrelated", "uniform", "vss", "runner-poll", "a preset"];
/// What may be added with a `+`.
pub const ADDITIONS: [&str; 13] = [
    "limit",
    "deadline",
    "retry-after",
    "quota",
    "throttling",
    "window",
    "concurrency",
    "token-bucket",
    "breaker",
    "sre",
    "cubic",
    "pace",
    "hedge",
];

/// A part: a name and its arguments.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    name: String,
    arguments: Map<String, Value>,
    column: usize,
}

fn parts(text: &str) -> Result<Vec<Part>, ExpressionError> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0u32, 0);
    for (at, letter) in text.char_indices().chain([(text.len(), '+')]) {
        match letter {
            '(' => depth += 1,
            ')' if depth == 0 => return Err(wrong(text, at, "this parenthesis closes nothing")),
            ')' => depth -= 1,
            '+' if depth == 0 || at == text.len() => {
                parts.push(part(text, from, at)?);
                from = at + 1;
            }
            _ => {}
        }
    }
    Ok(parts)
}

fn part(text: &str, from: usize, to: usize) -> Result<Part, ExpressionError> {
    let written = &text[from..to];
    let (name, inner) = match written.split_once('(') {
        None => (written, ""),
        Some((name, rest)) => match rest.trim_end().strip_suffix(')') {
            Some(inner) => (name, inner),
            None => return Err(wrong(text, to, "a closing parenthesis is missing")),
        },
    };
    let name = name.trim();
    if name.is_empty() {
        return Err(wrong(text, from, "a name is missing, such as exp or full-jitter"));
    }
    let mut arguments = Map::new();
    for argument in inner.split(',').filter(|argument| !argument.trim().is_empty()) {
        let at = from + (argument.as_ptr() as usize - written.as_ptr() as usize);
        let Some((key, value)) = argument.split_once('=') else {
            return Err(wrong(text, at, "an argument is written name=value, such as base=1s"));
        };
        let again = arguments.insert(key.trim().to_owned(), scalar(value.trim()));
        if again.is_some() {
            return Err(wrong(text, at, "this argument is given twice"));
        }
    }
    Ok(Part { name: name.to_owned(), arguments, column: column(text, from) })
}

fn scalar(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(whole) => whole.into(),
        Err(_) => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => number.into(),
            _ => text.into(),
        },
    }
}

/// What a first part starts with.
fn start(part: &Part) -> Result<Policy, ExpressionError> {
    let Part { name, arguments, .. } = part;
    let mut arguments = arguments.clone();
    let kind = match name.as_str() {
        "none" if arguments.is_empty() => return field(part, "wait", "none".into(), None),
        "runner-poll" if arguments.is_empty() => return field(part, "wait", "runner-poll".into(), None),
        "exp" | "exponential" => {
            // A number is short for a share that is added.
            if let Some(share) = arguments.get("jitter").filter(|jitter| jitter.is_number()).cloned() {
                arguments.insert("jitter".to_owned(), json!({ "add": share }));
            }
            "exponential"
        }
        "uniform" => {
            arguments.insert("times".to_owned(), u32::MAX.into());
            return field(part, "wait", json!({ "stages": [arguments] }), None);
        }
        "fixed" | "linear" | "decorrelated" | "vss" if !arguments.is_empty() || name == "vss" => name,
        _ => {
            let preset = presets::find(name).filter(|_| arguments.is_empty());
            let unknown = || ExpressionError::At {
                column: part.column,
                why: format!("no wait and no preset is called {name}; there are {}", WAITS.join(", ")),
            };
            return preset.map(|preset| preset.policy).ok_or_else(unknown);
        }
    };
    field(part, "wait", json!({ kind: arguments }), None)
}

fn add(policy: &mut Policy, part: &Part) -> Result<(), ExpressionError> {
    let Part { name, arguments, column } = part;
    let all = Value::Object(arguments.clone());
    let set = |policy: &Policy, field_name: &str, value: Value| field(part, field_name, value, Some(policy));
    *policy = match name.as_str() {
        "quota" | "throttling" | "window" | "concurrency" | "token-bucket" => {
            set(policy, "budget", json!({ name.as_str(): all }))?
        }
        "sre" | "pace" => set(policy, "throttle", json!({ name.as_str(): all }))?,
        "cubic" => set(policy, "throttle", "cubic".into())?,
        "breaker" | "retry-after" | "hedge" => set(policy, name, all)?,
        "limit" => set(policy, "retries", only(part, "retries")?)?,
        "deadline" => {
            let mut policy = set(policy, "deadline", only_first(part, "after")?)?;
            if let Some(expected) = arguments.get("expected") {
                policy = set(&policy, "expected", expected.clone())?;
            }
            policy
        }
        _ => {
            let why = format!("nothing that can be added is called {name}; there are {}", ADDITIONS.join(", "));
            return Err(ExpressionError::At { column: *column, why });
        }
    };
    Ok(())
}

fn only(part: &Part, argument: &str) -> Result<Value, ExpressionError> {
    match part.arguments.keys().find(|key| *key != argument) {
        Some(other) => Err(of(part, format!("unknown argument {other}, expected {argument}"))),
        None => only_first(part, argument),
    }
}

fn only_first(part: &Part, argument: &str) -> Result<Value, ExpressionError> {
    part.arguments.get(argument).cloned().ok_or_else(|| of(part, format!("it takes {argument}=...")))
}

/// A policy with one field set, everything else as in `base`.
fn field(part: &Part, name: &str, value: Value, base: Option<&Policy>) -> Result<Policy, ExpressionError> {
    let mut all = match base {
        Some(policy) => serde_json::to_value(policy).expect("plain data"),
        None => json!({}),
    };
    all[name] = value;
    serde_json::from_value(all).map_err(|error| {
        let why = error.to_string();
        of(part, why.replace(" at line 0 column 0", "").replace("field", "argument"))
    })
}

fn of(part: &Part, why: String) -> ExpressionError {
    ExpressionError::Part { part: part.name.clone(), why }
}

fn wrong(text: &str, at: usize, why: &str) -> ExpressionError {
    ExpressionError::At { column: column(text, at), why: why.to_owned() }
}

fn column(text: &str, at: usize) -> usize {
    text[..at].chars().count() + 1
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::super::span::Span;
    use super::super::wait::{Exponential, Jitter, Wait};
    use super::*;

    #[test]
    fn a_wait_alone_is_a_policy() {
        let full = Exponential::doubling(Span::secs(1), Span::secs(60)).jittered(Jitter::Full);
        assert_eq!(parse("exp(base=1s,cap=60s,jitter=full)"), Ok(Policy::of(Wait::Exponential(full.clone()))));
        let share = full.jittered(Jitter::Add(0.1));
        assert_eq!(parse(" exp( base = 1s , cap=60s, jitter=0.1 ) "), Ok(Policy::of(Wait::Exponential(share))));
        assert_eq!(parse("fixed(wait=10s)"), Ok(Policy::of(Wait::Fixed { wait: Span::secs(10) })));
        assert_eq!(parse("none"), Ok(Policy::of(Wait::None)));
        assert!(parse("uniform(from=10s,to=20s)").is_ok() && parse("decorrelated(base=1s,cap=1m)").is_ok());
    }

    #[test]
    fn parts_are_added() {
        let policy =
            parse("full-jitter+limit(retries=5)+token-bucket(ratio=0.2)+deadline(after=2m)").expect("a policy");
        assert_eq!(policy.retries, Some(5));
        assert_eq!(policy.budget, Some(Budget::TokenBucket { tokens: 5, ratio: 0.2 }));
        assert_eq!(policy.deadline, Some(Span::mins(2)));
        assert!(parse("fixed(wait=1s)+sre+breaker+retry-after(combine=longer,cap=30s)+hedge(after=100ms)").is_ok());
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let told = |text: &str| parse(text).expect_err(text).to_string();
        assert_eq!(told("exp(base=1s"), "at character 12: a closing parenthesis is missing");
        assert_eq!(told("exp(base)"), "at character 5: an argument is written name=value, such as base=1s");
        assert_eq!(told("full-jitter+"), "at character 13: a name is missing, such as exp or full-jitter");
        assert!(told("exq(base=1s)").starts_with("at character 1: no wait and no preset is called exq"));
        assert!(told("full-jitter+budget").starts_with("at character 13: nothing that can be added is called budget"));
        assert!(told("exp(bse=1s)").starts_with("exp: unknown argument `bse`"));
        assert!(told("exp(base=soon)").starts_with("exp: \"soon\" is no span of time"));
        assert!(told("exp(base=-1s)").starts_with("exp: \"-1s\" is no span of time"));
        assert!(told("exp(base=10s,cap=1s)").starts_with("the cap of 1s is below the base of 10s"));
        assert!(told("exp(base=1s,jitter=-0.5)").starts_with("jitter of -0.5 is none"));
        assert!(told("none+retry-after(combine=longer,cap=inf)").contains("no span of time"));
        assert!(told(")").starts_with("at character 1"));
    }
}
