//! `@actions/tool-cache`, which setup actions download with, on `flox-download`, and beside it our own download that
//! stands for it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use squall_protocol::flox::agent::{self, FOLDER as FINAL, Failure, Install, Machine, Settings, Wanted};
use squall_protocol::flox::wire::{DIGEST_ENDING, Digest};
use squall_protocol::flox::{Cache, Choices, Destination, Stall, Transfer};
use squall_protocol::http::{Body, full};
use squall_protocol::live::{self, LiveClock, LiveDisk};
use squall_protocol::{Clock, Http, Mono};
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};

use crate::skipped::{is_unreachable, skipped};
use crate::stage::Stage;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/tool-cache");

/// Says why and returns true when the package cannot be had.
fn no_tool_cache() -> bool {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(missing);
    missing.iter().for_each(|why| skipped(why));
    missing.is_some()
}

/// Installs the package, if it is not there yet. What keeps it from being had: no Node.js, no npm, or no way to the
/// registry; whatever else goes wrong is a failure of the test.
fn missing() -> Option<String> {
    if Command::new("node").arg("--version").output().is_err() {
        return Some("no Node.js is installed".to_owned());
    }
    if Path::new(FOLDER).join("node_modules/@actions/tool-cache").exists() {
        return None;
    }
    match Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(FOLDER).output() {
        Err(why) => Some(format!("@actions/tool-cache is not installed, and there is no npm: {why}")),
        Ok(done) if done.status.success() => None,
        Ok(failed) => {
            let told = String::from_utf8_lossy(&failed.stderr);
            assert!(is_unreachable(&told), "npm ci: {told}");
            Some(format!("the registry cannot be reached: {told}"))
        }
    }
}

/// A server whose file takes less than a second, with some settings.
fn server(settings: &[&str]) -> Stage {
    Stage::serving("flox-download", &[&["size=300000", "rate=1000000"], settings].concat(), &[])
}

fn download(stage: &Stage) -> Output {
    let mut node = Command::new("node");
    node.arg("download.mjs").arg(stage.credential("file_url")).arg(destination(stage)).current_dir(FOLDER);
    node.output().expect("node runs")
}

fn destination(stage: &Stage) -> std::path::PathBuf {
    stage.folder.path().join("tailscale.tgz")
}

/// How often it tried, and what it said at last.
fn told(output: &Output) -> (usize, String) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let waits = text.matches("seconds before trying again").count();
    (waits + 1, text.lines().last().unwrap_or_default().to_owned())
}

/// Real time but for the pauses between attempts, which `download.mjs` leaves out, too.
struct WithoutPauses {
    clock: LiveClock,
    pauses: AtomicUsize,
}

impl Clock for WithoutPauses {
    fn wall(&self) -> jiff::Timestamp {
        self.clock.wall()
    }

    fn mono(&self) -> Mono {
        self.clock.mono()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        // All limits of this client are longer.
        let is_pause = (10..=20).contains(&duration.as_secs());
        if is_pause {
            self.pauses.fetch_add(1, Ordering::Relaxed);
        }
        self.clock.sleep(if is_pause { Duration::ZERO } else { duration })
    }
}

/// The network, where the digest is known: it is not tool-cache that asks for it.
fn network(stage: &Stage) -> Http {
    let (http, digest) = (live::http(), stage.credential("sha256").to_owned());
    BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
        let known = request.uri().path().ends_with(DIGEST_ENDING).then(|| Response::new(full(digest.clone())));
        let http = http.clone();
        async move {
            match known {
                Some(known) => Ok(known),
                None => http.oneshot(request).await,
            }
        }
        .boxed()
    }))
}

