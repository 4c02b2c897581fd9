//! Sessions: at most one of each scale set.

use jiff::Timestamp;
use uuid::Uuid;

use super::failure::Failure;
use super::parameters::{RefreshAnswer, SecondDelete};
use super::state::{SetId, State, Subject};
use crate::arc::wire;
use crate::deadlines::after;
use crate::effect::OnEffect;
use crate::facts::{Fact, SessionEnd};
use crate::session::{Creation, Opened, Session};

impl State {
    pub(super) fn open_session(
        &mut self,
        set: SetId,
        owner: String,
        idempotency_key: Option<String>,
        now: Timestamp,
    ) -> Result<wire::Session, Failure> {
        let agent = self.sets[&set].name.clone();
        let creation = Creation { id: self.draw_uuid(), agent: set, owner: owner.clone(), idempotency_key };
        let id = creation.id;
        let id = match self.sessions.open(creation, now) {
            Ok(Opened::Fresh) => id,
            Ok(Opened::Again(id)) => {
                self.record(Fact::SessionRefreshed { session: id.to_string().into() });
                return Ok(self.shown_session(set, id, owner, now));
            }
            Ok(Opened::InPlaceOf(old)) => {
                self.session_ended(&old, SessionEnd::Replaced);
                id
            }
            Err(conflict) => {
                self.record(Fact::SessionConflict { agent: agent.clone(), live: conflict.live.to_string().into() });
                return Err(Failure::SessionConflict { set: agent.to_string(), owner: conflict.owner });
            }
        };
        self.record(Fact::SessionOpened { session: id.to_string().into(), agent });
        Ok(self.shown_session(set, id, owner, now))
    }

    /// A session with a new token for its queue.
    fn shown_session(&mut self, set: SetId, id: Uuid, owner_name: String, now: Timestamp) -> wire::Session {
        let token = self.draw_uuid().simple().to_string();
        let (life, lag) = (self.parameters.queue_token_life, self.parameters.queue_token_lag);
        self.tokens.issue(token.clone(), Subject::Queue(set, id), life, now);
        self.known_from.retain(|_, from| *from > now);
        if !lag.is_zero() {
            self.known_from.insert(token.clone(), after(now, lag));
        }
        let statistics = Some(self.statistics(&self.sets[&set]));
        wire::Session {
            session_id: id,
            owner_name,
            runner_scale_set: Some(self.shown(set)),
            message_queue_url: format!("{}message/{set}", self.parameters.addresses.service),
            message_queue_access_token: token,
            statistics,
        }
    }

    pub(super) fn refresh_session(&mut self, set: SetId, id: &str, now: Timestamp) -> Result<wire::Session, Failure> {
        let unknown = || Failure::SessionUnknown(id.to_owned());
        let known: Uuid = id.parse().map_err(|_| unknown())?;
        let session = self.sessions.get(&known).filter(|session| session.agent == set).ok_or_else(unknown)?;
        let owner = session.owner.clone();
        self.touch(known, now)?;
        let session = self.shown_session(set, known, owner, now);
        Ok(match self.parameters.refresh_answer {
            RefreshAnswer::WholeSession => session,
            RefreshAnswer::TokenAlone => wire::Session {
                session_id: session.session_id,
                message_queue_access_token: session.message_queue_access_token,
                ..wire::Session::default()
            },
        })
    }

    pub(super) fn delete_session(&mut self, set: SetId, id: &str) -> Result<(), Failure> {
        let expired = || Failure::SessionExpired(id.to_owned());
        let known: Uuid = id.parse().map_err(|_| expired())?;
        let found = self.sessions.get(&known).is_some_and(|session| session.agent == set);
        match (found, self.parameters.second_delete) {
            (true, _) => {
                let session = self.sessions.close(&known).expect("it was just found");
                self.session_ended(&session, SessionEnd::Deleted);
                Ok(())
            }
            (false, SecondDelete::Succeeds) => Ok(()),
            (false, SecondDelete::NotFound) => Err(expired()),
        }
    }

    /// A session has left the table: its token is void, and its polls end.
    pub(super) fn session_ended(&mut self, session: &Session<Uuid, SetId>, why: SessionEnd) {
        self.tokens.revoke(&Subject::Queue(session.agent, session.id), &OnEffect::untold());
        if let Some(set) = self.sets.get(&session.agent) {
            self.record(Fact::SessionClosed { session: session.id.to_string().into(), agent: set.name.clone(), why });
            set.wake.notify(usize::MAX);
        }
    }
}
