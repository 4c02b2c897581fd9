//! `squall init` puts in place what a cargo project needs, and changes nothing that is there.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use toml_edit::DocumentMut;

/// A manifest as somebody keeps it.
const MANIFEST: &str = "# Ours.\n[package]\nname = \"agent\"   # the agent\nversion = \"0.1.0\"\nedition = \"2021\"\n";
const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

fn squall(folder: &Path, arguments: &[&str]) -> Output {
    let mut squall = Command::new(env!("CARGO_BIN_EXE_squall"));
    squall.arg("init").args(arguments).current_dir(folder).output().expect("the program starts")
}

/// Runs it, and gives what it printed.
#[track_caller]
fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = squall(folder, arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn refused(folder: &Path, arguments: &[&str], because: &str) {
    let before = files(folder);
    let output = squall(folder, arguments);
    let told = String::from_utf8(output.stderr.clone()).expect("text");
    assert_eq!((output.status.code(), told.lines().count()), (Some(2), 1), "{told}");
    assert!(output.stdout.is_empty() || because.starts_with("cannot write"), "{output:?}");
    assert!(told.contains(because), "{told}");
    assert_eq!(files(folder), before, "it left something behind");
}

/// Every file and folder below, and what is in it.
fn files(folder: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        }
        all.push((path.display().to_string(), fs::read_to_string(&path).unwrap_or_default()));
    }
    all.sort();
    all
}

fn package() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("src")).expect("there is room");
    write(folder.path(), "Cargo.toml", MANIFEST);
    write(folder.path(), "src/lib.rs", "");
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("there is room");
    fs::write(path, text).expect("there is room");
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
}

fn toml(text: &str) -> DocumentMut {
    text.parse().expect("TOML")
}

#[test]
fn a_project_gets_what_it_lacks() {
    let folder = package();
    let before = files(folder.path());
    let shown = done(folder.path(), &["--dry-run"]);
    assert_eq!(files(folder.path()), before, "--dry-run writes nothing");
    assert!(shown.contains("squall = {") && shown.contains("\"--cfg\", \"madsim\"") && shown.contains("#[test]"));
    let told = done(folder.path(), &[]);
    assert!(told.ends_with("written; now run: cargo test --test simulation\n"), "{told}");

    let manifest = read(folder.path(), "Cargo.toml");
    assert!(manifest.starts_with(MANIFEST), "what was there is as it was: {manifest}");
    let dependencies = &toml(&manifest)["dev-dependencies"];
    assert_eq!(dependencies["squall"]["default-features"].as_bool(), Some(false));
    let path = dependencies["squall"]["path"].as_str().expect("a path");
    let there = fs::canonicalize(folder.path().join(path)).expect("it leads somewhere");
    assert_eq!(there, fs::canonicalize(CHECKOUT).expect("it is there"));
    // The test is made with the axum that the simulation serves.
    let ours = toml(&read(Path::new(CHECKOUT), "Cargo.toml"));
    assert_eq!(dependencies["axum"]["version"].as_str(), ours["workspace"]["dependencies"]["axum"]["version"].as_str());
    let configuration = toml(&read(folder.path(), ".cargo/config.toml"));
    let ours = toml(&read(Path::new(CHECKOUT), ".cargo/config.toml"));
    for flags in ["rustflags", "rustdocflags"] {
        assert_eq!(configuration["build"][flags].to_string().trim(), ours["build"][flags].to_string().trim());
    }
    let test = read(folder.path(), "tests/simulation.rs");
    assert_eq!(test, read(Path::new(CHECKOUT), "tests/examples/first.rs"), "the test that is run here as well");
}

#[test]
fn what_is_there_is_not_written_again() {
    let folder = package();
    done(folder.path(), &[]);
    let before = files(folder.path());
    let told = done(folder.path(), &[]);
    assert!(told.ends_with("nothing to write\n") && told.matches(": there: ").count() == 3, "{told}");
    assert_eq!(files(folder.path()), before);
}