/// Our own download in the same situation: how often it tried, and what came of it. `left_behind` is there already.
fn own(stage: &Stage, left_behind: Option<&str>) -> (usize, Result<(), Failure>) {
    struct Used;
    impl Install for Used {
        fn install(&self, _: &str, _: &str) {}
    }
    let root = stage.folder.path().join("own");
    if let Some(content) = left_behind {
        let name = stage.credential("file_url").rsplit('/').next().expect("a name");
        fs::create_dir_all(root.join(FINAL)).expect("a folder");
        fs::write(root.join(FINAL).join(name), content).expect("a file");
    }
    let clock = Arc::new(WithoutPauses { clock: LiveClock::start(), pauses: AtomicUsize::new(0) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let done = runtime.block_on(async {
        let machine = Machine {
            clock: clock.clone(),
            http: network(stage),
            random: squall::serve::entropy(),
            disk: Arc::new(LiveDisk::at(&root).expect("a folder")),
        };
        let settings = Settings {
            publisher: stage.program.ready["url"].as_str().expect("text").to_owned(),
            archive: None,
            cache: None,
            version: Wanted::Exactly(stage.credential("version").to_owned()),
            arch: "amd64".to_owned(),
            job: "job-1".to_owned(),
        };
        let choices = Choices {
            transfer: Transfer::ToolCache,
            destination: Destination::SharedAndNew,
            stall: Stall::Unguarded,
            cache: Cache::ByVersionAlone,
            ..Choices::upstream()
        };
        agent::fetch(machine, choices, settings, &Used).await
    });
    (clock.pauses.load(Ordering::Relaxed) + 1, done)
}

/// What the server saw of a client: each call with its version of HTTP and its status, and whether the whole file was sent.
fn seen(stage: &Stage) -> (Vec<(String, String, u16)>, Vec<bool>) {
    let calls = stage.calls().into_iter().map(|call| {
        assert_eq!(call.query, None);
        (call.version, format!("{} {}", call.method, call.path), call.status)
    });
    let sent = stage.journal().into_iter().filter(|fact| fact["fact"] == "artifact_sent");
    (calls.collect(), sent.map(|fact| fact["whole"] == true).collect())
}

#[test]
fn it_downloads_the_file() {
    if no_tool_cache() {
        return;
    }
    let stage = server(&[]);
    let file = destination(&stage);
    assert_eq!(told(&download(&stage)), (1, format!("done: {}", file.display())));
    let digest = Digest::of(&fs::read(&file).expect("a file"));
    assert_eq!(stage.credential("sha256"), digest.as_str());
    let real = seen(&stage);
    assert_eq!((real.0.len(), &*real.0[0].0, &*real.1), (1, "HTTP/1.1", &[true][..]));
    let stage = server(&[]);
    assert_eq!(own(&stage, None), (1, Ok(())));
    assert_eq!(seen(&stage), real);
}

#[test]
fn it_refuses_what_is_there_already_three_times() {
    if no_tool_cache() {
        return;
    }
    let stage = server(&[]);
    let file = destination(&stage);
    fs::write(&file, "left behind").expect("a file");
    let exists = format!("failed: Destination file path {} already exists", file.display());
    assert_eq!(told(&download(&stage)), (3, exists));
    let (attempts, done) = own(&stage, Some("left behind"));
    assert_eq!(attempts, 3);
    let refused = done.expect_err("it is refused");
    assert!(matches!(refused, Failure::Exists(_)) && refused.to_string().ends_with("already exists"), "{refused}");
    assert!(seen(&stage).0.is_empty(), "neither asked for it");
}

#[test]
fn it_begins_anew_three_times_and_leaves_nothing_behind() {
    if no_tool_cache() {
        return;
    }
    // It speaks HTTP/1.1 alone: a limit for HTTP/2 does not meet it.
    let settings = ["http1-cut-off-ms=100", "http2-cut-off-ms=never"];
    let stage = server(&settings);
    let (attempts, last) = told(&download(&stage));
    assert_eq!(attempts, 3, "{last}");
    assert!(last.starts_with("failed: "), "{last}");
    assert!(!destination(&stage).exists());
    let real = seen(&stage);
    assert_eq!((real.0.len(), &*real.1), (3, &[false; 3][..]));
    let stage = server(&settings);
    let (attempts, done) = own(&stage, None);
    assert!((attempts, done.is_err()) == (3, true));
    assert_eq!(seen(&stage), real);
    let left = fs::read_dir(stage.folder.path().join("own").join(FINAL)).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[test]
fn it_tries_again_after_a_server_s_error_and_not_after_a_client_s() {
    if no_tool_cache() {
        return;
    }
    for (status, tried) in [(503, 3), (501, 3), (429, 3), (408, 3), (404, 1), (403, 1)] {
        let settings = [&*format!("status={status}")];
        let stage = server(&settings);
        let (attempts, last) = told(&download(&stage));
        assert_eq!((attempts, last), (tried, format!("failed: Unexpected HTTP response: {status}")));
        let real = seen(&stage);
        let stage = server(&settings);
        let (attempts, done) = own(&stage, None);
        let refused = done.expect_err("it is refused");
        assert!(matches!(&refused, Failure::Status { status: told, .. } if *told == status), "{refused}");
        assert_eq!((attempts, seen(&stage)), (tried, real), "{status}");
    }
}
