//! What happens to segments between the two ends: they arrive, are sent again, bounce, or are given up.

use std::io;

use bytes::Bytes;

use super::connection::{Connection, ConnectionKey, Pipe, Probe, Segment, Side, Stall, UnderWay, Watch};
use super::{Condition, Net, RETRANSMIT_FIRST, RETRANSMIT_LIMIT, RETRANSMIT_PAUSE_MAX, State};
use crate::kernel::{Fire, Token};
use crate::time::SimTime;
use crate::trace::{NodeId, What, hash};

/// On a link of limited bandwidth data goes in pieces of this many a second, so that a reader sees them trickle.
const PIECES_PER_SECOND: u64 = 10;
/// The least that one piece has: an Ethernet frame's payload without IP and TCP headers.
const PIECE_BYTES_MIN: u64 = 1460;

/// The low bit of what is due is a side; the bits above it say what is due there, if it is not what it sent.
const EVENT_RESET: u32 = 2;
const EVENT_PROBE: u32 = 4;

impl Fire for Net {
    fn fire(&self, due: Token) {
        let state = &mut *self.state.borrow_mut();
        let slot = due.slot as usize;
        if state.find(ConnectionKey { slot, id: due.id }).is_none() {
            return;
        }
        let side = Side::BOTH[(due.what & 1) as usize];
        match due.what & !1 {
            EVENT_RESET => self.reset_bounced(state, slot, side),
            EVENT_PROBE => self.probe(state, slot, side),
            _ => self.deliver(state, slot, side),
        }
        state.forget_if_over(slot);
    }
}

/// Sending.
impl Net {
    /// Sends data for which there is room.
    pub(super) fn send_data(&self, state: &mut State, slot: usize, side: Side, mut data: Bytes) {
        let connection = &mut state.connections[slot];
        connection.pipes[side as usize].under_way_bytes += data.len();
        let link = connection.links[side as usize];
        if data.len() > PIECE_BYTES_MIN as usize
            && let Some(rate) = link.and_then(|link| self.rate(state, &state.links[link]))
        {
            let piece = (rate / PIECES_PER_SECOND).max(PIECE_BYTES_MIN) as usize;
            while data.len() > piece {
                self.send(state, slot, side, Segment::Data(data.split_to(piece)));
            }
        }
        self.send(state, slot, side, Segment::Data(data));
    }

    pub(super) fn send_fin(&self, state: &mut State, slot: usize, side: Side) {
        if !std::mem::replace(&mut state.connections[slot].pipes[side as usize].closed, true) {
            self.send(state, slot, side, Segment::Fin);
        }
    }

    /// A reset is sent once: when it is lost, the peer stays half-open. Of the data before it only what has left already
    /// still arrives.
    pub(super) fn send_reset(&self, state: &mut State, slot: usize, side: Side) {
        let pipe = &mut state.connections[slot].pipes[side as usize];
        pipe.forget_unsent(self.kernel.now());
        // Without data before it the reset waits for nobody's timer.
        if pipe.under_way.is_empty() {
            pipe.watch = Watch::Nothing;
        }
        pipe.closed = true;
        pipe.aborted = true;
        self.send(state, slot, side, Segment::Reset);
    }

    fn send(&self, state: &mut State, slot: usize, side: Side, segment: Segment) {
        let link = state.connections[slot].links[side as usize];
        let (leaves, arrives) = self.passage(state, link, segment.len());
        let connection = &mut state.connections[slot];
        let pipe = &mut connection.pipes[side as usize];
        pipe.under_way.push_back(UnderWay { leaves, arrives, segment }.after(pipe.under_way.back()));
        if pipe.watch != Watch::Nothing {
            return;
        }
        if state.hosts[connection.ends[side as usize].node.0 as usize].frozen {
            let now = self.kernel.now();
            pipe.stall = Some(Stall { since: now, pause: RETRANSMIT_FIRST, parked: Some(now) });
            pipe.watch = Watch::Thaw;
        } else {
            self.look_again_at(connection, side, arrives);
        }
    }

    /// Sets the timer that looks after what `writer` sent.
    pub(super) fn look_again_at(&self, connection: &mut Connection, writer: Side, at: SimTime) {
        connection.pipes[writer as usize].watch = Watch::Timer(at);
        self.fire_at(at, connection, writer as u32);
    }

    fn fire_at(&self, at: SimTime, connection: &Connection, what: u32) {
        let ConnectionKey { slot, id } = connection.key;
        let slot = u32::try_from(slot).expect("fewer than four thousand million connections");
        self.kernel.fire_at(at, Token { slot, what, id });
    }

    /// Sets the timer for the next probe of a reader that has no room.
    pub(super) fn probe_after(&self, connection: &mut Connection, writer: Side, probe: Probe) {
        connection.pipes[writer as usize].probe = Some(probe);
        let at = self.kernel.now() + probe.pause;
        self.fire_at(at, connection, EVENT_PROBE | writer as u32);
    }
}

