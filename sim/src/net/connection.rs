//! One connection: two pipes of segments under way, and what each end knows of them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::{Condition, LOOPBACK_LATENCY, Net, RETRANSMIT_FIRST, RETRANSMIT_LIMIT, RETRANSMIT_PAUSE_MAX, State};
use super::{WINDOW_BYTES, lock};
use crate::effects::FaultId;
use crate::kernel::Fire;
use crate::time::SimTime;
use crate::trace::{NodeId, What, hash};

/// An end of a connection, and the pipe that it writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client = 0,
    Server = 1,
}

impl Side {
    pub(crate) fn peer(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }

    fn from_bit(bit: u64) -> Side {
        if bit == 0 { Side::Client } else { Side::Server }
    }
}

/// Finds a connection, unless it is gone and its slot another one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionKey {
    pub(crate) slot: usize,
    pub(crate) id: u64,
}

pub(crate) struct Connection {
    id: u64,
    ends: [End; 2],
    /// `pipes[side]` is what `side` writes.
    pipes: [Pipe; 2],
    events: Arc<Events>,
}

struct End {
    node: NodeId,
    boot: u32,
    /// The process let go of it: the kernel closes it in an orderly way.
    dropped: bool,
    error: Option<io::ErrorKind>,
}

#[derive(Default)]
struct Pipe {
    under_way: VecDeque<(SimTime, Segment)>,
    under_way_bytes: usize,
    unread: VecDeque<Bytes>,
    unread_bytes: usize,
    finished: bool,
    fin_sent: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    stall: Option<Stall>,
    /// What arrived could not be acknowledged: the way back is cut.
    unacknowledged: bool,
    timer_set: bool,
    /// Which fault resets this pipe after how many further bytes.
    reset_left: Option<(FaultId, u64)>,
}

enum Segment {
    Data(Bytes),
    Fin,
}

#[derive(Clone, Copy)]
struct Stall {
    since: SimTime,
    pause: Duration,
}

/// Timer events of one connection.
struct Events {
    net: std::sync::Weak<Net>,
    key: ConnectionKey,
}

/// The low bit of an event's token is a side; the bit above it says what is due there.
const EVENT_RESET: u64 = 2;

impl Fire for Events {
    fn fire(&self, token: u64) {
        let Some(net) = self.net.upgrade() else { return };
        let mut state = lock(&net.state);
        if state.connections.get(self.key.slot).is_none_or(|c| c.id != self.key.id) {
            return;
        }
        let side = Side::from_bit(token & 1);
        if token & EVENT_RESET == 0 {
            net.deliver(&mut state, self.key.slot, side);
        } else {
            net.reset_arrives(&mut state, self.key.slot, side);
        }
        net.forget_if_over(&mut state, self.key.slot);
    }
}

impl Connection {
    pub(crate) fn nodes(&self) -> (NodeId, NodeId) {
        (self.ends[0].node, self.ends[1].node)
    }

    fn way(&self, writer: Side) -> (NodeId, NodeId) {
        (self.ends[writer as usize].node, self.ends[writer.peer() as usize].node)
    }

    fn wake_all(&mut self) {
        for pipe in &mut self.pipes {
            pipe.reader.take().into_iter().chain(pipe.writer.take()).for_each(Waker::wake);
        }
    }
}

impl Pipe {
    fn read(&mut self, room: usize) -> Option<Bytes> {
        let front = self.unread.front_mut()?;
        let taken = front.split_to(room.min(front.len()));
        if !front.has_remaining() {
            self.unread.pop_front();
        }
        self.unread_bytes -= taken.len();
        Some(taken)
    }

    fn room(&self) -> usize {
        WINDOW_BYTES.saturating_sub(self.under_way_bytes + self.unread_bytes)
    }
}

impl Net {
    /// Makes a connection that both ends know of.
    pub(super) fn establish(self: &Arc<Self>, state: &mut State, client: NodeId, server: NodeId) -> ConnectionKey {
        let id = state.connection_next;
        state.connection_next += 1;
        let end = |node: NodeId| End { node, boot: state.hosts[&node].boot, dropped: false, error: None };
        let ends = [end(client), end(server)];
        let slot = state.connections.vacant_key();
        let key = ConnectionKey { slot, id };
        let events = Arc::new(Events { net: Arc::downgrade(self), key });
        state.connections.insert(Connection { id, ends, pipes: Default::default(), events });
        key
    }

