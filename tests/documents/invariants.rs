//! The table of invariants: names, kinds and sentences from the program, types, subjects and bounds from their source.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use squall::sim::invariant::{Kind, catalogue};

use super::shown;

/// An invariant as its source has it.
#[derive(Default)]
struct Source {
    type_name: String,
    subject: String,
    /// The fields and their sentences.
    fields: Vec<(String, String)>,
}

/// The text of a quoted constant.
fn constant<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("const {name}: &'static str = \""))?;
    rest.split('"').next()
}

/// The public fields of a type, with what their comments say.
fn fields(module: &str, type_name: &str) -> Vec<(String, String)> {
    let Some((_, body)) = module.split_once(&format!("pub struct {type_name} {{\n")) else { return Vec::new() };
    let (mut fields, mut told) = (Vec::new(), Vec::new());
    for line in body.lines().take_while(|line| *line != "}").map(str::trim) {
        if let Some(comment) = line.strip_prefix("///") {
            told.push(comment.trim());
        } else if let Some((name, _)) = line.strip_prefix("pub ").and_then(|field| field.split_once(':')) {
            fields.push((name.to_owned(), std::mem::take(&mut told).join(" ")));
        }
    }
    fields
}

/// Every rule, by its name.
fn sources() -> BTreeMap<String, Source> {
    let mut sources = BTreeMap::new();
    for entry in fs::read_dir(shown::file("sim/src/invariant")).expect("a folder") {
        let module = fs::read_to_string(entry.expect("an entry").path()).expect("text");
        for rule in module.split("\nimpl Rule for ").skip(1) {
            let type_name = rule.split(' ').next().expect("a type").to_owned();
            let name = constant(rule, "NAME").expect("a rule has a name").to_owned();
            let subject = constant(rule, "SUBJECT").expect("a rule has a subject").to_owned();
            let fields = fields(&module, &type_name);
            sources.insert(name, Source { type_name, subject, fields });
        }
    }
    sources
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Always => "always".to_owned(),
        Kind::EventuallyWithin(within) => {
            let secs = within.as_secs();
            let told = if secs.is_multiple_of(60) { format!("{} min", secs / 60) } else { format!("{secs} s") };
            format!("within {told} after heal")
        }
        Kind::Sometimes => "sometimes".to_owned(),
    }
}

fn table() -> String {
    let sources = sources();
    let mut table =
        "| name | type | kind, by default | subject | what it asks for, and its bounds |\n|---|---|---|---|---|\n"
            .to_owned();
    for (name, summary, of) in catalogue() {
        let source = sources.get(name);
        let (type_name, subject) = match source {
            Some(source) => (format!("`{}`", source.type_name), source.subject.as_str()),
            None => (String::new(), "run"),
        };
        let mut told = summary.to_owned();
        for (field, about) in source.map(|source| source.fields.as_slice()).unwrap_or_default() {
            write!(told, "<br>`{field}`: {about}").expect("a string takes all");
        }
        // Links of the source lead nowhere here.
        let told = told.replace('|', "\\|").replace("[`", "`").replace("`]", "`");
        writeln!(table, "| `{name}` | {type_name} | {} | {subject} | {told} |", kind(of)).expect("a string takes all");
    }
    table
}

#[test]
fn the_table_of_invariants_is_that_of_the_program() {
    shown::is_as_made("docs/invariants.md", "invariants", &table());
}

#[test]
fn every_rule_has_a_type_in_the_table() {
    let sources = sources();
    for (name, _, kind) in catalogue() {
        assert!(kind == Kind::Sometimes || sources.contains_key(name), "{name} was not found in the source");
    }
}
