//! What the documents show is what the program does: tables are made from its own descriptions, commands are parsed by its
//! own parser, code is compiled and run.

mod code;
mod commands;
mod faults;
mod invariants;
mod shown;

/// Every document that is read by users.
const DOCUMENTS: [&str; 7] = [
    "README.md",
    "docs/guide.md",
    "docs/faults.md",
    "docs/invariants.md",
    "docs/not-simulated.md",
    "docs/ci.md",
    "docs/retry-policy.md",
];

/// The blocks of a document: what language they say they are in, and their lines.
fn blocks(text: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), inside) {
            (Some(language), false) => blocks.push((language.trim().to_owned(), Vec::new())),
            (Some(_), true) => {}
            (None, true) => blocks.last_mut().expect("a block is open").1.push(line.to_owned()),
            (None, false) => continue,
        }
        inside = inside != line.trim_start().starts_with("```");
    }
    assert!(!inside, "a block has no end");
    blocks
}

#[test]
fn links_lead_somewhere() {
    for document in DOCUMENTS {
        let text = shown::text(document);
        let folder = shown::file(document).parent().expect("a folder").to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") {
                assert!(folder.join(path).exists(), "{document} links to {path}");
            }
        }
    }
}
