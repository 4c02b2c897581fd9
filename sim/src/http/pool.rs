//! The connections of one client: idle ones wait for their next request, HTTP/2 ones are shared.

use std::collections::BTreeMap;

use futures_util::future::{BoxFuture, Shared, WeakShared};
use http::uri::Authority;
use hyper::client::conn::http2;
use squall_protocol::{Body, TransportError};

use super::exchange::H1;
use crate::net::Alpn;

/// A server, and the protocol spoken with it.
pub(super) type Place = (Authority, Alpn);

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
    h1: BTreeMap<String, Vec<H1>>,
    h2: BTreeMap<String, Kept>,
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
    pub(super) fn put(&mut self, place: Place, connection: H1) {
        match self.h1.get_mut(place.0.as_str()) {
            Some(idle) => idle.push(connection),
            None => drop(self.h1.insert(place.0.to_string(), vec![connection])),
        }
    }

    /// The connection that was used last, if one is idle.
    pub(super) fn take(&mut self, place: &Place) -> Option<H1> {
        self.h1.get_mut(place.0.as_str())?.pop()
    }

    /// The connection to a place, unless there is none that takes requests.
    pub(super) fn shared(&self, place: &Place) -> Option<Found> {
        match self.h2.get(place.0.as_str())? {
            Kept::Opening(weak) => weak.upgrade().filter(|opening| opening.peek().is_none()).map(Found::Opening),
            Kept::Open(h2) => Some(h2).filter(|h2| !h2.sender.is_closed()).cloned().map(Found::Open),
        }
    }

    /// Lets others wait for a connection that is being opened.
    pub(super) fn opening(&mut self, place: &Place, opening: &Opening) {
        if let Some(weak) = opening.downgrade() {
            self.h2.insert(place.0.to_string(), Kept::Opening(weak));
        }
    }

    /// Keeps a connection that has been opened.
    pub(super) fn opened(&mut self, place: &Place, h2: &H2) {
        if let Some(kept @ Kept::Opening(_)) = self.h2.get_mut(place.0.as_str()) {
            *kept = Kept::Open(h2.clone());
        }
    }

    /// Forgets a connection that took no request.
    pub(super) fn forget(&mut self, place: &Place, connection: u64) {
        if let Some(Kept::Open(h2)) = self.h2.get(place.0.as_str())
            && h2.connection == connection
        {
            self.h2.remove(place.0.as_str());
        }
    }
}
