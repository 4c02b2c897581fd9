//! curl on `flox-download`, and beside it our own download that stands for it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use http::header;
use serde_json::Value;
use squall_protocol::flox::agent::{self, Failure, Install, Machine, Settings, Wanted};
use squall_protocol::flox::wire::Digest;
use squall_protocol::flox::{Choices, Transfer};
use squall_protocol::live::{self, LiveClock, LiveDisk};
use tempfile::TempDir;

use crate::program::Program;
use crate::skipped::skipped;

/// Says why and returns true when there is no curl that speaks HTTP/2.
fn no_curl() -> bool {
    let version = Command::new("curl").arg("--version").output();
    let found = version.is_ok_and(|told| String::from_utf8_lossy(&told.stdout).contains("HTTP2"));
    if !found {
        skipped("no curl with HTTP/2 is installed");
    }
    !found
}

/// A server of a file of 300 kB at 400 kB a second, which it cuts off after 300 ms, and a folder for its client.
struct Stage {
    program: Program,
    folder: TempDir,
}

impl Stage {
    fn with(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = folder.path().join("journal.jsonl");
        let mut options = vec!["--journal", journal.to_str().expect("text")];
        let usual = ["size=300000", "rate=400000", "http2-cut-off-ms=300", "http1-cut-off-ms=300"];
        for setting in usual.iter().chain(settings) {
            options.extend(["--set", setting]);
        }
        let program = Program::start("flox-download", &options);
        Self { program, folder }
    }

    fn credential(&self, name: &str) -> &str {
        self.program.ready["credentials"][name].as_str().expect("text")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("tailscale.tgz")
    }

    /// Runs curl on the file, with these options besides.
    fn curl(&self, options: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-o"]).arg(self.file()).args(options).arg(self.credential("file_url"));
        curl.output().expect("curl runs")
    }

    /// The bytes of each answer with the file so far, as the server's journal has them.
    fn sent(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(self.folder.path().join("journal.jsonl")).expect("a journal");
        let facts = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        facts
            .filter(|fact| fact["fact"] == "artifact_sent")
            .map(|fact| fact["bytes"].as_u64().expect("bytes"))
            .collect()
    }

    fn has_published(&self) -> bool {
        digest_of(&self.file()).as_str() == self.credential("sha256")
    }

    /// Our own download in the same situation.
    fn own(&self, choices: Choices) -> Result<(), Failure> {
        struct Used;
        impl Install for Used {
            fn install(&self, _: &str, _: &str) {}
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let machine = Machine {
                clock: Arc::new(LiveClock::start()),
                http: live::http(),
                random: squall::serve::entropy(),
                disk: Arc::new(LiveDisk::at(self.folder.path().join("own")).expect("a folder")),
            };
            let settings = Settings {
                publisher: self.program.ready["url"].as_str().expect("text").to_owned(),
                archive: None,
                cache: None,
                version: Wanted::Exactly(self.credential("version").to_owned()),
                arch: "amd64".to_owned(),
                job: "job-1".to_owned(),
            };
            agent::fetch(machine, choices, settings, &Used).await
        })
    }
}

fn digest_of(file: &Path) -> Digest {
    Digest::of(&std::fs::read(file).expect("a file"))
}

#[track_caller]
fn assert_failed(output: &Output, code: i32, words: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    words.iter().for_each(|word| assert!(told.contains(word), "{word:?} is missing in {told:?}"));
}

const HTTP2: &str = "--http2-prior-knowledge";

#[test]
fn a_stream_that_is_cut_off_is_exit_code_92() {
    if no_curl() {
        return;
    }
    let stage = Stage::with(&[]);
    let failed = stage.curl(&[HTTP2]);
    assert_failed(&failed, 92, &["curl: (92) HTTP/2 stream", "was not closed cleanly: INTERNAL_ERROR (err 2)"]);
    let left = std::fs::metadata(stage.file()).expect("a part").len();
    assert!((50_000..200_000).contains(&left), "{left} bytes came");
    let own = stage.own(Choices { transfer: Transfer::CurlOnce, ..Choices::upstream() }).expect_err("it is cut off");
    assert_eq!(own.exit_code(), 92);
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(own.line(None), told.trim());
    let ended = stage.program.interrupt("INT");
    assert_eq!((ended.code, &ended.verdict["verdict"]), (Some(0), &Value::from("pass")));
}

#[test]
fn the_code_of_a_reset_is_what_the_server_was_set_to() {
    if no_curl() {
        return;
    }
    for (name, code, words) in [
        ("ENHANCE_YOUR_CALM", 92, "was not closed cleanly: ENHANCE_YOUR_CALM (err 11)"),
        ("CANCEL", 92, "was not closed cleanly: CANCEL (err 8)"),
        ("REFUSED_STREAM", 56, "Failure when receiving data from the peer"),
        // To curl the stream has ended in order, and too early.
        ("NO_ERROR", 18, "transfer closed with"),
    ] {
        let stage = Stage::with(&[&format!("http2-reset={name}")]);
        let failed = stage.curl(&[HTTP2]);
        assert_failed(&failed, code, &[&format!("curl: ({code})"), words]);
        let own =
            stage.own(Choices { transfer: Transfer::CurlOnce, ..Choices::upstream() }).expect_err("it is cut off");
        assert_eq!(own.exit_code(), code, "{name}: {own}");
        assert!(own.line(Some(1)).contains(words), "{name}: {}", own.line(Some(1)));
    }
}

