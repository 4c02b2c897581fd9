//! Parts of documents that the program itself makes. They stand between `<!-- made: NAME -->` and `<!-- end -->`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A file of this project.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The text of a file of this project.
pub fn text(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
}

/// Compares a part of a document with what it should be. With `SQUALL_WRITE_DOCS=1` it is written instead.
#[track_caller]
pub fn is_as_made(document: &str, name: &str, made: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _held = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let text = text(document);
    let begin = format!("<!-- made: {name} -->\n");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{document} has no part {name:?}"));
    let (shown, after) = rest.split_once("<!-- end -->").expect("a part has an end");
    if std::env::var_os("SQUALL_WRITE_DOCS").is_some() {
        fs::write(file(document), format!("{before}{begin}{made}<!-- end -->{after}")).expect("there is room");
        return;
    }
    assert!(shown == made, "{document} is old: run the tests once with SQUALL_WRITE_DOCS=1. Now it would be:\n{made}");
}
