//! One connection: two pipes of segments under way, and what the process at each end can do with it.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::{LinkId, Net, RETRANSMIT_FIRST, State, WINDOW_BYTES};
use crate::effects::FaultId;
use crate::time::SimTime;
use crate::trace::NodeId;

/// An end of a connection, and the pipe that it writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client = 0,
    Server = 1,
}

impl Side {
    pub(super) const BOTH: [Side; 2] = [Side::Client, Side::Server];

    pub(super) fn peer(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// Finds a connection, unless it is gone and its slot another one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionKey {
    pub(super) slot: usize,
    pub(super) id: u64,
}

pub(super) struct Connection {
    pub(super) key: ConnectionKey,
    pub(super) ends: [End; 2],
    /// `pipes[side]` is what `side` writes.
    pub(super) pipes: [Pipe; 2],
    /// `links[side]` is what carries it.
    pub(super) links: [LinkId; 2],
}

pub(super) struct End {
    pub(super) node: NodeId,
    /// The boot of its machine that knows of the connection.
    pub(super) boot: u32,
    /// The process let go of it; what is still to be sent is the machine's business.
    pub(super) dropped: bool,
    pub(super) error: Option<io::ErrorKind>,
    /// The process has been told of the error.
    error_told: bool,
}

#[derive(Default)]
pub(super) struct Pipe {
    pub(super) under_way: VecDeque<UnderWay>,
    pub(super) under_way_bytes: usize,
    pub(super) unread: VecDeque<Bytes>,
    unread_bytes: usize,
    /// The reader has been told that nothing more comes.
    pub(super) finished: bool,
    /// The writer has said that nothing more comes.
    pub(super) closed: bool,
    /// The writer's machine has reset the connection and sends nothing again.
    pub(super) aborted: bool,
    pub(super) reader: Waiting,
    pub(super) writer: Waiting,
    pub(super) stall: Option<Stall>,
    /// Bytes that arrived without the writer's learning of it: the way back is cut.
    pub(super) unacknowledged: Option<usize>,
    /// Who will look after what is under way or unacknowledged.
    pub(super) watch: Watch,
    pub(super) probe: Option<Probe>,
    /// Which fault resets this pipe after how many further bytes.
    pub(super) reset_left: Option<(FaultId, u64)>,
}

/// What brings somebody to look after a pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Watch {
    #[default]
    Nothing,
    /// The timer that is set for this time. One that was set before it for another does nothing.
    Timer(SimTime),
    /// The thaw of the sender's machine.
    Thaw,
}

/// Somebody who waits for something. Mostly it is the same one again, whose waker is kept for that.
#[derive(Default)]
pub(super) struct Waiting {
    known: Option<Waker>,
    waits: bool,
}

impl Waiting {
    fn wait(&mut self, waker: &Waker) {
        self.waits = true;
        match &mut self.known {
            Some(known) => known.clone_from(waker),
            None => self.known = Some(waker.clone()),
        }
    }

    pub(super) fn wake(&mut self) {
        if std::mem::take(&mut self.waits)
            && let Some(waker) = &self.known
        {
            waker.wake_by_ref();
        }
    }

    pub(super) fn waits(&self) -> bool {
        self.waits
    }
}

pub(super) struct UnderWay {
    /// When it has left the sender's machine.
    pub(super) leaves: SimTime,
    pub(super) arrives: SimTime,
    pub(super) segment: Segment,
}

pub(super) enum Segment {
    Data(Bytes),
    Fin,
    Reset,
}

/// Something is not acknowledged and has to be sent again.
#[derive(Clone, Copy)]
pub(super) struct Stall {
    pub(super) since: SimTime,
    /// Until the next try.
    pub(super) pause: Duration,
    /// Since when the sender's machine has been suspended: no timer is set.
    pub(super) parked: Option<SimTime>,
}

/// A writer that waits for room asks from time to time whether the reader is still there.
#[derive(Clone, Copy)]
pub(super) struct Probe {
    /// Until the next one.
    pub(super) pause: Duration,
    pub(super) silent_since: Option<SimTime>,
}

impl Connection {
    pub(super) fn nodes(&self) -> (NodeId, NodeId) {
        self.way(Side::Client)
    }

