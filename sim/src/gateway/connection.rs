//! What a gateway is told of the connection of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;

/// A handle to the connection that a request came by. Whoever accepts connections puts it into the extensions of each
/// request; a gateway without one knows no caller and cannot end HTTP/2 connections.
#[derive(Clone)]
pub struct ConnectionControl {
    shared: Arc<Shared>,
}

struct Shared {
    caller: Arc<str>,
    winding_down: AtomicBool,
    server: AtomicWaker,
}

impl ConnectionControl {
    /// For a connection of this caller.
    pub fn new(caller: impl Into<Arc<str>>) -> Self {
        let (winding_down, server) = (AtomicBool::new(false), AtomicWaker::new());
        Self { shared: Arc::new(Shared { caller: caller.into(), winding_down, server }) }
    }

    /// Who is at the other end.
    pub fn caller(&self) -> &str {
        &self.shared.caller
    }

    /// Asks for the connection to end once the requests under way are answered.
    ///
    /// Returns whether nobody had asked before.
    pub fn wind_down(&self) -> bool {
        let first = !self.shared.winding_down.swap(true, Ordering::Relaxed);
        self.shared.server.wake();
        first
    }

    /// Was the connection's end asked for? If not, whoever serves the connection is woken when it is.
    pub fn poll_winding_down(&self, cx: &mut Context<'_>) -> bool {
        if !self.shared.winding_down.load(Ordering::Relaxed) {
            self.shared.server.register(cx.waker());
        }
        self.shared.winding_down.load(Ordering::Relaxed)
    }
}
