//! Code in documents is a piece of an example, which is compiled and run.

use std::fs;

use super::shown::{file, text};
use super::{DOCUMENTS, blocks};

fn trimmed(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn rust_is_a_piece_of_an_example() {
    let mut examples = Vec::new();
    for folder in ["tests/examples", "tests/examples/plain_tokio"] {
        for entry in fs::read_dir(file(folder)).expect("examples") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                examples.push(fs::read_to_string(&path).expect("text"));
            }
        }
    }
    for document in DOCUMENTS {
        for (language, lines) in blocks(&text(document)) {
            if language != "rust" {
                continue;
            }
            let shown = lines.join("\n");
            let shown = trimmed(&shown);
            let is_in = |example: &String| trimmed(example).windows(shown.len()).any(|piece| piece == shown);
            assert!(examples.iter().any(is_in), "{document} shows code that is in no example:\n{}", lines.join("\n"));
        }
    }
}

#[test]
fn toml_is_as_cargo_and_policies_read_it() {
    for document in DOCUMENTS {
        for (_, lines) in blocks(&text(document)).into_iter().filter(|(language, _)| language == "toml") {
            let read = lines.join("\n").parse::<toml_edit::DocumentMut>();
            assert!(read.is_ok(), "{document}: {read:?}");
        }
    }
}

#[test]
fn the_nightly_job_is_the_one_that_is_there() {
    let workflow = text(".github/workflows/nightly.yml");
    let mut shown = 0;
    for (_, lines) in blocks(&text("docs/ci.md")).into_iter().filter(|(language, _)| language == "yaml") {
        let lines = lines.join("\n");
        assert!(workflow.contains(&lines), "it is not in nightly.yml:\n{lines}");
        shown += 1;
    }
    assert!(shown > 0);
}

#[test]
fn variables_and_facts_are_called_so() {
    let (facts, settings) = (text("protocol/src/facts.rs"), text("sim/src/check/settings.rs"));
    for document in DOCUMENTS {
        let text = text(document);
        let words = || text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        for name in words().filter_map(|word| word.strip_prefix("Fact::")) {
            assert!(facts.contains(&format!("    {name} {{")), "{document}: there is no fact {name}");
        }
        for name in words().filter(|word| word.starts_with("SQUALL_") && *word != "SQUALL_WRITE_DOCS") {
            assert!(settings.contains(&format!("\"{name}\"")), "{document}: nothing reads {name}");
        }
    }
}
