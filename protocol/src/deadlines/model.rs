//! Deadlines beside a list that does the same.

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;

const KEYS: std::ops::Range<u8> = 0..5;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[derive(Clone, Debug, Default)]
struct Model {
    set: Vec<(i64, u8)>,
    /// What the last step took out.
    taken: Option<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, i64),
    Clear(u8),
    TakeDue(i64),
}

impl Model {
    fn clear(&mut self, key: u8) {
        self.set.retain(|(_, other)| *other != key);
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let second = || 0i64..20;
        prop_oneof![
            2 => (KEYS, second()).prop_map(|(key, second)| Step::Set(key, second)),
            1 => KEYS.prop_map(Step::Clear),
            2 => second().prop_map(Step::TakeDue),
        ]
        .boxed()
    }

    /// The earliest is taken first, and of several the smallest key.
    fn apply(mut model: Self, step: &Step) -> Self {
        model.taken = None;
        match *step {
            Step::Set(key, second) => {
                model.clear(key);
                model.set.push((second, key));
            }
            Step::Clear(key) => model.clear(key),
            Step::TakeDue(now) => {
                let first = model.set.iter().min().filter(|(second, _)| now >= *second);
                model.taken = first.map(|(_, key)| *key);
                model.taken.inspect(|key| model.clear(*key));
            }
        }
        model
    }
}

struct Comparison;

impl StateMachineTest for Comparison {
    type SystemUnderTest = Deadlines<u8>;
    type Reference = Model;

    fn init_test(_: &Model) -> Deadlines<u8> {
        Deadlines::default()
    }

    fn apply(mut deadlines: Deadlines<u8>, model: &Model, step: Step) -> Deadlines<u8> {
        let taken = match step {
            Step::Set(key, second) => {
                deadlines.set(key, at(second));
                None
            }
            Step::Clear(key) => {
                deadlines.clear(&key);
                None
            }
            Step::TakeDue(now) => deadlines.take_due(at(now)),
        };
        assert_eq!(taken, model.taken);
        deadlines
    }

    fn check_invariants(deadlines: &Deadlines<u8>, model: &Model) {
        assert_eq!(deadlines.next(), model.set.iter().map(|(second, _)| at(*second)).min());
        for key in KEYS {
            let listed = model.set.iter().find(|(_, other)| *other == key);
            assert_eq!(deadlines.of(&key), listed.map(|(second, _)| at(*second)), "of {key}");
        }
    }
}

prop_state_machine! {
    #[test]
    fn it_does_what_a_list_does(sequential 1..60 => Comparison);
}
