//! The connections of one client: idle ones wait for their next request, HTTP/2 ones are shared.

use futures_util::future::{BoxFuture, Shared, WeakShared};
use http::header::HeaderValue;
use http::uri::Authority;
use hyper::client::conn::http2;
use squall_protocol::{Body, TransportError};

use super::exchange::H1;

/// A server's place in its pool.
pub(super) type ServerId = usize;

/// A connection that is being opened or is open.
pub(super) type Opening = Shared<BoxFuture<'static, Result<H2, TransportError>>>;

/// An HTTP/2 connection, and its number in the world.
#[derive(Clone)]
pub(super) struct H2 {
    pub(super) sender: http2::SendRequest<Body>,
    pub(super) connection: u64,
}

#[derive(Default)]
pub(super) struct Pool {
    /// A process talks to few servers.
    servers: Vec<Server>,
    /// The process has ended: nothing is kept any more.
    closed: bool,
}

struct Server {
    authority: Authority,
    /// Its authority, as a Host header says it.
    host: HeaderValue,
    h1: Vec<H1>,
    h2: Option<Kept>,
}

enum Kept {
    /// It is given up when nobody waits for it any more.
    Opening(WeakShared<BoxFuture<'static, Result<H2, TransportError>>>),
    Open(H2),
}

/// What there is to share.
pub(super) enum Found {
    Opening(Opening),
    Open(H2),
}

impl Pool {
    /// The place of the server that a URI names.
    pub(super) fn server(&mut self, authority: &Authority) -> ServerId {
        let known = self.servers.iter().position(|server| server.authority.as_str() == authority.as_str());
        known.unwrap_or_else(|| {
            let host = HeaderValue::from_str(authority.as_str()).expect("an authority is plain text");
            self.servers.push(Server { authority: authority.clone(), host, h1: Vec::with_capacity(1), h2: None });
            self.servers.len() - 1
        })
    }

    pub(super) fn authority(&self, server: ServerId) -> &Authority {
        &self.servers[server].authority
    }

    pub(super) fn host(&self, server: ServerId) -> &HeaderValue {
        &self.servers[server].host
    }

    /// Ends every idle connection, and keeps none from now on.
    pub(super) fn close(&mut self) -> impl Sized + use<> {
        self.closed = true;
        let taken = |server: &mut Server| (std::mem::take(&mut server.h1), server.h2.take());
        self.servers.iter_mut().map(taken).collect::<Vec<_>>()
    }

    /// Keeps an idle connection; gives it back when it is not wanted.
    pub(super) fn put(&mut self, server: ServerId, connection: H1) -> Option<H1> {
        if self.closed {
            return Some(connection);
        }
        self.servers[server].h1.push(connection);
        None
    }

    /// The connection that was used last, if one is idle.
    pub(super) fn take(&mut self, server: ServerId) -> Option<H1> {
        self.servers[server].h1.pop()
    }

    /// The connection to a server, unless there is none that takes requests.
    pub(super) fn shared(&self, server: ServerId) -> Option<Found> {
        match self.servers[server].h2.as_ref()? {
            Kept::Opening(weak) => weak.upgrade().filter(|opening| opening.peek().is_none()).map(Found::Opening),
            Kept::Open(h2) => Some(h2).filter(|h2| !h2.sender.is_closed()).cloned().map(Found::Open),
        }
    }

    /// Lets others wait for a connection that is being opened.
    pub(super) fn opening(&mut self, server: ServerId, opening: &Opening) {
        if let Some(weak) = opening.downgrade()
            && !self.closed
        {
            self.servers[server].h2 = Some(Kept::Opening(weak));
        }
    }

    /// Keeps a connection that has been opened.
    pub(super) fn opened(&mut self, server: ServerId, h2: &H2) {
        if let Some(kept @ Kept::Opening(_)) = &mut self.servers[server].h2 {
            *kept = Kept::Open(h2.clone());
        }
    }

    /// Forgets a connection that took no request.
    pub(super) fn forget(&mut self, server: ServerId, connection: u64) {
        self.servers[server].h2.take_if(|kept| matches!(kept, Kept::Open(h2) if h2.connection == connection));
    }
}
