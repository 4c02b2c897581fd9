//! What most worlds consist of: servers and agents, each on a machine of its own.

use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use squall_protocol::supervise;
use tower::Service as TowerService;

use crate::gateway::BoxError;
use crate::http::serve;
use crate::node::Node;
use crate::process::Process;
use crate::service::Service;
use crate::world::World;

/// The port of [`World::server`]: that of a URL without one.
pub const PORT: u16 = 80;
/// How long a supervisor waits before it starts a server or an agent again.
pub const RESTART: Duration = Duration::from_secs(5);
/// The name of the service on its machine.
pub(crate) const SERVICE: &str = "main";

impl World {
    /// Adds a machine whose service answers HTTP/1.1 and HTTP/2 at `http://NAME/`, behind a gateway at which faults act.
    ///
    /// `handler` makes an axum `Router` or another tower service, anew each time that the process is started: what it
    /// captured is what survives a crash. The process has the machine's clock and the journal for it. It is started again [`RESTART`] after it was killed.
    pub fn server<S>(&self, name: &str, handler: impl Fn(&Process) -> S + Send + 'static) -> Node
    where
        S: TowerService<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
    {
        let node = self.node(name);
        node.service(
            SERVICE,
            name,
            || supervise::Always { delay: RESTART },
            move |process| {
                let handler = handler(&process);
                async move {
                    serve(process, PORT, handler).await.expect("nothing else listens there");
                    0
                }
            },
        );
        node
    }

    /// Adds a machine with an agent on it. `main` is the agent's process, from its start to its exit code; its supervisor
    /// starts it again [`RESTART`] after it has ended, however it ended.
    ///
    /// [`Node::service`] has supervisors of other kinds.
    pub fn agent<F>(&self, name: &str, main: impl FnMut(Process) -> F + Send + 'static) -> Service
    where
        F: Future<Output = i32> + Send + 'static,
    {
        self.node(name).service(SERVICE, name, || supervise::Always { delay: RESTART }, main)
    }
}
