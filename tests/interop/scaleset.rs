//! The public client `github.com/actions/scaleset` v0.4.0, with a listener of a few lines, on `arc-listener-session`, and
//! beside it our own listener that stands for it.

use std::future;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use axum::response::Json;
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use serde_json::{Value, json};
use squall_protocol::arc::Choices;
use squall_protocol::arc::agent::{self, Configuration};
use squall_protocol::line::SharedRandom;
use squall_protocol::live::{self, LiveClock};
use squall_protocol::{Line, Shutdown};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::skipped::{is_unreachable, skipped};
use crate::stage::Stage;

/// The listener, built once; `None`, with the reason printed, where Go or the module cannot be had. A listener that does
/// not compile fails the test.
fn built() -> Option<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BUILT.get_or_init(build) {
        Ok(path) => Some(path),
        Err(why) => {
            skipped(why);
            None
        }
    }
}

fn build() -> Result<PathBuf, String> {
    let module = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/scaleset");
    let go = |arguments: &[&str]| Command::new("go").args(arguments).current_dir(module).output();
    let told = |stderr: &[u8]| String::from_utf8_lossy(stderr).into_owned();
    let modules = go(&["mod", "download"]).map_err(|why| format!("no Go is installed: {why}"))?;
    if !modules.status.success() {
        let told = told(&modules.stderr);
        assert!(is_unreachable(&told), "go mod download: {told}");
        return Err(format!("the module proxy cannot be reached: {told}"));
    }
    let to = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("scaleset-listener");
    let built = go(&["build", "-o", to.to_str().expect("text"), "."]).expect("Go was there a moment ago");
    assert!(built.status.success(), "the listener cannot be built: {}", told(&built.stderr));
    Ok(to)
}

/// A listener that runs, and what it tells.
struct Listener {
    running: Child,
    out: BufReader<ChildStdout>,
}

impl Listener {
    fn start(path: &Path, stage: &Stage) -> Self {
        let mut command = Command::new(path);
        command.args(["--url", stage.credential("config_url"), "--token", stage.credential("token")]);
        command.args(["--name", stage.credential("scale_set_name")]);
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

/// Our own listener with the design of the real one, in a process of its own as far as the server can tell.
struct Own {
    running: JoinHandle<Option<i32>>,
    ends: oneshot::Sender<End>,
}

enum End {
    /// As by SIGTERM.
    Asked,
    /// As by SIGKILL.
    Killed,
}

impl Own {
    fn start(stage: &Stage) -> Self {
        let set = stage.credential("scale_set_name").to_owned();
        let mut configuration = Configuration {
            config_url: stage.credential("config_url").to_owned(),
            credential: stage.credential("token").to_owned(),
            owner: format!("listener-of-{set}"),
            scale_set: set,
            scale_set_id: stage.program.ready["credentials"]["scale_set_id"].as_i64().expect("a number"),
            min_runners: 0,
            max_runners: 3,
            cluster_url: String::new(),
        };
        let (ends, ended) = oneshot::channel();
        let running = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (cluster, at) = cluster().await;
                configuration.cluster_url = at;
                let (asked, killed) = told_apart(ended);
                let line = Line {
                    clock: Arc::new(LiveClock::start()),
                    http: live::http(),
                    random: SharedRandom::new(squall::serve::entropy()),
                };
                let listening = agent::run(line, Choices::upstream(), configuration, asked);
                let around = async { select(pin!(cluster), pin!(killed)).map(|_| None).await };
                match select(pin!(listening), pin!(around)).await {
                    Either::Left((code, _)) => Some(code),
                    Either::Right((killed, _)) => killed,
                }
            })
        });
        Self { running, ends }
    }

    fn end(self, end: End) -> Option<i32> {
        // It may have ended already.
        let _ = self.ends.send(end);
        self.running.join().expect("it does not panic")
    }

    /// Waits for the end of a listener that gives up.
    fn exit_code(self) -> Option<i32> {
        let Self { running, ends: _alive } = self;
        running.join().expect("it does not panic")
    }
}

/// A cluster that does whatever it is asked to.
async fn cluster() -> (impl Future<Output = ()>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let agrees = axum::Router::new().fallback(|| async { Json(json!({"kind": "EphemeralRunnerSet"})) });
    (live::serve(listener, agrees, Shutdown::never()), url)
}