/// Arriving.
impl Net {
    /// Delivers what `writer` sent and what is due, or puts it off if the way is not open.
    fn deliver(&self, state: &mut State, slot: usize, writer: Side) {
        let pipe = &mut state.connections[slot].pipes[writer as usize];
        if pipe.watch != Watch::Timer(self.kernel.now()) {
            return;
        }
        pipe.watch = Watch::Nothing;
        if pipe.under_way.is_empty() && pipe.unacknowledged.is_none() {
            pipe.stall = None;
            return;
        }
        let resent = pipe.stall.is_some();
        let (from, to) = state.connections[slot].way(writer);
        // What has left arrives even if its sender's machine was suspended meanwhile.
        if (resent && state.host(from).frozen) || !self.is_open(state, from, to) {
            return self.stall(state, slot, writer);
        }
        let now = self.kernel.now();
        let mut arrived = 0;
        while let Some(segment) = state.connections[slot].pipes[writer as usize].take_due(now) {
            arrived += segment.len();
            self.arrive(state, slot, writer, segment);
        }
        let acknowledged = self.is_open(state, to, from) || !state.resends(slot, writer);
        let connection = &mut state.connections[slot];
        let pipe = &mut connection.pipes[writer as usize];
        if !acknowledged {
            *pipe.unacknowledged.get_or_insert(0) += arrived;
            return self.stall(state, slot, writer);
        }
        pipe.stall = None;
        if pipe.unacknowledged.take().is_some() {
            pipe.writer.wake();
        }
        if let Some(next) = pipe.under_way.front().map(|next| next.arrives) {
            self.look_again_at(connection, writer, next);
        }
    }

    /// One segment arrives at its receiver's machine.
    fn arrive(&self, state: &mut State, slot: usize, writer: Side, segment: Segment) {
        let reader = writer.peer();
        let (now, (_, to)) = (self.kernel.now(), state.connections[slot].way(writer));
        let id = state.connections[slot].key.id;
        match segment {
            Segment::Reset => self.reset_end(state, slot, reader),
            Segment::Fin if state.knows(slot, reader) || state.has_let_go(slot, reader) => {
                let pipe = &mut state.connections[slot].pipes[writer as usize];
                pipe.finished = true;
                pipe.reader.wake();
                self.trace.add(now, to, &[2, id], || What::HalfClosed { connection: id });
            }
            Segment::Data(mut data) if state.knows(slot, reader) => {
                let reset_after = self.reset_due(state, slot, writer, data.len() as u64);
                data.truncate(reset_after.unwrap_or(u64::MAX).min(data.len() as u64) as usize);
                if !data.is_empty() {
                    let (bytes, hash) = (data.len() as u64, hash(&data));
                    let what = || What::Arrived { connection: id, bytes, hash };
                    self.trace.add(now, to, &[1, id, bytes, hash], what);
                    state.connections[slot].pipes[writer as usize].arrived(data);
                }
                if reset_after.is_some() {
                    self.break_both(state, slot, io::ErrorKind::ConnectionReset);
                }
            }
            Segment::Fin | Segment::Data(_) => self.bounce(state, slot, writer),
        }
    }

    /// Answers a segment of a connection that the receiver's machine does not know (any more): a reset goes back.
    fn bounce(&self, state: &mut State, slot: usize, writer: Side) {
        let way_back = state.connections[slot].links[writer.peer() as usize];
        let (_, back) = self.passage(state, way_back, 0);
        self.fire_at(back, &state.connections[slot], EVENT_RESET | writer as u32);
    }

    fn reset_bounced(&self, state: &mut State, slot: usize, side: Side) {
        let (from, to) = state.connections[slot].way(side.peer());
        if self.is_open(state, from, to) {
            self.reset_end(state, slot, side);
        }
    }

    /// A reset arrives at an end. One that was told before that nothing more comes sees a broken pipe, as on Linux.
    fn reset_end(&self, state: &mut State, slot: usize, side: Side) {
        let kind = match state.connections[slot].pipes[side.peer() as usize].finished {
            true => io::ErrorKind::BrokenPipe,
            false => io::ErrorKind::ConnectionReset,
        };
        self.break_end(state, slot, side, kind);
    }

