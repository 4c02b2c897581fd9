//! Two machines, a link of exactly 10 ms each way, and a play that is performed on them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::{Request, Response, Version};
use squall_protocol::{Body, Http, TransportError};
use squall_sim::http::{BoxError, serve};
use squall_sim::net::{Active, Alpn, Condition, ConnectError, LinkProfile, Listener, Stream};
use squall_sim::trace::Keep;
use squall_sim::{Node, Process, SimTime, World, run};
use tower::{Service, ServiceExt};

/// One way.
pub const LATENCY: Duration = Duration::from_millis(10);
/// There and back.
pub const ROUND_TRIP: Duration = Duration::from_millis(20);
/// The port on which the server's machine listens.
pub const PORT: u16 = 80;

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Both machines, each with a process for as long as it runs.
#[derive(Clone)]
pub struct Stage {
    pub world: World,
    pub client: Process,
    pub server: Process,
}

/// Performs a play in a world of its own, and returns what it comes to.
pub fn play<T, F>(play: impl FnOnce(Stage) -> F) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    play_with_seed(1, play)
}

pub fn play_with_seed<T, F>(seed: u64, play: impl FnOnce(Stage) -> F) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let outcome = Arc::new(Mutex::new(None));
    let ended = run(seed, Keep::Digest, SimTime::from_secs(24 * 3600), |world| {
        world.links(LinkProfile { latency: LATENCY..LATENCY, bandwidth: None });
        let client = idle_process(&world.node("client"));
        let server = idle_process(&world.node("server"));
        let stage = Stage { world: world.clone(), client, server };
        let (running, world, outcome) = (play(stage), world.clone(), outcome.clone());
        world.clone().spawn("play", async move {
            let end = running.await;
            *outcome.lock().unwrap() = Some(end);
            world.stop();
        });
    });
    let outcome = outcome.lock().unwrap().take();
    outcome.unwrap_or_else(|| panic!("the play did not come to its end: {:?} at {}", ended.halt, ended.at))
}

pub fn idle_process(node: &Node) -> Process {
    node.start("main", |_| std::future::pending())
}

impl Stage {
    pub fn now(&self) -> SimTime {
        self.world.now()
    }

    pub async fn sleep(&self, duration: Duration) {
        self.world.sleep(duration).await;
    }

    pub fn listen(&self) -> Listener {
        self.server.listen(PORT).unwrap()
    }

    pub async fn connect(&self) -> Result<Stream, ConnectError> {
        self.world.net().connect(self.client.node().id(), "server", PORT, Alpn::H1).await
    }

    /// A connection: the client's end and the server's.
    pub async fn pair(&self) -> (Stream, Stream) {
        let mut listener = self.listen();
        let client = self.connect().await.unwrap();
        (client, listener.accept().await)
    }

    /// Something goes wrong on the way from client to server.
    pub fn impose_out(&self, what: Condition) {
        let (client, server) = (self.client.node().id(), self.server.node().id());
        self.world.net().impose(Active { fault: 0, from: Some(client), to: Some(server), what });
    }

    /// Something goes wrong on the way from server to client.
    pub fn impose_back(&self, what: Condition) {
        let (client, server) = (self.client.node().id(), self.server.node().id());
        self.world.net().impose(Active { fault: 0, from: Some(server), to: Some(client), what });
    }

    pub fn partition(&self) {
        self.impose_out(Condition::Cut);
        self.impose_back(Condition::Cut);
    }

    /// Everything is well again.
    pub fn heal(&self) {
        self.world.net().lift(0);
    }

    /// How many things the conditions changed.
    pub fn effects(&self) -> u64 {
        self.world.effects().of(0)
    }

    pub fn connections(&self) -> usize {
        self.world.net().connections()
    }

    /// Runs a task of the client's process, and hands over what it comes to.
    pub fn client_does<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Doing<T> {
        does(&self.client, work)
    }

    /// Runs a task of the server's process, and hands over what it comes to.
    pub fn server_does<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Doing<T> {
        does(&self.server, work)
    }

    /// Serves on the server's machine.
    pub fn serve<S>(&self, service: S)
    where
        S: Service<Request<axum::body::Body>, Response = Response<axum::body::Body>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
    {
        let process = self.server.clone();
        self.server.spawn("server", async move { serve(process, PORT, service).await.unwrap() });
    }

    pub fn serve_router(&self, router: Router) {
        self.serve(router);
    }
}

/// A task of some process, seen from outside.
pub struct Doing<T>(futures_channel::oneshot::Receiver<T>);

impl<T> Doing<T> {
    /// What it came to.
    pub async fn done(self) -> T {
        self.0.await.expect("the process lives until its task has ended")
    }

    /// What it came to, if it has ended by now.
    pub fn so_far(&mut self) -> Option<T> {
        self.0.try_recv().ok().flatten()
    }
}

fn does<T: Send + 'static>(process: &Process, work: impl Future<Output = T> + Send + 'static) -> Doing<T> {
    let (tell, told) = futures_channel::oneshot::channel();
    process.spawn("task", async move {
        let _ = tell.send(work.await);
    });
    Doing(told)
}

/// Reads to the end of what comes, or to an error.
pub async fn read_to_end(stream: &mut Stream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let more = stream.read(16 * 1024).await?;
        if more.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&more);
    }
}

/// Reads exactly so many bytes.
pub async fn read_exactly(stream: &mut Stream, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        let more = stream.read(count - all.len()).await.unwrap();
        assert!(!more.is_empty(), "the end after {} of {count} bytes", all.len());
        all.extend_from_slice(&more);
    }
    all
}

/// A GET.
pub async fn get(http: &Http, version: Version, path: &str) -> Result<Response<Body>, TransportError> {
    let request = Request::get(format!("http://server{path}")).version(version);
    http.clone().oneshot(request.body(squall_protocol::http::empty()).unwrap()).await
}

/// A GET with its whole body.
pub async fn get_all(http: &Http, version: Version, path: &str) -> Result<Bytes, TransportError> {
    squall_protocol::http::read(get(http, version, path).await?.into_body(), 1 << 20).await
}
