//! The two grounds on which a script is performed: this machine's loopback interface, and a simulated world.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall_protocol::live::{self, LiveClock};
use squall_protocol::workers::Parent;
use squall_protocol::{Clock, Disk, Http, Shutdown, Workers};
use squall_sim::net::{Alpn, LinkProfile};
use squall_sim::trace::Keep;
use squall_sim::{Process, SimTime, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Performs a script on both grounds and compares what it saw, line by line, with what it should have seen.
macro_rules! same_on_both_grounds {
    ($name:ident, $script:path, $seen:expr) => {
        #[test]
        fn $name() {
            let seen: &[&str] = &$seen;
            assert_eq!($crate::ground::on_linux(|ground| $script(ground)), seen, "on this machine");
            assert_eq!($crate::ground::in_simulation(|ground| $script(ground)), seen, "in the simulation");
        }
    };
}
pub(crate) use same_on_both_grounds;

/// What a script saw, a line for each thing.
pub type Seen = Vec<String>;

/// A service of HTTP that a ground can serve.
pub type Service =
    tower::util::BoxCloneSyncService<http::Request<axum::body::Body>, http::Response<axum::body::Body>, &'static str>;

/// Where a script is performed: a client's machine and a server's.
pub trait Ground: Send + Sync + 'static {
    type Listener: Listens;

    fn client_clock(&self) -> Arc<dyn Clock>;
    fn server_clock(&self) -> Arc<dyn Clock>;
    fn http(&self) -> Http;
    /// A port of the server's machine.
    fn listen(&self) -> impl Future<Output = Self::Listener> + Send;
    /// Connects to it.
    fn connect(&self, to: &Self::Listener) -> impl Future<Output = io::Result<Stream<Self>>> + Send;
    /// Serves on a port of the server's machine, whose URL this is, until the script has ended.
    fn serve(&self, service: Service) -> impl Future<Output = String> + Send;
    /// Long enough for everything that was sent to arrive.
    fn settle(&self) -> impl Future<Output = ()> + Send;
}

pub type Stream<G> = <<G as Ground>::Listener as Listens>::Stream;

pub trait Listens: Send + Sync + 'static {
    type Stream: Wire;

    fn url(&self) -> String;
    fn accept(&mut self) -> impl Future<Output = Self::Stream> + Send;
}

/// An end of a connection.
pub trait Wire: Send + 'static {
    fn read(&mut self, room: usize) -> impl Future<Output = io::Result<Vec<u8>>> + Send;
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;
    fn reset(self);
}

/// A connection: the client's end and the server's.
pub async fn pair<G: Ground>(ground: &G) -> (Stream<G>, Stream<G>) {
    let mut listener = ground.listen().await;
    let client = ground.connect(&listener).await.unwrap();
    (client, listener.accept().await)
}

/// What one reading of a connection sees.
pub async fn reads(stream: &mut impl Wire) -> String {
    match stream.read(100).await {
        Ok(bytes) if bytes.is_empty() => "reads the end".to_owned(),
        Ok(bytes) => format!("reads {}", String::from_utf8_lossy(&bytes)),
        Err(error) => format!("fails to read: {}", kind(&error)),
    }
}

/// What one writing to a connection sees.
pub async fn writes(stream: &mut impl Wire, bytes: &[u8]) -> String {
    match stream.write(bytes).await {
        Ok(()) => "writes".to_owned(),
        Err(error) => format!("fails to write: {}", kind(&error)),
    }
}

pub fn kind(error: &io::Error) -> String {
    format!("{:?}", error.kind())
}

#[derive(Clone)]
pub struct Linux {
    clock: LiveClock,
    http: Http,
}

/// Performs a script on this machine.
pub fn on_linux<F: Future<Output = Seen>>(script: impl FnOnce(Linux) -> F) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { script(Linux { clock: LiveClock::start(), http: live::http() }).await })
}

pub struct LinuxListener(tokio::net::TcpListener);

impl Ground for Linux {
    type Listener = LinuxListener;