/// The request to stop, and the end without one.
fn told_apart(ended: oneshot::Receiver<End>) -> (Shutdown, impl Future<Output = ()>) {
    let ended = ended.map(|end| match end {
        Ok(End::Asked) => true,
        Ok(End::Killed) | Err(_) => false,
    });
    let ended = ended.shared();
    let asked = ended.clone();
    let when = async move {
        if !asked.await {
            future::pending::<()>().await;
        }
    };
    let killed = async move {
        if ended.await {
            future::pending::<()>().await;
        }
    };
    (Shutdown::when(when), killed)
}

/// A server with short polls and these settings.
fn serve(jobs: &str, settings: &[&str]) -> Stage {
    Stage::serving("arc-listener-session", &[&["poll-hold=1"], settings].concat(), &["--jobs", jobs])
}

/// A call as the server saw it, with its numbers and names left out.
type Seen = (String, u16);

/// What the server saw of a listener, in order. Polls and the like that are repeated count once, and what our few lines of
/// Go ask for besides, a runner that is registered and removed again, not at all.
fn seen(stage: &Stage) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    for call in stage.calls() {
        let besides = call.path.contains("/agents")
            || call.path.ends_with("/generatejitconfig")
            || call.path.ends_with("/runnerscalesets");
        let part = |part: &str| match part.parse::<u64>().is_ok() || part.len() == 36 {
            true => "*".to_owned(),
            false => part.to_owned(),
        };
        let path: Vec<String> = call.path.split('/').map(part).collect();
        let cursor = call.query.as_deref().unwrap_or_default().contains("lastMessageId=");
        let seen = (format!("{} {}{}", call.method, path.join("/"), if cursor { "?cursor" } else { "" }), call.status);
        if !besides && all.last() != Some(&seen) {
            all.push(seen);
        }
    }
    all
}

fn is_empty_poll(call: &Seen) -> bool {
    call.0.starts_with("GET ") && call.1 == 202
}

/// The statuses of the calls by this method.
fn statuses(seen: &[Seen], method: &str) -> Vec<u16> {
    let by_method = seen.iter().filter(|(call, _)| call.split(' ').next() == Some(method));
    by_method.map(|(_, status)| *status).collect()
}

fn has_polled_in_vain(stage: &Stage) -> bool {
    seen(stage).last().is_some_and(is_empty_poll)
}

fn has_done_two_jobs(stage: &Stage) -> bool {
    stage.facts("message_handled") == 2 && has_polled_in_vain(stage)
}

#[test]
fn it_polls_acknowledges_acquires_and_ends_its_session() {
    let Some(path) = built() else { return };
    let stage = serve("2", &[]);
    let mut listener = Listener::start(path, &stage);
    assert_eq!(listener.next("registered")["runner"], "runner-1");
    assert_eq!(listener.next("session")["owner"], "listener-of-arc-runner-set-1");
    assert_eq!(listener.next("desired")["count"], 0, "what the session says");
    while listener.next("desired")["count"] != 2 {}
    stage.wait_until("two jobs are handled", has_done_two_jobs);
    let counts = |stage: &Stage| ["message_acked", "job_offered", "message_handled"].map(|fact| stage.facts(fact));
    assert_eq!(counts(&stage), [2, 2, 2]);
    let told = listener.terminate();
    assert!(told.iter().all(|event| event["event"] != "close"), "the session could not be deleted: {told:?}");
    assert_eq!(stage.facts("session_closed"), 1);
    let real = seen(&stage);
    assert_eq!(stage.program.interrupt("TERM").code, Some(0));

    let stage = serve("2", &[]);
    let own = Own::start(&stage);
    stage.wait_until("two jobs are handled", has_done_two_jobs);
    assert_eq!(counts(&stage), [2, 2, 2]);
    assert_eq!(own.end(End::Asked), Some(agent::exit::FAILED));
    assert_eq!((stage.facts("session_closed"), seen(&stage)), (1, real));
}