#[test]
fn what_its_owner_wrote_stays() {
    let folder = package();
    let manifest =
        format!("{MANIFEST}\n[dev-dependencies]\n# For tests.\naxum = \"0.7\"\n\n[profile.dev]\ndebug = 1\n");
    write(folder.path(), "Cargo.toml", &manifest);
    write(folder.path(), ".cargo/config.toml", "[build]\nrustflags = [\"-Dwarnings\"]\n");
    write(folder.path(), "tests/mine.rs", "use squall::prelude::*;\n");
    let told = done(folder.path(), &["--git", "https://example.org/squall"]);
    assert!(told.contains("by hand: it sets rustflags") && told.contains("add \"--cfg\", \"madsim\""), "{told}");
    assert!(told.contains("by hand: axum is 0.7 here"), "{told}");
    assert_eq!(read(folder.path(), ".cargo/config.toml"), "[build]\nrustflags = [\"-Dwarnings\"]\n");
    let line = "squall = { git = \"https://example.org/squall\", default-features = false }\n";
    let with = manifest.replace("axum = \"0.7\"\n", &format!("axum = \"0.7\"\n{line}"));
    assert_eq!(read(folder.path(), "Cargo.toml"), with);
    assert!(!folder.path().join("tests/simulation.rs").exists(), "there is a test already");
}

#[test]
fn the_cfg_of_a_member_is_that_of_its_workspace() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "Cargo.toml", "[workspace]\nmembers = [\"agent\"]\n");
    write(folder.path(), ".cargo/config.toml", "[alias]\nt = \"test\"\n");
    write(folder.path(), "agent/Cargo.toml", MANIFEST);
    refused(folder.path(), &[], "is of a workspace and of no package");
    done(folder.path(), &["agent"]);
    let configuration = read(folder.path(), ".cargo/config.toml");
    assert!(
        configuration.starts_with("[alias]\nt = \"test\"\n") && configuration.contains("madsim"),
        "{configuration}"
    );
    assert!(!folder.path().join("agent/.cargo").exists());
    assert!(folder.path().join("agent/tests/simulation.rs").exists());
}

#[test]
fn what_is_no_package_is_refused_with_nothing_written() {
    let folder = tempfile::tempdir().expect("a folder");
    refused(folder.path(), &[], "has no Cargo.toml; init takes the folder of a cargo package");
    refused(folder.path(), &["nowhere"], "nowhere");
    refused(folder.path(), &[CHECKOUT], "is squall itself");
    write(folder.path(), "Cargo.toml", "[package\n");
    refused(folder.path(), &[], "is not as cargo reads it");
    write(folder.path(), "Cargo.toml", &format!("dev-dependencies = 1\n{MANIFEST}"));
    refused(folder.path(), &[], "\"dev-dependencies\" is no table");
    let folder = package();
    refused(folder.path(), &["--path", "src"], "is no checkout of squall");
    refused(folder.path(), &["--path", CHECKOUT, "--git", "x"], "cannot be used with");
}

#[test]
fn what_cannot_be_written_leaves_nothing_half_done() {
    let folder = package();
    // The manifest could be written, the test could not.
    write(folder.path(), "tests/simulation.rs/taken", "");
    refused(folder.path(), &[], "cannot write");
}

/// Without its default features the library comes without the command line.
#[test]
fn tests_need_nothing_of_the_command_line() {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "tree",
        "--package",
        "squall",
        "--no-default-features",
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
    ]);
    let output = cargo.args(["--offline", "--locked"]).current_dir(CHECKOUT).output().expect("cargo starts");
    assert!(output.status.success(), "{output:?}");
    let tree = String::from_utf8(output.stdout).expect("text");
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"squall-sim"), "{tree}");
    let manifest = toml(&read(Path::new(CHECKOUT), "Cargo.toml"));
    let of_cli = manifest["features"]["cli"].as_array().expect("a list");
    let names_of_cli = of_cli.iter().filter_map(|feature| feature.as_str()?.strip_prefix("dep:"));
    for name in names_of_cli {
        assert!(!names.contains(&name), "{name} comes with the library");
    }
}
