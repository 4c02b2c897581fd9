//! Connecting and listening.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future;

use super::stream::Alpn;
use super::{BACKLOG_MAX, Backlog, Condition, Net, Side, Stream};
use crate::time::SimTime;
use crate::trace::{NodeId, What};

/// The pause after the first SYN; it doubles (Linux: TCP_TIMEOUT_INIT).
const SYN_PAUSE_FIRST: Duration = Duration::from_secs(1);
/// How often a SYN is sent again before connecting fails, after 127 s in all (Linux: tcp_syn_retries).
const SYN_RETRIES: u32 = 6;

/// Why a connection did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("no address found")]
    NoName,
    /// The machine is there and nothing listens on the port.
    #[error("connection refused")]
    Refused,
    /// Nothing answered for two minutes.
    #[error("connecting timed out")]
    TimedOut,
}

/// Accepts connections to a port of a node, until it is dropped.
pub struct Listener {
    net: Arc<Net>,
    node: NodeId,
    boot: u32,
    port: u16,
}

impl Listener {
    /// The next connection.
    pub async fn accept(&mut self) -> Stream {
        future::poll_fn(|cx| {
            let mut state = self.net.state.borrow_mut();
            let host = Some(state.host_mut(self.node)).filter(|host| host.boot == self.boot);
            let Some(backlog) = host.and_then(|host| host.listeners.get_mut(&self.port)) else { return Poll::Pending };
            match backlog.waiting.pop_front() {
                Some(stream) => Poll::Ready(stream),
                None => {
                    backlog.acceptor = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.net.state.borrow_mut();
        let host = Some(state.host_mut(self.node)).filter(|host| host.boot == self.boot);
        let closed = host.and_then(|host| host.listeners.remove(&self.port));
        drop(state);
        // Outside the lock: connections that nobody accepted are reset, as on Linux.
        closed.into_iter().flat_map(|backlog| backlog.waiting).for_each(Stream::reset);
    }
}

/// What became of a SYN.
enum Syn {
    Lost,
    Refused,
    Accepted(Stream),
}

impl Net {
    /// Listens on a port; `None` when somebody does already.
    pub(crate) fn listen(self: &Arc<Self>, node: NodeId, port: u16) -> Option<Listener> {
        let mut state = self.state.borrow_mut();
        let host = state.host_mut(node);
        if host.listeners.contains_key(&port) {
            return None;
        }
        host.listeners.insert(port, Backlog::default());
        Some(Listener { net: self.clone(), node, boot: host.boot, port })
    }

    /// Connects to a port of the host that has this name. A SYN that is lost is sent again after 1, 2, 4 ... seconds, so
    /// a black hole hangs until the caller's own time-out, or for 127 s.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(
        self: &Arc<Self>,
        from: NodeId,
        name: &str,
        port: u16,
        alpn: Alpn,
    ) -> Result<Stream, ConnectError> {
        let connected = self.try_connect(from, name, port, alpn).await;
        let now = self.kernel.now();
        match &connected {
            Ok(stream) => self.trace.add(now, from, &[4, stream.connection(), u64::from(stream.peer().0)], || {
                What::Connected { connection: stream.connection(), to: stream.peer(), port }
            }),
            Err(error) => self.trace.add(now, from, &[5, *error as u64], || What::NotConnected {
                to: name.to_owned(),
                port,
                why: error.to_string(),
            }),
        }
        connected
    }

    async fn try_connect(
        self: &Arc<Self>,
        from: NodeId,
        name: &str,
        port: u16,
        alpn: Alpn,
    ) -> Result<Stream, ConnectError> {
        let to = self.resolve(from, name)?;
        let mut pause = SYN_PAUSE_FIRST;
        for _ in 0..=SYN_RETRIES {
            let sent = self.kernel.now();
            self.pass(from, to).await;
            let (syn, back) = self.syn_arrives(from, to, port, alpn);
            match syn {
                Syn::Lost => self.kernel.sleep_until(sent + pause).await,
                Syn::Refused => {
                    self.kernel.sleep_until(back).await;
                    return Err(ConnectError::Refused);
                }
                Syn::Accepted(stream) => {
                    self.kernel.sleep_until(back).await;
                    return Ok(stream);
                }
            }
            pause *= 2;
        }
        Err(ConnectError::TimedOut)
    }

    fn resolve(&self, from: NodeId, name: &str) -> Result<NodeId, ConnectError> {
        self.kernel.step();
        let state = self.state.borrow_mut();
        let to = *state.names.get(name).ok_or(ConnectError::NoName)?;
        match self.met(&state, (from, to), |what| (what == Condition::NoName).then_some(())) {
            Some(()) => Err(ConnectError::NoName),
            None => Ok(to),
        }
    }

    /// Takes as long as one packet from one node to another.
    async fn pass(&self, from: NodeId, to: NodeId) {
        let arrives = {
            let state = &mut *self.state.borrow_mut();
            let link = self.link(state, from, to);
            self.passage(state, link, 0).1
        };
        self.kernel.sleep_until(arrives).await;
    }

    /// What the host makes of a SYN, and when its answer is back.
    fn syn_arrives(self: &Arc<Self>, from: NodeId, to: NodeId, port: u16, alpn: Alpn) -> (Syn, SimTime) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if !self.is_open(state, from, to) || !self.is_open(state, to, from) {
            return (Syn::Lost, SimTime::ZERO);
        }
        let way_back = self.link(state, to, from);
        let (_, back) = self.passage(state, way_back, 0);
        if self.met(state, (from, to), |what| (what == Condition::Refuse).then_some(())).is_some() {
            return (Syn::Refused, back);
        }
        match state.host(to).listeners.get(&port).map(|backlog| backlog.waiting.len()) {
            None => return (Syn::Refused, back),
            Some(waiting) if waiting >= BACKLOG_MAX => return (Syn::Lost, SimTime::ZERO),
            Some(_) => {}
        }
        let key = self.establish(state, from, to);
        let served = Stream::new(self.clone(), key, Side::Server, alpn, from);
        let backlog = state.host_mut(to).listeners.get_mut(&port).expect("it was there a moment ago");
        backlog.waiting.push_back(served);
        if let Some(acceptor) = backlog.acceptor.take() {
            acceptor.wake();
        }
        (Syn::Accepted(Stream::new(self.clone(), key, Side::Client, alpn, to)), back)
    }
}