#[test]
fn after_a_kill_its_own_session_is_in_the_way() {
    let Some(path) = built() else { return };
    let stage = serve("0", &[]);
    let mut first = Listener::start(path, &stage);
    first.next("desired");
    stage.wait_until("it polls", has_polled_in_vain);
    first.kill();
    let error = Listener::start(path, &stage).error();
    assert!(error.contains("409 Conflict"), "{error}");
    assert!(error.contains("RunnerScaleSetSessionConflictException"), "{error}");
    assert!(error.contains("already has an active session for owner listener-of-arc-runner-set-1"), "{error}");
    assert_eq!(stage.facts("session_conflict"), 1);
    let real = seen(&stage);
    assert_eq!(statuses(&real, "POST").last(), Some(&409));

    let stage = serve("0", &[]);
    let own = Own::start(&stage);
    stage.wait_until("it polls", has_polled_in_vain);
    assert_eq!(own.end(End::Killed), None);
    assert_eq!(Own::start(&stage).exit_code(), Some(agent::exit::FAILED));
    assert_eq!((stage.facts("session_conflict"), seen(&stage)), (1, real));
}

/// The calls up to the first poll after a renewal that is not refused.
fn up_to_renewed(stage: &Stage) -> Option<Vec<Seen>> {
    let mut seen = seen(stage);
    let renewed = seen.iter().position(|(call, _)| call.starts_with("PATCH "))?;
    let polled = renewed + seen[renewed..].iter().position(is_empty_poll)?;
    seen.truncate(polled + 1);
    Some(seen)
}

#[test]
fn a_token_that_expires_is_renewed() {
    let Some(path) = built() else { return };
    let expiring = ["queue-token-life=2"];
    let stage = serve("0", &expiring);
    let mut listener = Listener::start(path, &stage);
    stage.wait_until("the session is renewed", |stage| up_to_renewed(stage).is_some());
    let real = up_to_renewed(&stage).expect("it is renewed");
    assert_eq!(statuses(&real, "GET"), [202, 401, 202], "{real:?}");
    assert_eq!(statuses(&real, "PATCH"), [200], "{real:?}");
    assert_eq!((stage.facts("session_opened"), stage.facts("session_closed")), (1, 0));
    listener.kill();

    let stage = serve("0", &expiring);
    let own = Own::start(&stage);
    stage.wait_until("the session is renewed", |stage| up_to_renewed(stage).is_some());
    assert_eq!(up_to_renewed(&stage).expect("it is renewed"), real);
    own.end(End::Killed);
}

#[test]
fn a_token_that_does_not_expire_is_not_renewed() {
    let Some(path) = built() else { return };
    let stage = serve("0", &[]);
    let mut listener = Listener::start(path, &stage);
    for _ in 0..6 {
        assert_eq!(listener.next("desired")["count"], 0);
    }
    let real = seen(&stage);
    assert_eq!(statuses(&real, "GET"), [202], "{real:?}");
    assert!(statuses(&real, "PATCH").is_empty(), "{real:?}");
    listener.kill();
}

#[test]
fn a_token_that_is_not_known_everywhere_at_once_ends_it() {
    let Some(path) = built() else { return };
    let stage = serve("0", &["queue-token-lag=5"]);
    let error = Listener::start(path, &stage).error();
    assert!(error.contains("message queue token expired"), "{error}");
    let real = seen(&stage);
    assert_eq!(statuses(&real, "GET"), [401, 401], "{real:?}");

    let stage = serve("0", &["queue-token-lag=5"]);
    assert_eq!(Own::start(&stage).exit_code(), Some(agent::exit::FAILED));
    assert_eq!(seen(&stage), real);
}

#[test]
fn a_creation_whose_answer_was_lost_conflicts_with_itself() {
    let Some(path) = built() else { return };
    let stage = serve("0", &["lost-session-answers=1"]);
    let error = Listener::start(path, &stage).error();
    assert!(error.contains("RunnerScaleSetSessionConflictException"), "{error}");
    let conflict = |stage: &Stage| (stage.facts("session_opened"), stage.facts("session_conflict"));
    assert_eq!(conflict(&stage), (1, 1));
    let real = seen(&stage);

    let stage = serve("0", &["lost-session-answers=1"]);
    assert_eq!(Own::start(&stage).exit_code(), Some(agent::exit::FAILED));
    assert_eq!((conflict(&stage), seen(&stage)), ((1, 1), real));
}
