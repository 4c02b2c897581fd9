//! Commands in documents are commands of this program.

use squall::cli;

use super::shown::text;
use super::{DOCUMENTS, blocks};

/// The words of a command, as a shell splits them.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut quoted, mut open) = (Vec::<String>::new(), false, false);
    for c in command.chars() {
        match c {
            '\'' | '"' => (quoted, open) = (!quoted, if quoted { open } else { words_open(&mut words, open) }),
            c if c.is_whitespace() && !quoted => open = false,
            c => {
                open = words_open(&mut words, open);
                words.last_mut().expect("a word is open").push(c);
            }
        }
    }
    words
}

fn words_open(words: &mut Vec<String>, open: bool) -> bool {
    if !open {
        words.push(String::new());
    }
    true
}

/// The commands of squall on a line of a shell script, in a loop or behind ssh as they may be. Variables have a value.
fn commands(line: &str) -> Vec<String> {
    let line = line.replace("cargo run --release -- ", "squall ").replace("$i", "1");
    let line = line.split(" # ").next().unwrap_or_default().trim_end_matches('\\');
    let mut quoted = false;
    let parts = line.split(|c: char| {
        quoted ^= c == '\'';
        !quoted && matches!(c, ';' | '&' | '|' | '>')
    });
    let of_squall = |part: &str| {
        let part = part.trim();
        let at = if part.starts_with("squall ") { Some(0) } else { part.find(" squall ").map(|at| at + 1) };
        at.map(|at| part[at..].to_owned())
    };
    parts.filter_map(of_squall).collect()
}

#[test]
fn commands_are_understood() {
    let mut seen = 0;
    for document in DOCUMENTS {
        for (language, lines) in blocks(&text(document)) {
            let is_script = language == "sh" || language == "yaml";
            let lines = lines.iter().filter(|line| is_script || (language.is_empty() && line.starts_with("squall ")));
            for command in lines.flat_map(|line| commands(line)) {
                let understood = cli::understand(words(&command).into_iter().map(Into::into));
                assert!(understood.is_ok(), "{document}: {command}: {}", understood.unwrap_err());
                seen += 1;
            }
        }
    }
    assert!(seen > 15, "{seen} commands");
}

#[test]
fn what_is_no_command_is_not_understood() {
    let refused = cli::understand(["squall", "explore", "--sneeds", "5"].map(Into::into)).expect_err("a slip");
    assert!(refused.contains("--sneeds"), "{refused}");
}

#[test]
fn commands_are_found_in_scripts() {
    let line = "for i in 1 2; do ssh host-$i squall explore --shard $i/2 > $i.jsonl & done; wait; squall merge 1.jsonl";
    assert_eq!(commands(line), ["squall explore --shard 1/2", "squall merge 1.jsonl"]);
    assert_eq!(
        words("squall lab compare --policy 'exp(base=1s, cap=60s)'").last().expect("words"),
        "exp(base=1s, cap=60s)"
    );
}