    fn client_clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock)
    }

    fn server_clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock)
    }

    fn http(&self) -> Http {
        self.http.clone()
    }

    async fn listen(&self) -> LinuxListener {
        LinuxListener(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    async fn connect(&self, to: &LinuxListener) -> io::Result<tokio::net::TcpStream> {
        tokio::net::TcpStream::connect(to.0.local_addr()?).await
    }

    #[expect(clippy::disallowed_methods, reason = "the real server runs beside the script")]
    async fn serve(&self, service: Service) -> String {
        let listener = self.listen().await;
        let url = listener.url();
        tokio::spawn(live::serve(listener.0, service, Shutdown::never()));
        url
    }

    async fn settle(&self) {
        self.clock.sleep(Duration::from_millis(50)).await;
    }
}

impl Listens for LinuxListener {
    type Stream = tokio::net::TcpStream;

    fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    async fn accept(&mut self) -> tokio::net::TcpStream {
        self.0.accept().await.unwrap().0
    }
}

impl Wire for tokio::net::TcpStream {
    async fn read(&mut self, room: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; room];
        let count = AsyncReadExt::read(self, &mut bytes).await?;
        bytes.truncate(count);
        Ok(bytes)
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.shutdown().await
    }

    fn reset(self) {
        socket2::SockRef::from(&self).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

#[derive(Clone)]
pub struct Simulation {
    world: World,
    client: Process,
    server: Process,
    port_next: Arc<Mutex<u16>>,
}

/// Performs a script in a world of its own.
pub fn in_simulation<F>(script: impl FnOnce(Simulation) -> F) -> Seen
where
    F: Future<Output = Seen> + Send + 'static,
{
    let outcome = Arc::new(Mutex::new(None));
    let ended = squall_sim::run(1, Keep::Digest, SimTime::from_secs(3600), |world| {
        world.links(LinkProfile { latency: Duration::from_millis(1)..Duration::from_millis(5), bandwidth: None });
        let process = |name| world.node(name).start("main", |_| std::future::pending());
        let (client, server) = (process("client"), process("server"));
        let ground = Simulation { world: world.clone(), client, server, port_next: Arc::new(Mutex::new(80)) };
        let (running, world, outcome) = (script(ground), world.clone(), outcome.clone());
        world.clone().spawn("script", async move {
            let seen = running.await;
            *outcome.lock().unwrap() = Some(seen);
            world.stop();
        });
    });
    let outcome = outcome.lock().unwrap().take();
    outcome.unwrap_or_else(|| panic!("the script did not come to its end: {:?} at {}", ended.halt, ended.at))
}

pub struct SimListener {
    listener: squall_sim::net::Listener,
    port: u16,
}

impl Simulation {
    pub fn disk(&self) -> Arc<dyn Disk> {
        self.client.disk()
    }

    pub fn workers<F>(&self, main: impl Fn(Box<dyn Parent>) -> F + Send + Sync + 'static) -> Arc<dyn Workers>
    where
        F: Future<Output = i32> + Send + 'static,
    {
        self.client.workers(move |_, parent| main(parent))
    }

    fn port(&self) -> u16 {
        let mut next = self.port_next.lock().unwrap();
        *next += 1;
        *next
    }
}

impl Ground for Simulation {
    type Listener = SimListener;

    fn client_clock(&self) -> Arc<dyn Clock> {
        self.client.clock()
    }

    fn server_clock(&self) -> Arc<dyn Clock> {
        self.server.clock()
    }

    fn http(&self) -> Http {
        self.client.http()
    }

    async fn listen(&self) -> SimListener {
        let port = self.port();
        SimListener { listener: self.server.listen(port).unwrap(), port }
    }

    async fn connect(&self, to: &SimListener) -> io::Result<squall_sim::net::Stream> {
        let connecting = self.world.net().connect(self.client.node().id(), "server", to.port, Alpn::H1);
        connecting.await.map_err(|_| ErrorKind::ConnectionRefused.into())
    }

    async fn serve(&self, service: Service) -> String {
        let (port, process) = (self.port(), self.server.clone());
        self.server.spawn("server", async move { squall_sim::http::serve(process, port, service).await.unwrap() });
        format!("http://server:{port}")
    }

    async fn settle(&self) {
        self.world.sleep(Duration::from_secs(1)).await;
    }
}

impl Listens for SimListener {
    type Stream = squall_sim::net::Stream;

    fn url(&self) -> String {
        format!("http://server:{}", self.port)
    }

    async fn accept(&mut self) -> squall_sim::net::Stream {
        self.listener.accept().await
    }
}

impl Wire for squall_sim::net::Stream {
    async fn read(&mut self, room: usize) -> io::Result<Vec<u8>> {
        Ok(squall_sim::net::Stream::read(self, room).await?.to_vec())
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        squall_sim::net::Stream::finish(self);
        Ok(())
    }

    fn reset(self) {
        squall_sim::net::Stream::reset(self);
    }
}