    /// How many of the next `bytes` still pass before something in between resets the connection, if it does.
    fn reset_due(&self, state: &mut State, slot: usize, writer: Side, bytes: u64) -> Option<u64> {
        let (from, to) = state.connections[slot].way(writer);
        let mut active = state.conditions.iter().filter(|active| active.holds_for(from, to));
        let (fault, after) = active.find_map(|active| match active.what {
            Condition::ResetAfter(after) => Some((active.fault, after)),
            _ => None,
        })?;
        let pipe = &mut state.connections[slot].pipes[writer as usize];
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
}

/// Giving up.
impl Net {
    /// Tries again later, or gives the connection up on the writer's side.
    fn stall(&self, state: &mut State, slot: usize, writer: Side) {
        let now = self.kernel.now();
        let resends = state.resends(slot, writer);
        let connection = &mut state.connections[slot];
        let frozen = state.hosts[connection.ends[writer as usize].node.0 as usize].frozen;
        let pipe = &mut connection.pipes[writer as usize];
        if !resends {
            return pipe.abandon();
        }
        let stall = pipe.stall.get_or_insert(Stall { since: now, pause: RETRANSMIT_FIRST, parked: None });
        if frozen {
            stall.parked = Some(now);
            pipe.watch = Watch::Thaw;
            return;
        }
        if now.since(stall.since) >= RETRANSMIT_LIMIT {
            return self.break_end(state, slot, writer, io::ErrorKind::TimedOut);
        }
        let again = now + stall.pause;
        stall.pause = (stall.pause * 2).min(RETRANSMIT_PAUSE_MAX);
        self.look_again_at(connection, writer, again);
    }

    /// A machine that was suspended sends again what it was about to, and has come no closer to giving up.
    pub(super) fn resume_sending(&self, state: &mut State, node: NodeId) {
        let now = self.kernel.now();
        for (_, connection) in &mut state.connections {
            for writer in Side::BOTH {
                let stall = &mut connection.pipes[writer as usize].stall;
                if connection.ends[writer as usize].node == node
                    && let Some(stall) = stall
                    && let Some(parked) = stall.parked.take()
                {
                    stall.since += now.since(parked);
                    let again = now + stall.pause;
                    self.look_again_at(connection, writer, again);
                }
            }
        }
    }

    /// Asks whether the reader that has no room is still there. Only silence counts towards the limit.
    fn probe(&self, state: &mut State, slot: usize, writer: Side) {
        let (from, to) = state.connections[slot].way(writer);
        let pipe = &mut state.connections[slot].pipes[writer as usize];
        let Some(mut probe) = pipe.probe.take() else { return };
        if !pipe.writer.waits() || pipe.room() > 0 {
            return;
        }
        let answered_anyway = pipe.under_way_bytes > 0 || pipe.unacknowledged.is_some();
        let now = self.kernel.now();
        if answered_anyway || state.host(from).frozen {
            // Retransmission finds a silent peer by itself, and a suspended machine asks nothing.
        } else if !self.is_open(state, from, to) || !self.is_open(state, to, from) {
            let since = *probe.silent_since.get_or_insert(now);
            if now.since(since) >= RETRANSMIT_LIMIT {
                return self.break_end(state, slot, writer, io::ErrorKind::TimedOut);
            }
        } else if state.knows(slot, writer.peer()) {
            probe.silent_since = None;
        } else {
            self.bounce(state, slot, writer);
        }
        probe.pause = (probe.pause * 2).min(RETRANSMIT_PAUSE_MAX);
        self.probe_after(&mut state.connections[slot], writer, probe);
    }

    /// Both ends learn at once that the connection is broken.
    pub(super) fn break_both(&self, state: &mut State, slot: usize, kind: io::ErrorKind) {
        for side in Side::BOTH {
            self.break_end(state, slot, side, kind);
        }
    }

    fn break_end(&self, state: &mut State, slot: usize, side: Side, kind: io::ErrorKind) {
        let connection = &mut state.connections[slot];
        let end = &mut connection.ends[side as usize];
        if end.error.is_some() {
            return;
        }
        end.error = Some(kind);
        let (node, id) = (end.node, connection.key.id);
        connection.pipes[side as usize].abandon();
        connection.wake_end(side);
        self.trace.add(self.kernel.now(), node, &[3, id, kind as u64], || What::Broken {
            connection: id,
            why: io::Error::from(kind).to_string(),
        });
    }
}

impl Pipe {
    fn take_due(&mut self, now: SimTime) -> Option<Segment> {
        self.under_way.front().filter(|next| next.arrives <= now)?;
        let segment = self.under_way.pop_front()?.segment;
        self.under_way_bytes -= segment.len();
        Some(segment)
    }
}

impl State {
    /// Has the machine at an end somebody who takes what arrives?
    fn knows(&self, slot: usize, side: Side) -> bool {
        let end = &self.connections[slot].ends[side as usize];
        !end.dropped && end.error.is_none() && self.is_alive(slot, side)
    }

    /// Does an end still send again what was lost?
    fn resends(&self, slot: usize, side: Side) -> bool {
        let connection = &self.connections[slot];
        let broken = connection.ends[side as usize].error.is_some() || connection.pipes[side as usize].aborted;
        !broken && self.is_alive(slot, side)
    }

    /// Was an end closed in an orderly way by its process, on a machine that still runs?
    fn has_let_go(&self, slot: usize, side: Side) -> bool {
        let end = &self.connections[slot].ends[side as usize];
        end.dropped && end.error.is_none() && self.is_alive(slot, side)
    }
}
