//! An end of a connection, as hyper reads and writes it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::Net;
use super::connection::{ConnectionKey, Side};
use crate::trace::NodeId;

/// Which protocol both ends agreed on while connecting, as ALPN would have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alpn {
    /// HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
}

/// One end of a connection. Dropping it closes the connection, as a process that ends does.
pub struct Stream {
    net: Arc<Net>,
    key: ConnectionKey,
    side: Side,
    alpn: Alpn,
    peer: NodeId,
}

impl Stream {
    pub(super) fn new(net: Arc<Net>, key: ConnectionKey, side: Side, alpn: Alpn, peer: NodeId) -> Self {
        Self { net, key, side, alpn, peer }
    }

    /// The protocol that both ends agreed on.
    pub fn alpn(&self) -> Alpn {
        self.alpn
    }

    /// The node at the other end.
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// The connection's number, the same at both ends and unique in the world.
    pub fn connection(&self) -> u64 {
        self.key.id
    }

    pub(crate) fn key(&self) -> ConnectionKey {
        self.key
    }

    /// Reads up to `room` bytes; none at the end of what the peer sends.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionReset`], or [`io::ErrorKind::TimedOut`] once sending was given up.
    pub fn poll_read_bytes(&mut self, room: usize, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        self.net.poll_read(self.key, self.side, room, cx)
    }

    /// Reads up to `room` bytes; none at the end of what the peer sends.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionReset`], or [`io::ErrorKind::TimedOut`] once sending was given up.
    pub async fn read(&mut self, room: usize) -> io::Result<Bytes> {
        poll_fn(|cx| self.poll_read_bytes(room, cx)).await
    }

    /// Hands all of `bytes` to the machine, and waits while it has no room for them.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionReset`]; [`io::ErrorKind::BrokenPipe`] after [`Stream::finish`], or when a peer that
    /// had finished wants nothing more; [`io::ErrorKind::TimedOut`] once sending was given up.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = poll_fn(|cx| Pin::new(&mut *self).poll_write(cx, bytes)).await?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Says that nothing more will be written; the peer reads the end, and may go on writing. On a broken connection it
    /// does nothing.
    pub fn finish(&mut self) {
        self.net.finish(self.key, self.side);
    }

    /// Closes the connection with a reset, as a socket with a linger time of zero does.
    pub fn reset(self) {
        self.net.abort(self.key, self.side);
    }
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let room = into.remaining();
        match self.net.poll_read(self.key, self.side, room, cx) {
            Poll::Ready(Ok(bytes)) => {
                into.put_slice(&bytes);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.net.poll_write(self.key, self.side, bytes.len(), cx, |fits| Bytes::copy_from_slice(&bytes[..fits]))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        self.net.poll_write(self.key, self.side, wanted, cx, |fits| {
            let mut all = BytesMut::with_capacity(fits);
            for slice in slices {
                let room = fits - all.len();
                all.extend_from_slice(&slice[..room.min(slice.len())]);
            }
            all.freeze()
        })
    }

    /// For the frames of HTTP/2. hyper's HTTP/1.1 copies a message into one piece more cheaply than it gathers one.
    fn is_write_vectored(&self) -> bool {
        self.alpn == Alpn::H2
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.net.let_go(self.key, self.side);
    }
}
