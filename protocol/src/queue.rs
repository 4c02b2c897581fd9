//! Message queues: what a server holds for one receiver until it has had it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::deadlines::after;

/// What a receiver's cursor, the id of the last message it saw, does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// Messages up to it are not handed out again, deleted or not.
    SkipsSeen,
    /// Nothing: every message that is not deleted is handed out.
    Ignored,
}

/// When a message that has been handed out is handed out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Redelivery {
    /// At the next call that its cursor does not exclude.
    AtOnce,
    /// After this time, until it is acknowledged.
    After(Duration),
}

#[derive(Clone, Debug)]
struct Held<M> {
    message: M,
    redelivery: Redelivery,
    not_before: Option<Timestamp>,
}

/// The messages that are held for one receiver. Their ids grow.
#[derive(Clone, Debug)]
pub struct MessageQueue<M> {
    cursor: Cursor,
    last_id: i64,
    held: BTreeMap<i64, Held<M>>,
}

impl<M> MessageQueue<M> {
    /// A queue without messages.
    pub fn new(cursor: Cursor) -> Self {
        Self { cursor, last_id: 0, held: BTreeMap::new() }
    }

    /// Puts a message in and gives it an id.
    pub fn push(&mut self, message: M, redelivery: Redelivery) -> i64 {
        self.last_id += 1;
        self.held.insert(self.last_id, Held { message, redelivery, not_before: None });
        self.last_id
    }

    /// Puts a message in by an id that one had before, and returns it.
    ///
    /// # Panics
    /// When no message has had this id.
    pub fn put_back(&mut self, id: i64, message: M, redelivery: Redelivery) -> i64 {
        assert!(id <= self.last_id, "{id} is the id of no message yet");
        self.held.insert(id, Held { message, redelivery, not_before: None });
        id
    }

    /// Has no message a later id than this?
    pub fn is_last(&self, id: i64) -> bool {
        id >= self.last_id
    }

    /// Hands out the oldest message that may be handed out now. It stays until it is removed.
    pub fn deliver(&mut self, cursor: Option<i64>, now: Timestamp) -> Option<(i64, &M)> {
        let first = self.first(cursor);
        let (id, held) = self
            .held
            .range_mut(first..)
            .find(|(_, held)| held.not_before.is_none_or(|not_before| not_before <= now))?;
        if let Redelivery::After(period) = held.redelivery {
            held.not_before = Some(after(now, period));
        }
        Some((*id, &held.message))
    }

    /// When the next message may be handed out; the past means now.
    pub fn next_delivery(&self, cursor: Option<i64>) -> Option<Timestamp> {
        self.held.range(self.first(cursor)..).map(|(_, held)| held.not_before.unwrap_or(Timestamp::MIN)).min()
    }

    fn first(&self, cursor: Option<i64>) -> i64 {
        match (self.cursor, cursor) {
            (Cursor::SkipsSeen, Some(seen)) => seen.saturating_add(1),
            _ => i64::MIN,
        }
    }

    /// Forgets a message; `None` when there is none of this id.
    pub fn remove(&mut self, id: i64) -> Option<M> {
        self.held.remove(&id).map(|held| held.message)
    }

    /// Forgets the messages that `which` picks, and gives them back with their ids.
    pub fn remove_where(&mut self, which: impl Fn(&M) -> bool) -> Vec<(i64, M)> {
        let ids: Vec<i64> = self.held.iter().filter(|(_, held)| which(&held.message)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| Some((id, self.remove(id)?))).collect()
    }

    /// The held messages, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &M)> {
        self.held.iter().map(|(id, held)| (*id, &held.message))
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const PERIOD: Redelivery = Redelivery::After(Duration::from_secs(10));

    #[test]
    fn a_cursor_hides_what_was_seen_if_it_counts() {
        let mut queue = MessageQueue::new(Cursor::SkipsSeen);
        queue.push("a", Redelivery::AtOnce);
        queue.push("b", Redelivery::AtOnce);
        assert_eq!(queue.deliver(None, at(0)), Some((1, &"a")));
        assert_eq!(queue.deliver(None, at(0)), Some((1, &"a")));
        assert_eq!(queue.deliver(Some(1), at(0)), Some((2, &"b")));
        assert_eq!(queue.deliver(Some(2), at(0)), None);
        assert_eq!(queue.deliver(Some(i64::MAX), at(0)), None);
        let mut queue = MessageQueue::new(Cursor::Ignored);
        queue.push("a", Redelivery::AtOnce);
        assert_eq!(queue.deliver(Some(1), at(0)), Some((1, &"a")));
        assert_eq!(queue.remove(1), Some("a"));
        assert_eq!(queue.remove(1), None);
        assert_eq!(queue.deliver(Some(0), at(0)), None);
    }

    #[test]
    fn a_message_that_is_put_back_is_hidden_by_a_cursor_that_saw_it() {
        let mut queue = MessageQueue::new(Cursor::SkipsSeen);
        assert_eq!(queue.push("a", Redelivery::AtOnce), 1);
        assert_eq!(queue.remove(1), Some("a"));
        assert_eq!(queue.put_back(1, "a again", Redelivery::AtOnce), 1);
        assert_eq!(queue.deliver(Some(1), at(0)), None);
        assert_eq!(queue.deliver(Some(0), at(0)), Some((1, &"a again")));
        assert_eq!(queue.push("b", Redelivery::AtOnce), 2);
    }

    #[test]
    fn a_message_comes_back_after_its_period() {
        let mut queue = MessageQueue::new(Cursor::SkipsSeen);
        queue.push("a", PERIOD);
        assert_eq!(queue.next_delivery(None), Some(Timestamp::MIN));
        assert_eq!(queue.deliver(None, at(0)), Some((1, &"a")));
        assert_eq!(queue.next_delivery(None), Some(at(10)));
        assert_eq!(queue.deliver(None, at(9)), None);
        assert_eq!(queue.deliver(None, at(10)), Some((1, &"a")));
        assert_eq!(queue.remove_where(|message| *message == "a"), [(1, "a")]);
        assert_eq!(queue.next_delivery(None), None);
    }
}
