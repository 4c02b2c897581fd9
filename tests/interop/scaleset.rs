//! The public client `github.com/actions/scaleset` v0.4.0, with a listener of a few lines, on `arc-listener-session`.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::program::Program;

/// The listener, built once; `None`, with the reason printed, where Go or the module cannot be had.
fn built() -> Option<&'static PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let to = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("scaleset-listener");
        let module = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/scaleset");
        let go = Command::new("go").args(["build", "-o"]).arg(&to).arg(".").current_dir(module).output();
        match go {
            Ok(done) if done.status.success() => Ok(to),
            Ok(done) => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
            Err(why) => Err(format!("no Go: {why}")),
        }
    });
    match built {
        Ok(path) => Some(path),
        Err(why) => {
            println!("skipped: the listener cannot be built: {why}");
            None
        }
    }
}

/// A listener that runs, and what it tells.
struct Listener {
    running: Child,
    out: BufReader<ChildStdout>,
}

impl Listener {
    fn start(path: &PathBuf, program: &Program) -> Self {
        let credential = |name: &str| program.ready["credentials"][name].as_str().expect("text").to_owned();
        let mut command = Command::new(path);
        command.args(["--url", &credential("config_url"), "--token", &credential("token")]);
        command.args(["--name", &credential("scale_set_name")]);
        let mut running = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let out = BufReader::new(running.stdout.take().expect("piped"));
        Self { running, out }
    }

    /// The next event of this kind. Others before it are passed over.
    fn next(&mut self, kind: &str) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.out.read_line(&mut line).expect("text"), 0, "it ended before it told of {kind}");
            let event: Value = serde_json::from_str(&line).expect("JSON");
            if event["event"] == kind {
                return event;
            }
            assert_ne!(event["event"], "error", "{event}");
        }
    }

    /// Waits for the end of a listener that gives up, and says why it did.
    fn error(mut self) -> String {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("text");
        assert_eq!(self.running.wait().expect("it ends").code(), Some(1));
        let mut last = rest.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let error = last.rfind(|event| event["event"] == "error").expect("an error");
        error["error"].as_str().expect("text").to_owned()
    }

    fn kill(&mut self) {
        self.running.kill().expect("it runs");
        self.running.wait().expect("it ends");
    }

    /// Asks for its end, as a controller does.
    fn terminate(mut self) -> Vec<Value> {
        let kill = format!("kill -TERM {}", self.running.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("text");
        self.running.wait().expect("it ends");
        rest.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A test that fails leaves nothing behind; one that is through has waited already.
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}

/// A server with short polls and these settings, whose journal is kept.
fn serve(jobs: &str, settings: &[&str]) -> (Program, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal.jsonl");
    let mut options = vec!["--journal", journal.to_str().expect("text"), "--jobs", jobs, "--set", "poll-hold=1"];
    for setting in settings {
        options.extend(["--set", setting]);
    }
    let program = Program::start("arc-listener-session", &options);
    (program, folder)
}

/// The facts of a kind in the journal so far.
fn facts(folder: &tempfile::TempDir, kind: &str) -> usize {
    let text = std::fs::read_to_string(folder.path().join("journal.jsonl")).expect("a journal");
    let facts = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    facts.filter(|fact| fact["fact"] == kind).count()
}

#[test]
fn it_polls_acknowledges_acquires_and_ends_its_session() {
    let Some(path) = built() else { return };
    let (program, folder) = serve("2", &[]);
    let mut listener = Listener::start(path, &program);
    assert_eq!(listener.next("registered")["runner"], "runner-1");
    assert_eq!(listener.next("session")["owner"], "listener-of-arc-runner-set-1");
    assert_eq!(listener.next("desired")["count"], 0, "what the session says");
    while listener.next("desired")["count"] != 2 {}
    for (fact, count) in [("message_acked", 2), ("job_offered", 2), ("message_handled", 2)] {
        assert_eq!(facts(&folder, fact), count, "{fact}");
    }
    let told = listener.terminate();
    assert!(told.iter().all(|event| event["event"] != "close"), "the session could not be deleted: {told:?}");
    assert_eq!(facts(&folder, "session_closed"), 1);
    assert_eq!(program.interrupt("TERM").code, Some(0));
}

#[test]
fn after_a_kill_its_own_session_is_in_the_way() {
    let Some(path) = built() else { return };
    let (program, folder) = serve("0", &[]);
    let mut first = Listener::start(path, &program);
    first.next("desired");
    first.kill();
    let error = Listener::start(path, &program).error();
    assert!(error.contains("409 Conflict"), "{error}");
    assert!(error.contains("RunnerScaleSetSessionConflictException"), "{error}");
    assert!(error.contains("already has an active session for owner listener-of-arc-runner-set-1"), "{error}");
    assert_eq!(facts(&folder, "session_conflict"), 1);
}

#[test]
fn a_token_that_expires_is_renewed() {
    let Some(path) = built() else { return };
    let (program, folder) = serve("0", &["queue-token-life=2"]);
    let mut listener = Listener::start(path, &program);
    for _ in 0..6 {
        assert_eq!(listener.next("desired")["count"], 0);
    }
    assert_eq!(facts(&folder, "session_opened"), 1);
    assert_eq!(facts(&folder, "session_closed"), 0);
}

#[test]
fn a_token_that_is_not_known_everywhere_at_once_ends_it() {
    let Some(path) = built() else { return };
    let (program, _folder) = serve("0", &["queue-token-lag=5"]);
    let error = Listener::start(path, &program).error();
    assert!(error.contains("message queue token expired"), "{error}");
}

#[test]
fn a_creation_whose_answer_was_lost_conflicts_with_itself() {
    let Some(path) = built() else { return };
    let (program, folder) = serve("0", &["lost-session-answers=1"]);
    let error = Listener::start(path, &program).error();
    assert!(error.contains("RunnerScaleSetSessionConflictException"), "{error}");
    assert_eq!((facts(&folder, "session_opened"), facts(&folder, "session_conflict")), (1, 1));
}
