//! The calls that a server on a real port answers, in a file.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use serde::{Deserialize, Serialize};
use squall_protocol::Clock;
use squall_protocol::live::LiveClock;

/// A call in the file: one JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its place among those that were answered, counted from 1.
    pub seq: u64,
    /// When its answer began, in nanoseconds since the server started.
    pub since_start_ns: u64,
    /// The version of HTTP that it was made in.
    pub version: String,
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// What its path is followed by.
    pub query: Option<String>,
    /// The status of its answer.
    pub status: u16,
}

/// The file. Handles share it.
#[derive(Clone)]
pub struct LiveCalls {
    clock: LiveClock,
    written: Arc<Mutex<Written>>,
}

struct Written {
    count: u64,
    file: Result<File, Option<io::Error>>,
}

impl LiveCalls {
    /// An empty file whose time starts with `clock`. What was in it is replaced.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn start(clock: LiveClock, file: &Path) -> io::Result<Self> {
        let file = Ok(File::create(file)?);
        Ok(Self { clock, written: Arc::new(Mutex::new(Written { count: 0, file })) })
    }

    /// Writes down what `router` answers. A call whose caller was gone before is not among it.
    pub fn of(&self, router: Router) -> Router {
        let calls = self.clone();
        router.layer(from_fn(move |request: Request, next: Next| {
            let calls = calls.clone();
            async move {
                let (version, method, uri) = (request.version(), request.method().clone(), request.uri().clone());
                let answer = next.run(request).await;
                calls.write(|seq, since_start_ns| Line {
                    seq,
                    since_start_ns,
                    version: format!("{version:?}"),
                    method: method.to_string(),
                    path: uri.path().to_owned(),
                    query: uri.query().map(str::to_owned),
                    status: answer.status().as_u16(),
                });
                answer
            }
        }))
    }

    /// Why the file lacks its end, if it does.
    pub fn failure(&self) -> Option<io::Error> {
        self.lock().file.as_mut().err().and_then(Option::take)
    }

    fn write(&self, line: impl FnOnce(u64, u64) -> Line) {
        let mut written = self.lock();
        written.count += 1;
        let seq = written.count;
        let since_start = self.clock.mono().since_start();
        let line = line(seq, u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX));
        let mut text = serde_json::to_vec(&line).expect("it is plain data");
        text.push(b'\n');
        // After a failure nothing more is written: what follows would be a list with a hole.
        if let Ok(file) = &mut written.file
            && let Err(error) = file.write_all(&text)
        {
            written.file = Err(Some(error));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn asked(calls: &LiveCalls, uri: &str) {
        let router = calls.of(Router::new().route("/there", get(|| async { "yes" })));
        let Ok(_) = router.oneshot(Request::get(uri).body(Body::empty()).expect("plain")).await;
    }

    #[tokio::test]
    async fn each_call_is_on_a_line_once_it_is_answered() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("calls.jsonl");
        let calls = LiveCalls::start(LiveClock::start(), &path).expect("it can be written");
        for (n, (uri, status)) in (1..).zip([("/there?x=1", 200), ("/nowhere", 404)]) {
            asked(&calls, uri).await;
            let text = std::fs::read_to_string(&path).expect("it is there");
            let last: Line = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
            assert_eq!((last.seq, last.status, text.lines().count()), (n, status, n as usize));
            assert_eq!((last.method.as_str(), last.version.as_str()), ("GET", "HTTP/1.1"));
            let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
            assert_eq!((last.path.as_str(), last.query.as_deref()), (path, query));
        }
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_full_disk_is_told() {
        let calls = LiveCalls::start(LiveClock::start(), Path::new("/dev/full")).expect("it can be opened");
        assert!(calls.failure().is_none());
        asked(&calls, "/there").await;
        assert_eq!(calls.failure().map(|why| why.kind()), Some(io::ErrorKind::StorageFull));
    }
}
