//! The store beside a list that does the same.

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;

const KEYS: std::ops::Range<u8> = 0..3;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[derive(Clone, Debug)]
struct Model {
    now: i64,
    last_token: u64,
    locked: Vec<Locked>,
    /// What the last step came to.
    answer: Answer,
}

#[derive(Clone, Debug)]
struct Locked {
    key: u8,
    value: u8,
    token: u64,
    since: i64,
    /// When it was given which end: at its taking, and at each renewal.
    ends: Vec<(i64, i64)>,
}

#[derive(Clone, Debug)]
enum Step {
    Lock {
        key: u8,
        value: u8,
        life: i64,
    },
    Renew {
        key: u8,
        value: u8,
        life: i64,
    },
    Unlock {
        key: u8,
        value: u8,
    },
    /// A replica takes over that lags so many seconds behind.
    FailOver(i64),
    /// Nothing had been written down.
    Restart,
    /// Time passes, and what has ended by then is taken out.
    Wait(i64),
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Nothing,
    Tried(TryLock<u8>),
    Renewed(bool),
    Unlocked(Option<HeldLock<u8>>),
    /// They come in the order of their keys.
    Lost(Vec<(u8, HeldLock<u8>)>),
    /// The earliest end comes first, and of several the smallest key.
    Ended(Vec<(u8, HeldLock<u8>)>),
}

impl Locked {
    fn end(&self) -> i64 {
        self.ends[self.ends.len() - 1].1
    }

    fn lock(&self) -> HeldLock<u8> {
        HeldLock { value: self.value, token: self.token, since: at(self.since), until: at(self.end()) }
    }
}

impl Model {
    fn get(&self, key: u8) -> Option<Locked> {
        self.locked.iter().find(|locked| locked.key == key).cloned()
    }

    fn try_lock(&mut self, key: u8, value: u8, life: i64) -> TryLock<u8> {
        match self.get(key) {
            Some(locked) if locked.value == value => TryLock::ReEntered(locked.token),
            Some(locked) => TryLock::Held(locked.lock()),
            None => {
                self.last_token += 1;
                let (token, since) = (self.last_token, self.now);
                self.locked.push(Locked { key, value, token, since, ends: vec![(since, since + life)] });
                TryLock::Taken(token)
            }
        }
    }

    fn renew(&mut self, key: u8, value: u8, life: i64) -> bool {
        let now = self.now;
        let mine = self.locked.iter_mut().find(|locked| (locked.key, locked.value) == (key, value));
        mine.map(|locked| locked.ends.push((now, now + life))).is_some()
    }

    fn unlock(&mut self, key: u8, value: u8) -> Option<HeldLock<u8>> {
        let mine = self.get(key).filter(|locked| locked.value == value)?;
        self.locked.retain(|locked| locked.key != key);
        Some(mine.lock())
    }

    /// Takes out what `which` picks, in the order of `by`.
    fn take_out<O: Ord>(&mut self, which: impl Fn(&Locked) -> bool, by: fn(&Locked) -> O) -> Vec<(u8, HeldLock<u8>)> {
        let (mut gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.locked).into_iter().partition(which);
        self.locked = kept;
        gone.sort_by_key(by);
        gone.iter().map(|locked| (locked.key, locked.lock())).collect()
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self { now: 0, last_token: 0, locked: Vec::new(), answer: Answer::Nothing }).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let value = || 0u8..2;
        prop_oneof![
            6 => (KEYS, value(), 1i64..9).prop_map(|(key, value, life)| Step::Lock { key, value, life }),
            3 => (KEYS, value(), 1i64..9).prop_map(|(key, value, life)| Step::Renew { key, value, life }),
            3 => (KEYS, value()).prop_map(|(key, value)| Step::Unlock { key, value }),
            2 => (0i64..6).prop_map(Step::FailOver),
            1 => Just(Step::Restart),
            4 => (0i64..6).prop_map(Step::Wait),
        ]
        .boxed()
    }

    fn apply(mut model: Self, step: &Step) -> Self {
        let now = model.now;
        model.answer = match *step {
            Step::Lock { key, value, life } => Answer::Tried(model.try_lock(key, value, life)),
            Step::Renew { key, value, life } => Answer::Renewed(model.renew(key, value, life)),
            Step::Unlock { key, value } => Answer::Unlocked(model.unlock(key, value)),
            Step::FailOver(lag) => {
                let lost = model.take_out(|locked| locked.since >= now - lag, |locked| locked.key);
                model.locked.iter_mut().for_each(|locked| locked.ends.retain(|(given, _)| *given < now - lag));
                Answer::Lost(lost)
            }
            Step::Restart => Answer::Lost(model.take_out(|_| true, |locked| locked.key)),
            Step::Wait(seconds) => {
                model.now += seconds;
                let now = model.now;
                Answer::Ended(model.take_out(|locked| now >= locked.end(), |locked| (locked.end(), locked.key)))
            }
        };
        model
    }
}

struct Comparison;

impl StateMachineTest for Comparison {
    type SystemUnderTest = LockStore<u8, u8>;
    type Reference = Model;

    fn init_test(_: &Model) -> LockStore<u8, u8> {
        LockStore::default()
    }

    fn apply(mut store: LockStore<u8, u8>, model: &Model, step: Step) -> LockStore<u8, u8> {
        let now = at(model.now);
        let answer = match step {
            Step::Lock { key, value, life } => {
                Answer::Tried(store.try_lock(key, value, Duration::from_secs(life as u64), now))
            }
            Step::Renew { key, value, life } => {
                Answer::Renewed(store.renew(&key, &value, Duration::from_secs(life as u64), now))
            }
            Step::Unlock { key, value } => Answer::Unlocked(store.unlock(&key, &value)),
            Step::FailOver(lag) => Answer::Lost(store.forget_since(at(model.now - lag))),
            Step::Restart => Answer::Lost(store.forget_since(Timestamp::MIN)),
            Step::Wait(_) => Answer::Ended(std::iter::from_fn(|| store.expire(now)).collect()),
        };
        assert_eq!(answer, model.answer);
        store
    }

    fn check_invariants(store: &LockStore<u8, u8>, model: &Model) {
        assert_eq!(store.next_end(), model.locked.iter().map(|locked| at(locked.end())).min());
        let held = store.held().map(|(key, lock)| (*key, lock.clone()));
        let listed = KEYS.filter_map(|key| Some((key, model.get(key)?.lock())));
        assert!(held.eq(listed), "{store:?}");
        for key in KEYS {
            assert_eq!(store.get(&key), model.get(key).map(|locked| locked.lock()).as_ref(), "of {key}");
        }
    }
}

prop_state_machine! {
    #[test]
    fn it_does_what_a_list_does(sequential 1..60 => Comparison);
}
