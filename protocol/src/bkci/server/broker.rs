//! The message broker: events of builds, delivered at least once.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::nuisance::Arrival;
use crate::deadlines::after;
use crate::facts::Outcome;

/// An event of a build.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub(super) build: String,
    /// The attempt that it says it is about.
    pub(super) attempt: Option<u32>,
    /// The attempt that it is about.
    pub(super) origin: u32,
    pub(super) what: What,
}

/// What an event asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// Start what a stage has to start, or go on to the next one (`PipelineBuildStageEvent`).
    Stage,
    /// Find a job's agent and lock it (`PipelineBuildContainerEvent`).
    Container(u32),
    /// Put a job into its agent's queue; it was tried so often before (`PipelineAgentStartupEvent`).
    Dispatch { seq: u32, tries: u32 },
    /// As `Dispatch`, out of the environment's queue, whose lock has this value (`TPAQueueEvent`).
    EnvQueue { seq: u32, tries: u32, value: String },
    /// Has the job's worker started?
    StartCheck(u32),
    /// Is the job's worker alive?
    HeartbeatCheck(u32),
    /// The build has ended so (`PipelineBuildFinishEvent`).
    Finish(Outcome),
    /// Somebody wants it to end (`PipelineBuildCancelEvent`).
    Cancel,
    /// Give locks back: their agents, and their value.
    Release { agents: Vec<String>, value: String },
}

/// Events on their way, and those that somebody is handling.
#[derive(Default)]
pub(super) struct Broker {
    queue: BTreeMap<(Timestamp, u64), (Event, Option<u64>)>,
    in_hand: BTreeMap<u64, Event>,
    last: u64,
}

/// How soon an event that could not be handled is delivered again.
pub(super) const REDELIVERY: Duration = Duration::from_secs(5);

impl Broker {
    pub(super) fn publish(&mut self, event: Event, now: Timestamp, wait: Duration, arrivals: Vec<Arrival>) {
        for Arrival { after: late, held_by } in arrivals {
            self.last += 1;
            self.queue.insert((after(now, wait + late), self.last), (event.clone(), held_by));
        }
    }

    /// Takes out an event that is due; it must be acknowledged.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<(u64, Event)> {
        let first = self.queue.first_entry()?;
        let (due, number) = *first.key();
        if due > now {
            return None;
        }
        let (event, _) = first.remove();
        self.in_hand.insert(number, event.clone());
        Some((number, event))
    }

    /// When the next event is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.queue.first_key_value().map(|((due, _), _)| *due)
    }

    /// An event was handled.
    pub(super) fn acknowledge(&mut self, number: u64) {
        self.in_hand.remove(&number);
    }

    /// An event was not handled.
    pub(super) fn refuse(&mut self, number: u64, now: Timestamp) {
        if let Some(event) = self.in_hand.remove(&number) {
            self.queue.insert((after(now, REDELIVERY), number), (event, None));
        }
    }

    /// Whoever was handling events is gone: they are delivered again.
    pub(super) fn reclaim(&mut self, now: Timestamp) {
        for (number, event) in std::mem::take(&mut self.in_hand) {
            self.queue.insert((now, number), (event, None));
        }
    }

    /// What was held back by this is held back no longer.
    pub(super) fn let_go(&mut self, id: u64, now: Timestamp) {
        let held = |(due, number): &(Timestamp, u64), by: &Option<u64>| (*by == Some(id)).then_some((*due, *number));
        let keys: Vec<_> = self.queue.iter().filter_map(|(key, (_, by))| held(key, by)).collect();
        for (due, number) in keys {
            if let Some((event, _)) = self.queue.remove(&(due, number)) {
                self.queue.insert((due.min(now), number), (event, None));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn event(build: &str) -> Event {
        Event { build: build.to_owned(), attempt: None, origin: 1, what: What::Stage }
    }

    fn arrival(seconds: u64, held_by: Option<u64>) -> Arrival {
        Arrival { after: Duration::from_secs(seconds), held_by }
    }

    #[test]
    fn what_is_not_acknowledged_comes_again() {
        let mut broker = Broker::default();
        broker.publish(event("b"), at(0), Duration::ZERO, vec![arrival(0, None)]);
        let (number, _) = broker.take_due(at(0)).unwrap();
        broker.refuse(number, at(1));
        assert_eq!((broker.take_due(at(5)), broker.next_due()), (None, Some(at(6))));
        broker.take_due(at(6)).unwrap();
        broker.reclaim(at(7));
        let (number, again) = broker.take_due(at(7)).unwrap();
        assert_eq!(again, event("b"));
        broker.acknowledge(number);
        broker.reclaim(at(8));
        assert_eq!(broker.next_due(), None);
    }

    #[test]
    fn copies_come_when_whoever_held_them_lets_go() {
        let mut broker = Broker::default();
        broker.publish(event("b"), at(0), Duration::ZERO, vec![arrival(0, None), arrival(300, Some(7))]);
        broker.take_due(at(0)).unwrap();
        assert_eq!(broker.take_due(at(60)), None);
        broker.let_go(7, at(60));
        assert_eq!(broker.take_due(at(60)).map(|(_, event)| event.build), Some("b".to_owned()));
    }
}
