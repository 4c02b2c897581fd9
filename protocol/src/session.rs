//! Sessions: at most one live session for each agent, refreshed or ended by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::deadlines::{Deadlines, after};

/// What a server does when an agent that has a live session asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// It refuses, whoever asks: an agent whose answer was lost conflicts with itself (actions/runner#3526, #1506).
    Refuse,
    /// It answers a creation that it has carried out, known by its idempotency key, with the same session once more; it
    /// refuses any other.
    AnswerAgain,
    /// As `AnswerAgain`; and the same owner with a new creation gets a new session in place of the old one.
    TakeOver,
}

/// Does a refused creation extend the life of the session it conflicts with? The real server does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictExtends {
    /// The live session goes on as if nobody had asked.
    Nothing,
    /// The live session begins its life anew.
    LiveSession,
}

/// The rules of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRules {
    /// How long a session lives that nobody refreshes.
    pub life: Duration,
    /// What a second session meets.
    pub on_conflict: OnConflict,
    /// What a refusal does to the first one.
    pub conflict_extends: ConflictExtends,
}

/// Somebody asks for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation<I, A> {
    /// The name it will have.
    pub id: I,
    /// For which agent.
    pub agent: A,
    /// Who asks: the machine, not its process.
    pub owner: String,
    /// Names this creation, however often it is sent.
    pub idempotency_key: Option<String>,
}

/// A live session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in `Creation`")]
pub struct Session<I, A> {
    pub id: I,
    pub agent: A,
    pub owner: String,
    pub idempotency_key: Option<String>,
}

/// How a creation was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened<I, A> {
    /// With the new session.
    Fresh,
    /// With the session that this very creation opened earlier.
    Again(I),
    /// With the new session; this one has ended.
    InPlaceOf(Session<I, A>),
}

/// Another session is live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict<I> {
    /// That one.
    pub live: I,
    /// Who has it.
    pub owner: String,
}

/// The live sessions of a server.
#[derive(Clone, Debug)]
pub struct SessionTable<I, A> {
    rules: SessionRules,
    sessions: BTreeMap<I, Session<I, A>>,
    by_agent: BTreeMap<A, I>,
    ends: Deadlines<I>,
}

impl<I: Ord + Clone, A: Ord + Clone> SessionTable<I, A> {
    /// A table without sessions.
    pub fn new(rules: SessionRules) -> Self {
        Self { rules, sessions: BTreeMap::new(), by_agent: BTreeMap::new(), ends: Deadlines::default() }
    }

    /// Opens a session. What has ended by `now` must have been taken out with [`SessionTable::expire`].
    ///
    /// # Errors
    /// [`Conflict`] when the agent has a live session and the rules do not yield.
    pub fn open(&mut self, creation: Creation<I, A>, now: Timestamp) -> Result<Opened<I, A>, Conflict<I>> {
        let Some(live) = self.of(&creation.agent).cloned() else {
            self.insert(creation, now);
            return Ok(Opened::Fresh);
        };
        let same_creation = creation.idempotency_key.is_some() && creation.idempotency_key == live.idempotency_key;
        match self.rules.on_conflict {
            OnConflict::AnswerAgain | OnConflict::TakeOver if same_creation => {
                self.ends.set(live.id.clone(), after(now, self.rules.life));
                Ok(Opened::Again(live.id))
            }
            OnConflict::TakeOver if creation.owner == live.owner => {
                self.close(&live.id);
                self.insert(creation, now);
                Ok(Opened::InPlaceOf(live))
            }
            _ => {
                if self.rules.conflict_extends == ConflictExtends::LiveSession {
                    self.ends.set(live.id.clone(), after(now, self.rules.life));
                }
                Err(Conflict { live: live.id, owner: live.owner })
            }
        }
    }

    fn insert(&mut self, creation: Creation<I, A>, now: Timestamp) {
        let Creation { id, agent, owner, idempotency_key } = creation;
        self.ends.set(id.clone(), after(now, self.rules.life));
        self.by_agent.insert(agent.clone(), id.clone());
        self.sessions.insert(id.clone(), Session { id, agent, owner, idempotency_key });
    }