    pub(super) fn poll_read(
        &self,
        key: ConnectionKey,
        side: Side,
        room: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Bytes>> {
        let mut state = lock(&self.state);
        let Some(connection) = state.connections.get_mut(key.slot).filter(|c| c.id == key.id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let error = connection.ends[side as usize].error;
        let pipe = &mut connection.pipes[side.peer() as usize];
        if let Some(taken) = pipe.read(room) {
            if let Some(writer) = pipe.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(taken));
        }
        match error {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None if pipe.finished => Poll::Ready(Ok(Bytes::new())),
            None => {
                pipe.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
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
        let mut state = lock(&self.state);
        let Some(connection) = state.connections.get_mut(key.slot).filter(|c| c.id == key.id) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if let Some(kind) = connection.ends[side as usize].error {
            return Poll::Ready(Err(kind.into()));
        }
        let pipe = &mut connection.pipes[side as usize];
        if pipe.fin_sent {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let fits = pipe.room().min(wanted);
        if fits == 0 && wanted > 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if fits > 0 {
            pipe.under_way_bytes += fits;
            self.send(&mut state, key.slot, side, Segment::Data(take(fits)));
        }
        Poll::Ready(Ok(fits))
    }

    /// Says that nothing more will be written.
    pub(super) fn finish(&self, key: ConnectionKey, side: Side) -> io::Result<()> {
        let mut state = lock(&self.state);
        let Some(connection) = state.connections.get_mut(key.slot).filter(|c| c.id == key.id) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if let Some(kind) = connection.ends[side as usize].error {
            return Err(kind.into());
        }
        self.send_fin(&mut state, key.slot, side);
        Ok(())
    }

    /// The process let go of its end: a FIN, or a reset if there was something that it had not read.
    pub(super) fn let_go(&self, key: ConnectionKey, side: Side) {
        let mut state = lock(&self.state);
        let Some(connection) = state.connections.get_mut(key.slot).filter(|c| c.id == key.id) else { return };
        let end = &mut connection.ends[side as usize];
        end.dropped = true;
        let (node, boot, broken) = (end.node, end.boot, end.error.is_some());
        let unread = connection.pipes[side.peer() as usize].unread_bytes > 0;
        let machine_lives = state.hosts.get(&node).is_some_and(|host| host.up && host.boot == boot);
        if machine_lives && !broken {
            if unread {
                self.send_reset(&mut state, key.slot, side);
            } else {
                self.send_fin(&mut state, key.slot, side);
            }
        }
        self.forget_if_over(&mut state, key.slot);
    }

    /// Both ends learn at once that the connection is broken.
    pub(super) fn break_both(&self, state: &mut State, slot: usize, kind: io::ErrorKind) {
        for side in [Side::Client, Side::Server] {
            self.break_end(state, slot, side, kind);
        }
        self.forget_if_over(state, slot);
    }

    fn break_end(&self, state: &mut State, slot: usize, side: Side, kind: io::ErrorKind) {
        let connection = &mut state.connections[slot];
        let end = &mut connection.ends[side as usize];
        if end.error.is_some() {
            return;
        }
        end.error = Some(kind);
        let (node, id) = (end.node, connection.id);
        let own = &mut connection.pipes[side as usize];
        own.under_way.clear();
        own.under_way_bytes = 0;
        connection.wake_all();
        self.trace.add(self.kernel.now(), node, &[3, id, kind as u64], || What::Broken {
            connection: id,
            why: io::Error::from(kind).to_string(),
        });
    }

    fn send_fin(&self, state: &mut State, slot: usize, side: Side) {
        let pipe = &mut state.connections[slot].pipes[side as usize];
        if !std::mem::replace(&mut pipe.fin_sent, true) {
            self.send(state, slot, side, Segment::Fin);
        }
    }

    /// A reset goes to the peer of `side`. It is sent once: when it is lost, the peer stays half-open.
    fn send_reset(&self, state: &mut State, slot: usize, side: Side) {
        let (from, to) = state.connections[slot].way(side);
        let own = &mut state.connections[slot].pipes[side as usize];
        own.under_way.clear();
        own.under_way_bytes = 0;
        own.fin_sent = true;
        let at = self.arrival(state, from, to, 0);
        let events = state.connections[slot].events.clone();
        self.kernel.fire_at(at, events, EVENT_RESET | side.peer() as u64);
    }

    fn reset_arrives(&self, state: &mut State, slot: usize, side: Side) {
        let (from, to) = state.connections[slot].way(side.peer());
        if self.is_open(state, from, to) {
            self.break_end(state, slot, side, io::ErrorKind::ConnectionReset);
        }
    }

    fn send(&self, state: &mut State, slot: usize, side: Side, segment: Segment) {
        let (from, to) = state.connections[slot].way(side);
        let bytes = if let Segment::Data(data) = &segment { data.len() } else { 0 };
        let arrival = self.arrival(state, from, to, bytes);
        let connection = &mut state.connections[slot];
        let pipe = &mut connection.pipes[side as usize];
        let arrival = pipe.under_way.back().map_or(arrival, |(before, _)| arrival.max(*before));
        pipe.under_way.push_back((arrival, segment));
        if !std::mem::replace(&mut pipe.timer_set, true) {
            self.kernel.fire_at(arrival, connection.events.clone(), side as u64);
        }
    }

    /// Delivers what `writer` sent and what is due, or puts it off if the way is not open.
    fn deliver(&self, state: &mut State, slot: usize, writer: Side) {
        let now = self.kernel.now();
        let (from, to) = state.connections[slot].way(writer);
        let loopback = from == to;
        if !loopback && !self.is_open(state, from, to) {
            return self.stall(state, slot, writer);
        }
        while let Some((arrival, _)) = state.connections[slot].pipes[writer as usize].under_way.front() {
            if *arrival > now {
                break;
            }
            if !self.deliver_one(state, slot, writer) {
                return;
            }
        }
        let acknowledged = loopback || self.is_open(state, to, from);
        let pipe = &mut state.connections[slot].pipes[writer as usize];
        pipe.unacknowledged = !acknowledged;
        if !acknowledged {
            return self.stall(state, slot, writer);
        }
        pipe.stall = None;
        pipe.timer_set = false;
        if let Some((next, _)) = pipe.under_way.front() {
            let next = *next;
            pipe.timer_set = true;
            self.kernel.fire_at(next, state.connections[slot].events.clone(), writer as u64);
        }
    }

    /// Delivers the first segment. False when that ended the connection.
    fn deliver_one(&self, state: &mut State, slot: usize, writer: Side) -> bool {
        let (from, to) = state.connections[slot].way(writer);
        let (_, segment) = state.connections[slot].pipes[writer as usize].under_way.pop_front().expect("looked at it");
        let reset_after = match &segment {
            Segment::Data(data) => self.reset_due(state, slot, writer, data.len() as u64),
            Segment::Fin => None,
        };
        let (id, boot, error, dropped) = {
            let connection = &state.connections[slot];
            let end = &connection.ends[writer.peer() as usize];
            (connection.id, end.boot, end.error, end.dropped)
        };
        let pipe = &mut state.connections[slot].pipes[writer as usize];
        let data = match segment {
            Segment::Data(mut data) => {
                pipe.under_way_bytes -= data.len();
                data.truncate(reset_after.unwrap_or(u64::MAX).min(data.len() as u64) as usize);
                data
            }
            Segment::Fin => {
                pipe.finished = true;
                pipe.reader.take().into_iter().for_each(Waker::wake);
                self.trace.add(self.kernel.now(), to, &[2, id], || What::HalfClosed { connection: id });
                return true;
            }
        };
        let unknown = state.hosts[&to].boot != boot || error.is_some() || dropped;
        if unknown {
            let (back_from, back_to) = (to, from);
            let at = if back_from == back_to {
                self.kernel.now() + LOOPBACK_LATENCY
            } else {
                self.arrival(state, back_from, back_to, 0)
            };
            self.kernel.fire_at(at, state.connections[slot].events.clone(), EVENT_RESET | writer as u64);
            return true;
        }
        if !data.is_empty() {
            let (bytes, hash) = (data.len() as u64, hash(&data));
            self.trace.add(self.kernel.now(), to, &[1, id, bytes, hash], || What::Arrived {
                connection: id,
                bytes,
                hash,
            });
            let pipe = &mut state.connections[slot].pipes[writer as usize];
            pipe.unread_bytes += data.len();
            pipe.unread.push_back(data);
            pipe.reader.take().into_iter().for_each(Waker::wake);
        }
        if reset_after.is_some() {
            self.break_both(state, slot, io::ErrorKind::ConnectionReset);
        }
        reset_after.is_none()
    }

    /// How many of the next `bytes` still pass before something in between resets the connection, if it does.
    fn reset_due(&self, state: &mut State, slot: usize, writer: Side, bytes: u64) -> Option<u64> {
        let (from, to) = state.connections[slot].way(writer);
        let active = state.conditions.iter().filter(|active| active.holds_for(from, to));
        let found = active.into_iter().find_map(|active| match active.what {
            Condition::ResetAfter(after) => Some((active.fault, after)),
            _ => None,
        });
        let pipe = &mut state.connections[slot].pipes[writer as usize];
        let (fault, after) = found?;
        let left = match pipe.reset_left {
            Some((of, left)) if of == fault => left,
            _ => after,
        };
        if bytes < left {
            pipe.reset_left = Some((fault, left - bytes));
            return None;
        }
        self.effects.count(fault);
        Some(left)
    }

    /// Tries again later, or gives the connection up on the writer's side.
    fn stall(&self, state: &mut State, slot: usize, writer: Side) {
        let now = self.kernel.now();
        let connection = &mut state.connections[slot];
        let pipe = &mut connection.pipes[writer as usize];
        let stall = pipe.stall.get_or_insert(Stall { since: now, pause: RETRANSMIT_FIRST });
        if now.since(stall.since) >= RETRANSMIT_LIMIT {
            pipe.timer_set = false;
            return self.break_end(state, slot, writer, io::ErrorKind::TimedOut);
        }
        let again = now + stall.pause;
        stall.pause = (stall.pause * 2).min(RETRANSMIT_PAUSE_MAX);
        self.kernel.fire_at(again, connection.events.clone(), writer as u64);
    }

    /// Forgets a connection that no process and nothing under way refers to.
    fn forget_if_over(&self, state: &mut State, slot: usize) {
        let Some(connection) = state.connections.get(slot) else { return };
        let over = |side: Side| {
            let (end, pipe) = (&connection.ends[side as usize], &connection.pipes[side as usize]);
            end.dropped && (end.error.is_some() || (pipe.under_way.is_empty() && !pipe.unacknowledged))
        };
        if over(Side::Client) && over(Side::Server) {
            state.connections.remove(slot);
        }
    }
}
