//! How fast links carry data, and what becomes of their queues when that changes.

use std::time::Duration;

use super::connection::{Side, UnderWay, Watch};
use super::{Condition, LOOPBACK_LATENCY, Link, LinkId, Net, State};
use crate::time::SimTime;

/// What went over a link of one rate in some time, over another: the time is so much longer or shorter.
#[derive(Clone, Copy)]
struct Change {
    before: u64,
    /// None if the link is not limited any more.
    after: Option<u64>,
}

impl Net {
    /// Draws when something of so many bytes that is sent now leaves the sender, and when it arrives.
    pub(super) fn passage(&self, state: &mut State, link: LinkId, bytes: usize) -> (SimTime, SimTime) {
        let now = self.kernel.now();
        let Some(place) = link else { return (now, now + LOOPBACK_LATENCY) };
        let link = &state.links[place];
        let slow = |what| if let Condition::Slow(extra) = what { Some(extra) } else { None };
        let extra = self.met(state, link.ends(), slow).unwrap_or_default();
        let rate = if bytes == 0 { None } else { self.rate(state, link) };
        let link = &mut state.links[place];
        let leaves = match rate {
            Some(rate) => {
                link.free_at = link.free_at.max(now) + time_for(bytes, rate);
                link.free_at
            }
            None => now,
        };
        let latency = squall_protocol::random::uniform(&mut link.random, link.profile.latency.clone());
        (leaves, leaves + latency + extra)
    }

    /// Bytes a second that get over a link, if limited, for something that is about to: faults have an effect on it.
    pub(super) fn rate(&self, state: &State, link: &Link) -> Option<u64> {
        link.narrowed_to(self.met(state, link.ends(), Condition::rate))
    }

    /// Changes what links are like. What waits for a link goes on at its new rate.
    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        let state = &mut *self.state.borrow_mut();
        let before: Vec<Option<u64>> = state.links.iter().map(|link| state.rate_now(link)).collect();
        change(state);
        for (place, before) in before.into_iter().enumerate() {
            let after = state.rate_now(&state.links[place]);
            if let Some(before) = before
                && after != Some(before)
            {
                self.pace_again(state, place, Change { before, after });
            }
        }
    }

    fn pace_again(&self, state: &mut State, place: usize, change: Change) {
        let now = self.kernel.now();
        let link = &mut state.links[place];
        if link.free_at <= now {
            return;
        }
        link.free_at = change.of(link.free_at, now);
        for (_, connection) in &mut state.connections {
            for writer in Side::BOTH {
                if connection.links[writer as usize] != Some(place) {
                    continue;
                }
                let pipe = &mut connection.pipes[writer as usize];
                let paced = std::mem::take(&mut pipe.under_way);
                for under_way in paced {
                    let next = change.of_passage(under_way, now).after(pipe.under_way.back());
                    pipe.under_way.push_back(next);
                }
                // A pipe that waits for a retransmission goes on waiting for it.
                if pipe.stall.is_none()
                    && matches!(pipe.watch, Watch::Timer(_))
                    && let Some(first) = pipe.under_way.front().map(|first| first.arrives)
                {
                    self.look_again_at(connection, writer, first);
                }
            }
        }
    }
}

impl Change {
    fn of(self, due: SimTime, now: SimTime) -> SimTime {
        if due <= now {
            return due;
        }
        let left = due.since(now).as_nanos() * u128::from(self.before);
        let left = self.after.map_or(0, |after| left / u128::from(after.max(1)));
        now + Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))
    }

    fn of_passage(self, passage: UnderWay, now: SimTime) -> UnderWay {
        let latency = passage.arrives.since(passage.leaves);
        let leaves = self.of(passage.leaves, now);
        UnderWay { leaves, arrives: leaves + latency, segment: passage.segment }
    }
}

impl UnderWay {
    /// It does not overtake what was sent before it on its connection.
    pub(super) fn after(mut self, before: Option<&UnderWay>) -> UnderWay {
        if let Some(before) = before {
            self.leaves = self.leaves.max(before.leaves);
            self.arrives = self.arrives.max(before.arrives);
        }
        self
    }
}

impl Condition {
    fn rate(self) -> Option<u64> {
        if let Condition::Narrow(rate) = self { Some(rate) } else { None }
    }
}

impl State {
    fn rate_now(&self, link: &Link) -> Option<u64> {
        let (from, to) = link.ends();
        let mut active = self.conditions.iter().filter(|active| active.holds_for(from, to));
        link.narrowed_to(active.find_map(|active| active.what.rate()))
    }
}

impl Link {
    fn narrowed_to(&self, narrow: Option<u64>) -> Option<u64> {
        self.profile.bandwidth.into_iter().chain(narrow).min()
    }
}

fn time_for(bytes: usize, rate: u64) -> Duration {
    Duration::from_nanos(bytes as u64 * 1_000_000_000 / rate.max(1))
}