#[test]
fn a_body_that_is_cut_off_is_exit_code_18() {
    if no_curl() {
        return;
    }
    let stage = Stage::with(&[]);
    let failed = stage.curl(&["--http1.1"]);
    assert_failed(&failed, 18, &["curl: (18) transfer closed with", "bytes remaining to read"]);
}

#[test]
fn retry_does_not_cover_92_and_retry_all_errors_does() {
    if no_curl() {
        return;
    }
    for (options, transfer, attempts) in [
        (&["--retry", "3"][..], Transfer::CurlRetry, 1),
        (&["--retry", "3", "--retry-all-errors"][..], Transfer::CurlRetryAllErrors, 4),
    ] {
        let stage = Stage::with(&[]);
        let failed = stage.curl(&[&[HTTP2], options].concat());
        let told = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(told.contains("curl: (92)") && told.contains("INTERNAL_ERROR"), "{told}");
        let tries = told.matches("curl: (").count();
        assert_eq!(tries > 1, attempts > 1, "{told}");
        // curl 7.88 tries again on the connection whose stream was cut off, and meets the framing error 16 before it sends.
        let (code, sent) = (failed.status.code(), stage.sent().len());
        let as_announced = code == Some(92) && sent == attempts;
        assert!(as_announced || (attempts > 1 && code == Some(16)), "{options:?}: {code:?}, {sent} sent, {told}");
        let own = stage.own(Choices { transfer, ..Choices::upstream() }).expect_err("it is cut off");
        assert_eq!((own.exit_code(), stage.sent().len()), (92, sent + attempts), "{options:?}");
    }
}

#[test]
fn statuses_are_failures_with_fail_alone() {
    if no_curl() {
        return;
    }
    let stage = Stage::with(&["status=503"]);
    assert_failed(&stage.curl(&[HTTP2, "--fail"]), 22, &["curl: (22) The requested URL returned error: 503"]);
    let saved = stage.curl(&[HTTP2]);
    assert_eq!(saved.status.code(), Some(0));
    assert!(std::fs::read_to_string(stage.file()).expect("a page").contains("<html>"));
    let own = stage.own(Choices { transfer: Transfer::CurlOnce, ..Choices::upstream() }).expect_err("it is refused");
    assert_eq!(own.line(None), "curl: (22) The requested URL returned error: 503");
}

#[test]
fn a_part_is_resumed_until_it_is_whole() {
    if no_curl() {
        return;
    }
    for protocol in [HTTP2, "--http1.1"] {
        let stage = Stage::with(&[]);
        let mut attempts = 0;
        while stage.curl(&[protocol, "-C", "-"]).status.code() != Some(0) {
            attempts += 1;
            assert!(attempts < 20, "{protocol}: {:?}", stage.sent());
        }
        assert!(attempts >= 2, "{protocol}: {:?}", stage.sent());
        assert!(stage.has_published(), "{protocol}");
    }
    let stage = Stage::with(&[]);
    assert_eq!(stage.own(Choices::hardened()), Ok(()));
    assert!(stage.sent().len() >= 3, "{:?}", stage.sent());
}

#[test]
fn curl_continues_a_part_with_the_bytes_of_another_object() {
    if no_curl() {
        return;
    }
    let stage = Stage::with(&["http1-cut-off-ms=never"]);
    assert_failed(&stage.curl(&[HTTP2, "-C", "-"]), 92, &[]);
    let part = std::fs::read(stage.file()).expect("a part");
    let replaced = stage.publish();
    assert_eq!(stage.curl(&["--http1.1", "-C", "-"]).status.code(), Some(0));
    let whole = std::fs::read(stage.file()).expect("a file");
    assert_eq!((whole.len(), &whole[..part.len()]), (300_000, &part[..]));
    let spliced = Digest::of(&whole);
    assert!(!stage.has_published() && spliced.as_str() != replaced, "no If-Range was sent");
}

impl Stage {
    /// Replaces the file; returns the digest of the new one.
    fn publish(&self) -> String {
        let admin = &self.program.ready["admin"];
        let (url, token) = (admin["url"].as_str().expect("text"), admin["token"].as_str().expect("text"));
        let body = serde_json::json!({ "version": self.credential("version") }).to_string();
        let authorization = format!("{}: Bearer {token}", header::AUTHORIZATION);
        let posted = Command::new("curl")
            .args(["-sS", "--fail", "-H", &authorization, "-H", "content-type: application/json", "-d", &body])
            .arg(format!("{url}/publish"))
            .output()
            .expect("curl runs");
        assert!(posted.status.success(), "{posted:?}");
        let answer: Value = serde_json::from_slice(&posted.stdout).expect("JSON");
        answer["sha256"].as_str().expect("a digest").to_owned()
    }
}