    /// The nodes that `writer`'s segments come from and go to.
    pub(super) fn way(&self, writer: Side) -> (NodeId, NodeId) {
        (self.ends[writer as usize].node, self.ends[writer.peer() as usize].node)
    }

    /// Wakes whoever reads or writes at an end.
    pub(super) fn wake_end(&mut self, side: Side) {
        self.pipes[side as usize].writer.wake();
        self.pipes[side.peer() as usize].reader.wake();
    }
}

impl End {
    /// The error, if the process has not been told. It is told once, as on Linux: after that, reading sees the end and
    /// writing a broken pipe.
    fn tell(&mut self, error: io::ErrorKind) -> Option<io::ErrorKind> {
        (!std::mem::replace(&mut self.error_told, true)).then_some(error)
    }
}

impl Pipe {
    /// Adds what has arrived to what can be read.
    pub(super) fn arrived(&mut self, data: Bytes) {
        self.unread_bytes += data.len();
        self.unread.push_back(data);
        self.reader.wake();
    }

    /// How many more bytes the writer may hand over.
    pub(super) fn room(&self) -> usize {
        let arrived = self.unread_bytes.max(self.unacknowledged.unwrap_or(0));
        WINDOW_BYTES.saturating_sub(self.under_way_bytes + arrived)
    }

    /// Forgets everything that is under way: nobody will send it again.
    pub(super) fn abandon(&mut self) {
        self.under_way.clear();
        self.under_way_bytes = 0;
        self.unacknowledged = None;
        self.stall = None;
    }

    /// Forgets what has not left the sender's machine by `now`, or would have to leave it again.
    pub(super) fn forget_unsent(&mut self, now: SimTime) {
        if self.stall.is_some() {
            return self.abandon();
        }
        self.under_way.retain(|segment| segment.leaves <= now);
        self.under_way_bytes = self.under_way.iter().map(|under_way| under_way.segment.len()).sum();
    }

    fn read(&mut self, room: usize) -> Option<Bytes> {
        let front = self.unread.front_mut()?;
        let taken = front.split_to(room.min(front.len()));
        if front.is_empty() {
            self.unread.pop_front();
        }
        self.unread_bytes -= taken.len();
        Some(taken)
    }
}

impl Segment {
    pub(super) fn len(&self) -> usize {
        match self {
            Segment::Data(data) => data.len(),
            Segment::Fin | Segment::Reset => 0,
        }
    }
}

/// What the process at an end can do.
impl Net {
    /// Makes a connection that both ends know of.
    pub(super) fn establish(&self, state: &mut State, client: NodeId, server: NodeId) -> ConnectionKey {
        let id = state.connection_next;
        state.connection_next += 1;
        let end =
            |node: NodeId| End { node, boot: state.host(node).boot, dropped: false, error: None, error_told: false };
        let ends = [end(client), end(server)];
        let links = [self.link(state, client, server), self.link(state, server, client)];
        let place = state.connections.vacant_entry();
        let key = ConnectionKey { slot: place.key(), id };
        place.insert(Connection { key, ends, pipes: Default::default(), links });
        key
    }