    /// The session begins its life anew; `None` when there is none of this name.
    pub fn refresh(&mut self, id: &I, now: Timestamp) -> Option<&Session<I, A>> {
        let session = self.sessions.get(id)?;
        self.ends.set(id.clone(), after(now, self.rules.life));
        Some(session)
    }

    /// Ends a session; `None` when there is none of this name.
    pub fn close(&mut self, id: &I) -> Option<Session<I, A>> {
        let session = self.sessions.remove(id)?;
        self.by_agent.remove(&session.agent);
        self.ends.clear(id);
        Some(session)
    }

    /// Ends one session that nobody refreshed within its life; to be called until it says `None`.
    pub fn expire(&mut self, now: Timestamp) -> Option<Session<I, A>> {
        let id = self.ends.take_due(now)?;
        self.close(&id)
    }

    /// When the next session will end by itself.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.ends.next()
    }

    /// The live session of this name.
    pub fn get(&self, id: &I) -> Option<&Session<I, A>> {
        self.sessions.get(id)
    }

    /// The live session of an agent.
    pub fn of(&self, agent: &A) -> Option<&Session<I, A>> {
        self.by_agent.get(agent).and_then(|id| self.sessions.get(id))
    }

    /// When a session will end if nobody refreshes it.
    pub fn end_of(&self, id: &I) -> Option<Timestamp> {
        self.ends.of(id)
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

    fn rules(on_conflict: OnConflict, conflict_extends: ConflictExtends) -> SessionRules {
        SessionRules { life: Duration::from_secs(10), on_conflict, conflict_extends }
    }

    fn creation(id: u32, owner: &str, key: Option<&str>) -> Creation<u32, u8> {
        Creation { id, agent: 1, owner: owner.into(), idempotency_key: key.map(Into::into) }
    }

    #[test]
    fn a_second_session_is_refused_until_the_first_ends() {
        let mut table = SessionTable::new(rules(OnConflict::Refuse, ConflictExtends::Nothing));
        assert_eq!(table.open(creation(1, "a", Some("k")), at(0)), Ok(Opened::Fresh));
        let conflict = Conflict { live: 1, owner: "a".into() };
        assert_eq!(table.open(creation(2, "a", Some("k")), at(9)), Err(conflict));
        assert_eq!(table.expire(at(9)), None);
        assert_eq!(table.expire(at(10)).map(|ended| ended.id), Some(1));
        assert_eq!(table.open(creation(3, "b", None), at(10)), Ok(Opened::Fresh));
    }

    #[test]
    fn a_refusal_may_extend_the_live_session() {
        let mut table = SessionTable::new(rules(OnConflict::Refuse, ConflictExtends::LiveSession));
        table.open(creation(1, "a", None), at(0)).unwrap();
        table.open(creation(2, "a", None), at(5)).unwrap_err();
        assert_eq!(table.next_end(), Some(at(15)));
    }

    #[test]
    fn the_same_creation_gets_the_same_session() {
        for on_conflict in [OnConflict::AnswerAgain, OnConflict::TakeOver] {
            let mut table = SessionTable::new(rules(on_conflict, ConflictExtends::Nothing));
            table.open(creation(1, "a", Some("k")), at(0)).unwrap();
            assert_eq!(table.open(creation(2, "a", Some("k")), at(3)), Ok(Opened::Again(1)));
            assert_eq!(table.end_of(&1), Some(at(13)));
            assert!(table.open(creation(3, "b", Some("l")), at(3)).is_err());
        }
    }

    #[test]
    fn the_same_owner_takes_over() {
        let mut table = SessionTable::new(rules(OnConflict::TakeOver, ConflictExtends::Nothing));
        table.open(creation(1, "a", Some("k")), at(0)).unwrap();
        let Ok(Opened::InPlaceOf(ended)) = table.open(creation(2, "a", Some("l")), at(1)) else {
            panic!("not taken over");
        };
        assert_eq!((ended.id, table.of(&1).map(|session| session.id)), (1, Some(2)));
        assert!(table.refresh(&1, at(2)).is_none());
        let mut table = SessionTable::new(rules(OnConflict::AnswerAgain, ConflictExtends::Nothing));
        table.open(creation(1, "a", Some("k")), at(0)).unwrap();
        assert!(table.open(creation(2, "a", None), at(1)).is_err());
    }
}
