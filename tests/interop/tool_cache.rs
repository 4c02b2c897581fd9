//! `@actions/tool-cache`, which setup actions download with, on `flox-download`.

use std::path::Path;
use std::process::{Command, Output};

use squall_protocol::flox::wire::Digest;

use crate::program::Program;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/tool-cache");

/// Says why and returns true when there is no Node.js or the package is not installed.
fn no_tool_cache() -> bool {
    let node = Command::new("node").arg("--version").output().is_ok_and(|told| told.status.success());
    let package = Path::new(FOLDER).join("node_modules/@actions/tool-cache").exists();
    if !node || !package {
        println!("skipped: needs Node.js, and `npm ci` in tests/interop/tool-cache");
    }
    !node || !package
}

/// A server whose file takes less than a second, with some settings.
fn server(settings: &[&str]) -> Program {
    let mut options = vec!["--set", "size=300000", "--set", "rate=1000000"];
    settings.iter().for_each(|setting| options.extend(["--set", setting]));
    Program::start("flox-download", &options)
}

fn url(program: &Program) -> &str {
    program.ready["credentials"]["file_url"].as_str().expect("text")
}

fn download(url: &str, destination: &Path) -> Output {
    let mut node = Command::new("node");
    node.arg("download.mjs").arg(url).arg(destination).current_dir(FOLDER);
    node.output().expect("node runs")
}

/// How often it tried, and what it said at last.
fn told(output: &Output) -> (usize, String) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let waits = text.matches("seconds before trying again").count();
    (waits + 1, text.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn it_downloads_the_file() {
    if no_tool_cache() {
        return;
    }
    let (program, folder) = (server(&[]), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("tailscale.tgz");
    let done = download(url(&program), &file);
    assert_eq!(told(&done), (1, format!("done: {}", file.display())));
    let digest = Digest::of(&std::fs::read(&file).expect("a file"));
    assert_eq!(program.ready["credentials"]["sha256"], digest.as_str());
    // Asked again, it refuses what is there already, three times.
    let (attempts, last) = told(&download(url(&program), &file));
    assert_eq!((attempts, last), (3, format!("failed: Destination file path {} already exists", file.display())));
}

#[test]
fn it_begins_anew_three_times_and_leaves_nothing_behind() {
    if no_tool_cache() {
        return;
    }
    // It speaks HTTP/1.1 alone: a limit for HTTP/2 does not meet it.
    let (program, folder) = (server(&["http1-cut-off-ms=100"]), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("tailscale.tgz");
    let (attempts, last) = told(&download(url(&program), &file));
    assert_eq!(attempts, 3, "{last}");
    assert!(last.starts_with("failed: "), "{last}");
    assert!(!file.exists());
}

#[test]
fn it_tries_again_after_a_server_s_error_and_not_after_a_client_s() {
    if no_tool_cache() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for (status, tried) in [("503", 3), ("429", 3), ("408", 3), ("404", 1), ("403", 1)] {
        let program = server(&[&format!("status={status}")]);
        let (attempts, last) = told(&download(url(&program), &folder.path().join("f")));
        assert_eq!((attempts, last), (tried, format!("failed: Unexpected HTTP response: {status}")));
    }
}