    pub(super) fn poll_read(
        &self,
        key: ConnectionKey,
        side: Side,
        room: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Bytes>> {
        self.kernel.step();
        let mut state = self.state.borrow_mut();
        let Some(connection) = state.find(key) else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let (end, pipe) = (&mut connection.ends[side as usize], &mut connection.pipes[side.peer() as usize]);
        if let Some(taken) = pipe.read(room) {
            pipe.writer.wake();
            return Poll::Ready(Ok(taken));
        }
        // As on Linux the end of the stream is read before a later reset is.
        if pipe.finished {
            return Poll::Ready(Ok(Bytes::new()));
        }
        match end.error {
            Some(kind) => Poll::Ready(end.tell(kind).map_or(Ok(Bytes::new()), |error| Err(error.into()))),
            None => {
                pipe.reader.wait(cx.waker());
                Poll::Pending
            }
        }
    }

    /// Is there nothing for a reader to learn?
    pub(crate) fn is_quiet(&self, key: ConnectionKey, side: Side) -> bool {
        self.state.borrow_mut().find(key).is_some_and(|connection| {
            let pipe = &connection.pipes[side.peer() as usize];
            connection.ends[side as usize].error.is_none() && pipe.unread.is_empty() && !pipe.finished
        })
    }

    /// Takes what fits of `wanted` bytes; `take` gives the first so many of them.
    pub(super) fn poll_write(
        &self,
        key: ConnectionKey,
        side: Side,
        wanted: usize,
        cx: &mut Context<'_>,
        take: impl FnOnce(usize) -> Bytes,
    ) -> Poll<io::Result<usize>> {
        self.kernel.step();
        let mut state = self.state.borrow_mut();
        let Some(connection) = state.find(key) else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let (end, pipe) = (&mut connection.ends[side as usize], &mut connection.pipes[side as usize]);
        if let Some(kind) = end.error {
            return Poll::Ready(Err(end.tell(kind).unwrap_or(io::ErrorKind::BrokenPipe).into()));
        }
        if pipe.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let fits = pipe.room().min(wanted);
        if fits == 0 && wanted > 0 {
            pipe.writer.wait(cx.waker());
            if pipe.probe.is_none() {
                self.probe_after(connection, side, Probe { pause: RETRANSMIT_FIRST, silent_since: None });
            }
            return Poll::Pending;
        }
        if fits > 0 {
            self.send_data(&mut state, key.slot, side, take(fits));
        }
        Poll::Ready(Ok(fits))
    }

    /// Says that nothing more will be written.
    pub(super) fn finish(&self, key: ConnectionKey, side: Side) {
        let mut state = self.state.borrow_mut();
        if state.find(key).is_some_and(|connection| connection.ends[side as usize].error.is_none()) {
            self.send_fin(&mut state, key.slot, side);
        }
    }

    /// The process lets go of its end: a FIN, or a reset if there was something that it had not read.
    pub(super) fn let_go(&self, key: ConnectionKey, side: Side) {
        self.close(key, side, |pipe_in| pipe_in.unread_bytes > 0);
    }

    /// The process lets go of its end with a reset.
    pub(super) fn abort(&self, key: ConnectionKey, side: Side) {
        self.close(key, side, |_| true);
    }

    fn close(&self, key: ConnectionKey, side: Side, resets: impl FnOnce(&Pipe) -> bool) {
        let mut state = self.state.borrow_mut();
        let Some(connection) = state.find(key) else { return };
        let end = &mut connection.ends[side as usize];
        if std::mem::replace(&mut end.dropped, true) {
            return;
        }
        let sound = end.error.is_none();
        let resets = resets(&connection.pipes[side.peer() as usize]);
        let unread = std::mem::take(&mut connection.pipes[side.peer() as usize].unread);
        if sound && state.is_alive(key.slot, side) {
            if resets {
                self.send_reset(&mut state, key.slot, side);
            } else {
                self.send_fin(&mut state, key.slot, side);
            }
        }
        state.forget_if_over(key.slot);
        drop(state);
        drop(unread);
    }
}

impl State {
    /// What a machine writes, as far as it knows.
    pub(super) fn pipes_from(&mut self, node: NodeId) -> impl Iterator<Item = &mut Pipe> {
        self.connections.iter_mut().flat_map(move |(_, connection)| {
            let Connection { ends, pipes, .. } = connection;
            ends.iter().zip(pipes).filter(move |(end, _)| end.node == node).map(|(_, pipe)| pipe)
        })
    }

    pub(super) fn find(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.connections.get_mut(key.slot).filter(|connection| connection.key == key)
    }

    /// Does the machine at an end still know of the connection?
    pub(super) fn is_alive(&self, slot: usize, side: Side) -> bool {
        let end = &self.connections[slot].ends[side as usize];
        let host = self.host(end.node);
        host.up && host.boot == end.boot
    }

    /// Forgets a connection that no process and nothing under way refers to.
    pub(super) fn forget_if_over(&mut self, slot: usize) {
        let Some(connection) = self.connections.get(slot) else { return };
        let over = |side: Side| {
            let pipe = &connection.pipes[side as usize];
            connection.ends[side as usize].dropped && pipe.under_way.is_empty() && pipe.unacknowledged.is_none()
        };
        if Side::BOTH.into_iter().all(over) {
            self.connections.remove(slot);
        }
    }
}
