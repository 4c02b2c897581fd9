//! The queue beside a list that does the same.

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[derive(Clone, Debug)]
struct Model {
    cursor: Cursor,
    now: i64,
    last_id: i64,
    /// Oldest first.
    held: Vec<Listed>,
    /// What the last step came to.
    answer: Answer,
}

#[derive(Clone, Debug)]
struct Listed {
    id: i64,
    message: u8,
    redelivery: Redelivery,
    not_before: Option<i64>,
}

#[derive(Clone, Debug)]
enum Step {
    Push(u8, Redelivery),
    PutBack(i64, u8, Redelivery),
    Deliver(Option<i64>),
    Remove(i64),
    /// Every message that is this one.
    RemoveAll(u8),
    Wait(i64),
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Nothing,
    Id(i64),
    Delivered(Option<(i64, u8)>),
    Removed(Option<u8>),
    AllRemoved(Vec<(i64, u8)>),
}

impl Model {
    fn shows(&self, listed: &Listed, cursor: Option<i64>) -> bool {
        match (self.cursor, cursor) {
            (Cursor::SkipsSeen, Some(seen)) => listed.id > seen,
            (Cursor::SkipsSeen, None) | (Cursor::Ignored, _) => true,
        }
    }

    fn list(&mut self, id: i64, message: u8, redelivery: Redelivery) -> Answer {
        self.held.retain(|listed| listed.id != id);
        self.held.push(Listed { id, message, redelivery, not_before: None });
        self.held.sort_by_key(|listed| listed.id);
        Answer::Id(id)
    }

    fn deliver(&mut self, cursor: Option<i64>) -> Option<(i64, u8)> {
        let is_due = |listed: &Listed| listed.not_before.is_none_or(|not_before| self.now >= not_before);
        let found = self.held.iter().position(|listed| self.shows(listed, cursor) && is_due(listed))?;
        let listed = &mut self.held[found];
        if let Redelivery::After(period) = listed.redelivery {
            listed.not_before = Some(self.now + period.as_secs() as i64);
        }
        Some((listed.id, listed.message))
    }

    fn remove(&mut self, id: i64) -> Option<u8> {
        let found = self.held.iter().position(|listed| listed.id == id)?;
        Some(self.held.remove(found).message)
    }

    fn remove_all(&mut self, message: u8) -> Vec<(i64, u8)> {
        let (removed, kept) = self.held.drain(..).partition(|listed| listed.message == message);
        self.held = kept;
        Vec::into_iter(removed).map(|listed: Listed| (listed.id, listed.message)).collect()
    }

    fn next_delivery(&self, cursor: Option<i64>) -> Option<Timestamp> {
        let shown = self.held.iter().filter(|listed| self.shows(listed, cursor));
        shown.map(|listed| listed.not_before.map_or(Timestamp::MIN, at)).min()
    }

    /// No cursor, each that a receiver can come to, and two that it cannot.
    fn cursors(&self) -> impl Iterator<Item = Option<i64>> {
        (0..=self.last_id + 1).chain([i64::MAX]).map(Some).chain([None])
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        proptest::sample::select(&[Cursor::SkipsSeen, Cursor::Ignored][..])
            .prop_map(|cursor| Self { cursor, now: 0, last_id: 0, held: Vec::new(), answer: Answer::Nothing })
            .boxed()
    }

    fn transitions(model: &Self) -> BoxedStrategy<Step> {
        let message = || 0u8..3;
        let period = (1u64..6).prop_map(|seconds| Redelivery::After(Duration::from_secs(seconds)));
        let redelivery = prop_oneof![Just(Redelivery::AtOnce), period].boxed();
        let cursor = proptest::sample::select(model.cursors().collect::<Vec<_>>());
        prop_oneof![
            3 => (message(), redelivery.clone()).prop_map(|(message, redelivery)| Step::Push(message, redelivery)),
            1 => (1..=model.last_id.max(1), message(), redelivery)
                .prop_map(|(id, message, redelivery)| Step::PutBack(id, message, redelivery)),
            4 => cursor.prop_map(Step::Deliver),
            2 => (0..=model.last_id + 1).prop_map(Step::Remove),
            1 => message().prop_map(Step::RemoveAll),
            3 => (0i64..5).prop_map(Step::Wait),
        ]
        .boxed()
    }

    /// Only an id that a message has had can be put back.
    fn preconditions(model: &Self, step: &Step) -> bool {
        !matches!(step, Step::PutBack(id, ..) if *id > model.last_id)
    }

    fn apply(mut model: Self, step: &Step) -> Self {
        model.answer = match *step {
            Step::Push(message, redelivery) => {
                model.last_id += 1;
                model.list(model.last_id, message, redelivery)
            }
            Step::PutBack(id, message, redelivery) => model.list(id, message, redelivery),
            Step::Deliver(cursor) => Answer::Delivered(model.deliver(cursor)),
            Step::Remove(id) => Answer::Removed(model.remove(id)),
            Step::RemoveAll(message) => Answer::AllRemoved(model.remove_all(message)),
            Step::Wait(seconds) => {
                model.now += seconds;
                Answer::Nothing
            }
        };
        model
    }
}

struct Comparison;

impl StateMachineTest for Comparison {
    type SystemUnderTest = MessageQueue<u8>;
    type Reference = Model;

    fn init_test(model: &Model) -> MessageQueue<u8> {
        MessageQueue::new(model.cursor)
    }

    fn apply(mut queue: MessageQueue<u8>, model: &Model, step: Step) -> MessageQueue<u8> {
        let answer = match step {
            Step::Push(message, redelivery) => Answer::Id(queue.push(message, redelivery)),
            Step::PutBack(id, message, redelivery) => Answer::Id(queue.put_back(id, message, redelivery)),
            Step::Deliver(cursor) => {
                Answer::Delivered(queue.deliver(cursor, at(model.now)).map(|(id, message)| (id, *message)))
            }
            Step::Remove(id) => Answer::Removed(queue.remove(id)),
            Step::RemoveAll(message) => Answer::AllRemoved(queue.remove_where(|held| *held == message)),
            Step::Wait(_) => Answer::Nothing,
        };
        assert_eq!(answer, model.answer);
        queue
    }

    fn check_invariants(queue: &MessageQueue<u8>, model: &Model) {
        let held = queue.iter().map(|(id, message)| (id, *message));
        assert!(held.eq(model.held.iter().map(|listed| (listed.id, listed.message))), "{queue:?}");
        for cursor in model.cursors() {
            assert_eq!(queue.next_delivery(cursor), model.next_delivery(cursor), "with cursor {cursor:?}");
        }
        for id in 0..=model.last_id + 1 {
            assert_eq!(queue.is_last(id), id >= model.last_id, "{id}");
        }
    }
}

prop_state_machine! {
    #[test]
    fn it_does_what_a_list_does(sequential 1..60 => Comparison);
}
