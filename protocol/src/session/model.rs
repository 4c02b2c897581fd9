//! The table beside a list that does the same.

use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;

const LIFE: i64 = 10;
const AGENTS: std::ops::Range<u8> = 0..3;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[derive(Clone, Debug)]
struct Model {
    on_conflict: OnConflict,
    conflict_extends: ConflictExtends,
    now: i64,
    /// Creations are numbered, and so are the sessions that they ask for.
    last_id: u32,
    live: Vec<Live>,
    /// What the last step came to.
    answer: Answer,
}

#[derive(Clone, Debug)]
struct Live {
    session: Session<u32, u8>,
    end: i64,
}

#[derive(Clone, Debug)]
enum Step {
    Open {
        agent: u8,
        owner: &'static str,
        key: Option<&'static str>,
    },
    Refresh(u32),
    Close(u32),
    /// Time passes, and what has ended by then is taken out.
    Wait(i64),
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Nothing,
    Opened(Result<Opened<u32, u8>, Conflict<u32>>),
    Found(Option<Session<u32, u8>>),
    Ended(Vec<Session<u32, u8>>),
}

impl Model {
    fn open(&mut self, agent: u8, owner: &str, key: Option<&str>) -> Result<Opened<u32, u8>, Conflict<u32>> {
        let (owner, idempotency_key) = (owner.to_owned(), key.map(str::to_owned));
        let session = Session { id: self.last_id, agent, owner, idempotency_key };
        let asked = Live { session, end: self.now + LIFE };
        let Some(found) = self.live.iter().position(|live| live.session.agent == agent) else {
            self.live.push(asked);
            return Ok(Opened::Fresh);
        };
        let live = &mut self.live[found];
        let same_creation = key.is_some() && live.session.idempotency_key == asked.session.idempotency_key;
        let same_owner = live.session.owner == asked.session.owner;
        match (self.on_conflict, same_creation, same_owner) {
            (OnConflict::AnswerAgain | OnConflict::TakeOver, true, _) => {
                live.end = asked.end;
                Ok(Opened::Again(live.session.id))
            }
            (OnConflict::TakeOver, false, true) => {
                let ended = std::mem::replace(live, asked);
                Ok(Opened::InPlaceOf(ended.session))
            }
            (OnConflict::Refuse, ..) | (OnConflict::AnswerAgain, false, _) | (OnConflict::TakeOver, false, false) => {
                if self.conflict_extends == ConflictExtends::LiveSession {
                    live.end = asked.end;
                }
                Err(Conflict { live: live.session.id, owner: live.session.owner.clone() })
            }
        }
    }

    fn refresh(&mut self, id: u32) -> Option<Session<u32, u8>> {
        let live = self.live.iter_mut().find(|live| live.session.id == id)?;
        live.end = self.now + LIFE;
        Some(live.session.clone())
    }

    fn close(&mut self, id: u32) -> Option<Session<u32, u8>> {
        let found = self.live.iter().position(|live| live.session.id == id)?;
        Some(self.live.remove(found).session)
    }

    /// The earliest end comes first, and of several the smallest id.
    fn expire(&mut self) -> Vec<Session<u32, u8>> {
        let (mut ended, kept): (Vec<_>, Vec<_>) = self.live.drain(..).partition(|live| self.now >= live.end);
        self.live = kept;
        ended.sort_by_key(|live| (live.end, live.session.id));
        ended.into_iter().map(|live| live.session).collect()
    }

    /// Every id that a session has had, and two that none has.
    fn ids(&self) -> std::ops::RangeInclusive<u32> {
        0..=self.last_id + 1
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        let on_conflict = select(&[OnConflict::Refuse, OnConflict::AnswerAgain, OnConflict::TakeOver][..]);
        let conflict_extends = select(&[ConflictExtends::Nothing, ConflictExtends::LiveSession][..]);
        (on_conflict, conflict_extends)
            .prop_map(|(on_conflict, conflict_extends)| Self {
                on_conflict,
                conflict_extends,
                now: 0,
                last_id: 0,
                live: Vec::new(),
                answer: Answer::Nothing,
            })
            .boxed()
    }

    fn transitions(model: &Self) -> BoxedStrategy<Step> {
        let owner = select(&["a", "b"][..]);
        let key = select(&[None, Some("k"), Some("l")][..]);
        // Sessions that live are meant about as often as all others together.
        let live = model.live.iter().map(|live| live.session.id).cycle().take(model.live.len() * 3);
        let id = select(live.chain(model.ids()).collect::<Vec<_>>());
        prop_oneof![
            4 => (AGENTS, owner, key).prop_map(|(agent, owner, key)| Step::Open { agent, owner, key }),
            2 => id.clone().prop_map(Step::Refresh),
            1 => id.prop_map(Step::Close),
            3 => (0i64..8).prop_map(Step::Wait),
        ]
        .boxed()
    }

    fn apply(mut model: Self, step: &Step) -> Self {
        model.answer = match *step {
            Step::Open { agent, owner, key } => {
                model.last_id += 1;
                Answer::Opened(model.open(agent, owner, key))
            }
            Step::Refresh(id) => Answer::Found(model.refresh(id)),
            Step::Close(id) => Answer::Found(model.close(id)),
            Step::Wait(seconds) => {
                model.now += seconds;
                Answer::Ended(model.expire())
            }
        };
        model
    }
}

struct Comparison;

impl StateMachineTest for Comparison {
    type SystemUnderTest = SessionTable<u32, u8>;
    type Reference = Model;

    fn init_test(model: &Model) -> SessionTable<u32, u8> {
        let life = Duration::from_secs(LIFE as u64);
        SessionTable::new(SessionRules {
            life,
            on_conflict: model.on_conflict,
            conflict_extends: model.conflict_extends,
        })
    }

    fn apply(mut table: SessionTable<u32, u8>, model: &Model, step: Step) -> SessionTable<u32, u8> {
        let now = at(model.now);
        let answer = match step {
            Step::Open { agent, owner, key } => {
                let (owner, idempotency_key) = (owner.to_owned(), key.map(str::to_owned));
                Answer::Opened(table.open(Creation { id: model.last_id, agent, owner, idempotency_key }, now))
            }
            Step::Refresh(id) => Answer::Found(table.refresh(&id, now).cloned()),
            Step::Close(id) => Answer::Found(table.close(&id)),
            Step::Wait(_) => Answer::Ended(std::iter::from_fn(|| table.expire(now)).collect()),
        };
        assert_eq!(answer, model.answer);
        table
    }

    fn check_invariants(table: &SessionTable<u32, u8>, model: &Model) {
        assert_eq!(table.next_end(), model.live.iter().map(|live| at(live.end)).min());
        for id in model.ids() {
            let live = model.live.iter().find(|live| live.session.id == id);
            assert_eq!(table.get(&id), live.map(|live| &live.session), "session {id}");
            assert_eq!(table.end_of(&id), live.map(|live| at(live.end)), "session {id}");
        }
        for agent in AGENTS {
            let live = model.live.iter().find(|live| live.session.agent == agent);
            assert_eq!(table.of(&agent), live.map(|live| &live.session), "of agent {agent}");
        }
    }
}

prop_state_machine! {
    #[test]
    fn it_does_what_a_list_does(sequential 1..60 => Comparison);
}
