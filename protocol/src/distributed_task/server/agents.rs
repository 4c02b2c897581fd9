//! Agents and their sessions in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use event_listener::Event;
use jiff::Timestamp;
use uuid::Uuid;

use super::failure::Failure;
use super::parameters::{
    Broker, BusyStatus, Encryption, Flow, IdlessDelete, Lifetime, Registered, Registration, Removal, SessionDelete,
};
use super::poll::Delivered;
use super::state::{Agent, AgentId, JobNumber, NO_JOB, Overlooked, Phase, Reported, Shown, Standing, State, Subject};
use crate::deadlines::after;
use crate::distributed_task::cipher::{Digest, SessionKey};
use crate::distributed_task::wire::{
    AgentAuthorization, AgentLabel, AgentPublicKey, BrokerMigration, Dialect, Property, TaskAgent, TaskAgentMessage,
    TaskAgentSession, message_type, property,
};
use crate::effect::OnEffect;
use crate::facts::{self, Fact, SessionEnd};
use crate::http::Receipt;
use crate::queue::MessageQueue;
use crate::session::{Conflict, Creation, Opened, Session};

/// Where a broker that is apart begins to number its messages: beyond all that a pool reaches.
const BROKER_NUMBERS: i64 = 1 << 40;
/// How long such a broker takes to learn of a job that a runner brings along from the pool: a guess.
const UNAWARE: Duration = Duration::from_secs(300);

impl State {
    pub(super) fn register(&mut self, registration: Registration) -> Registered {
        let Registration { name, pool, flow, encryption, lifetime, public_key } = registration;
        self.last_agent += 1;
        let id = self.last_agent;
        let client_id = self.draw_uuid();
        let agent = Agent {
            id,
            name: name.into(),
            pool,
            flow,
            encryption,
            lifetime,
            standing: Standing::Member,
            client_id,
            public_key,
            labels: vec!["self-hosted".into()],
            queue: MessageQueue::new(self.parameters.cursor),
            speaks: flow,
            session_key: None,
            use_fips: false,
            reported: Reported::Online,
            engaged: BTreeSet::new(),
            overlooked: Vec::new(),
            brings_job: None,
            idle_since: None,
            idle_before: 0,
            shown: Shown::default(),
            wake: Arc::new(Event::new()),
        };
        self.pools.insert(pool);
        self.by_client.insert(client_id, id);
        self.agents.insert(id, agent);
        let addresses = &self.parameters.addresses;
        Registered {
            agent_id: id,
            pool_id: pool,
            client_id,
            authorization_url: addresses.authorization.clone(),
            tenant_url: addresses.tenant.clone(),
            server_url_v2: (flow == Flow::V2).then(|| addresses.broker.clone()),
            lifetime,
        }
    }

    /// An agent as others see it.
    pub(super) fn agent_body(&self, agent: &Agent) -> TaskAgent {
        let online = agent.is_in_pool() && self.sessions.of(&agent.id).is_some();
        let labels = agent.labels.iter().zip(1..);
        let mut properties = BTreeMap::new();
        if agent.flow == Flow::V2 {
            properties.insert(property::USE_V2_FLOW.into(), Property::boolean(true));
            let broker = self.parameters.addresses.broker.as_str();
            properties.insert(property::SERVER_URL_V2.into(), Property::string(broker));
        }
        let number = |bytes: Vec<u8>| BASE64_STANDARD.encode(bytes);
        TaskAgent {
            id: agent.id,
            name: agent.name.to_string(),
            enabled: Some(true),
            status: Some(if online { "online" } else { "offline" }.into()),
            max_parallelism: Some(1),
            ephemeral: (agent.lifetime == Lifetime::Ephemeral).then_some(true),
            labels: Some(
                labels.map(|(name, id)| AgentLabel { id, name: name.clone(), kind: "system".into() }).collect(),
            ),
            authorization: Some(AgentAuthorization {
                authorization_url: Some(self.parameters.addresses.authorization.clone()),
                client_id: Some(agent.client_id),
                public_key: Some(AgentPublicKey {
                    exponent: number(agent.public_key.exponent()),
                    modulus: number(agent.public_key.modulus()),
                }),
            }),
            properties: Some(properties),
            ..TaskAgent::default()
        }
    }

    /// Forgets an agent: its session and tokens end, its lease is left to expire.
    pub(super) fn deregister(&mut self, id: AgentId, now: Timestamp) -> Result<(), Failure> {
        if !self.agents.contains_key(&id) {
            return Err(Failure::AgentNotFound);
        }
        if let Some(session) = self.sessions.of(&id).map(|session| session.id) {
            self.close_session(session, SessionEnd::Deleted, now);
        }
        self.tokens.revoke(&Subject::Agent(id), &OnEffect::untold());
        let agent = self.agents.remove(&id).ok_or(Failure::AgentNotFound)?;
        self.by_client.remove(&agent.client_id);
        self.withdraw_offers(id, &agent.engaged, now);
        Ok(())
    }

    /// Takes an agent out of its pool.
    pub(super) fn dismiss(&mut self, id: AgentId, now: Timestamp) -> Result<(), Failure> {
        let agent = self.agents.get(&id).ok_or(Failure::AgentNotFound)?;
        let mut leased = agent.engaged.iter().map(|job| &self.jobs[job]).filter(|job| job.phase == Phase::Leased(id));
        let stays = match self.parameters.removal {
            Removal::WaitsForJob => leased.next().is_some(),
            Removal::AtOnce => leased.any(|job| job.cancel_requested),
        };
        self.record(Fact::AgentDismissed { agent: agent.name.clone() });
        self.stands(id, if stays { Standing::HasItsJob } else { Standing::Gone }, now);
        Ok(())
    }

    /// The job that an ephemeral agent was assigned is lost to it. What is true once it has heard so.
    pub(super) fn assignment_lost(&mut self, id: AgentId, now: Timestamp) -> Option<Receipt> {
        let agent = self.agents.get(&id).filter(|agent| agent.lifetime == Lifetime::Ephemeral)?;
        let (name, standing) = (agent.name.clone(), agent.standing);
        if standing == Standing::Member {
            self.stands(id, Standing::LostItsJob, now);
        }
        (standing != Standing::HasItsJob).then(|| Fact::AgentDismissed { agent: name }.into())
    }

    /// From now on an agent is this to its pool. What it was offered goes to another if it is no member.
    pub(super) fn stands(&mut self, id: AgentId, standing: Standing, now: Timestamp) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        agent.standing = standing;
        let engaged = agent.engaged.clone();
        self.agent_changed(id, now);
        self.withdraw_offers(id, &engaged, now);
    }

    fn withdraw_offers(&mut self, id: AgentId, engaged: &BTreeSet<JobNumber>, now: Timestamp) {
        for job in engaged {
            if self.jobs[job].phase == Phase::Offered(id) {
                self.offers.clear(job);
                self.offer_ended(*job, now);
            }
        }
    }

    /// Opens a session for the agent that a token speaks for; what it asks for is in `asked`.
    pub(super) fn open_session(
        &mut self,
        id: AgentId,
        asked: TaskAgentSession,
        idempotency_key: Option<String>,
        speaks: Flow,
        now: Timestamp,
    ) -> Result<TaskAgentSession, Failure> {
        let agent = self.agents.get(&id).filter(|agent| agent.is_in_pool()).ok_or(Failure::AgentNotFound)?;
        let name = agent.name.clone();
        if asked.agent.id != id && asked.agent.id != 0 {
            return Err(Failure::AccessDenied("The session is for another agent."));
        }
        let creation =
            Creation { id: self.draw_uuid(), agent: id, owner: machine(&asked.owner_name).into(), idempotency_key };
        let fresh = creation.id;
        match self.sessions.open(creation, now) {
            Ok(Opened::Again(session)) => {
                self.record(Fact::SessionRefreshed { session: fact(session) });
                return self.session_body(id, session, asked);
            }
            Ok(Opened::Fresh) => {}
            Ok(Opened::InPlaceOf(ended)) => self.session_ended(ended, SessionEnd::Replaced, now),
            Err(Conflict { live, owner }) => {
                self.record(Fact::SessionConflict { agent: name.clone(), live: fact(live) });
                let owner = (self.parameters.dialect == Dialect::Azure).then_some(owner);
                return Err(Failure::SessionConflict { agent: name.to_string(), owner });
            }
        }
        self.record(Fact::SessionOpened { session: fact(fresh), agent: name });
        self.begin(id, speaks, asked.use_fips_encryption);
        let answer = self.session_body(id, fresh, asked);
        self.agent_changed(id, now);
        answer
    }

    /// Runners that are registered with the pool are sent to the broker, or no longer.
    pub(super) fn serve_pool_by(&mut self, flow: Flow) {
        self.pool_served_by = flow;
        let unseen = (self.parameters.broker, self.parameters.busy_status) == (Broker::Apart, BusyStatus::Ignored);
        for agent in self.agents.values_mut().filter(|agent| agent.flow == Flow::V1) {
            agent.brings_job = agent.engaged.first().copied().filter(|_| flow == Flow::V2 && unseen);
        }
    }

    /// The broker to go to, when an agent that calls by `flow` is not served there.
    pub(super) fn migration(&self, flow: Flow) -> Option<BrokerMigration> {
        let sent_away = flow == Flow::V1 && self.pool_served_by == Flow::V2;
        sent_away.then(|| BrokerMigration { broker_base_url: self.parameters.addresses.broker.clone() })
    }

    /// Notes by which flow an agent calls.
    pub(super) fn heard_by(&mut self, id: AgentId, flow: Flow, now: Timestamp) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        agent.speaks = flow;
        if flow == Flow::V2
            && let Some(brought) = agent.brings_job.take()
        {
            let (until, on_effect) = (after(now, UNAWARE), OnEffect::untold());
            agent.overlooked.push(Overlooked { jobs: 1, until, while_it_has: Some(brought), on_effect });
            self.agent_changed(id, now);
        }
    }

    fn begin(&mut self, id: AgentId, speaks: Flow, use_fips: bool) {
        let State { agents, random, .. } = self;
        let Some(agent) = agents.get_mut(&id) else { return };
        agent.speaks = speaks;
        agent.reported = Reported::Online;
        agent.use_fips = use_fips;
        agent.session_key = match agent.encryption {
            Encryption::Plain => None,
            Encryption::KeyInClear => Some(SessionKey::draw(random)),
            Encryption::KeyUnderRsa => {
                let fits = SessionKey::draw_for(&agent.public_key, Digest::of(use_fips), random);
                Some(fits.unwrap_or_else(|| SessionKey::draw(random)))
            }
        };
    }

    /// The answer to a creation: what was asked, with the session's name and key.
    fn session_body(
        &mut self,
        id: AgentId,
        session: Uuid,
        asked: TaskAgentSession,
    ) -> Result<TaskAgentSession, Failure> {
        let State { agents, random, .. } = self;
        let agent = agents.get(&id).ok_or(Failure::AgentNotFound)?;
        let encryption_key = agent.session_key.as_ref().map(|key| match agent.encryption {
            // A key of simulation's size may hold no session key at all.
            Encryption::KeyUnderRsa => {
                key.encrypted(&agent.public_key, Digest::of(agent.use_fips), random).unwrap_or_else(|_| key.in_clear())
            }
            Encryption::KeyInClear | Encryption::Plain => key.in_clear(),
        });
        Ok(TaskAgentSession { session_id: Some(session), encryption_key, use_fips_encryption: agent.use_fips, ..asked })
    }

    /// The session of a poll, its life begun anew.
    pub(super) fn refresh(&mut self, id: AgentId, session: Option<Uuid>, now: Timestamp) -> Result<Uuid, Failure> {
        if self.agents.get(&id).is_none_or(|agent| agent.standing == Standing::Gone) {
            return Err(Failure::AgentNotFound);
        }
        let session = session.ok_or(Failure::Missing("sessionId"))?;
        match self.sessions.get(&session) {
            None => return Err(Failure::SessionGone),
            Some(known) if known.agent != id => {
                return Err(Failure::AccessDenied("The session is that of another agent."));
            }
            Some(_) => {}
        }
        self.sessions.refresh(&session, now);
        self.record(Fact::SessionRefreshed { session: fact(session) });
        Ok(session)
    }

    /// Notes what an agent says about itself.
    pub(super) fn note(&mut self, id: AgentId, reported: Reported, now: Timestamp) {
        if let Some(agent) = self.agents.get_mut(&id)
            && agent.reported != reported
        {
            agent.reported = reported;
            self.agent_changed(id, now);
        }
    }

    /// The next message for an agent that polls by `flow`, encrypted if its session is.
    pub(super) fn deliver(
        &mut self,
        id: AgentId,
        flow: Flow,
        cursor: Option<i64>,
        now: Timestamp,
    ) -> Option<Delivered> {
        let State { agents, random, ledger, parameters, .. } = self;
        let agent = agents.get_mut(&id)?;
        let (number, message) = agent.queue.deliver(cursor, now)?;
        let job = (message.kind == message_type::PIPELINE_AGENT_JOB_REQUEST).then_some(message.about);
        let message = TaskAgentMessage {
            message_id: match (flow, parameters.broker) {
                (Flow::V2, Broker::Apart) => BROKER_NUMBERS + number,
                _ => number,
            },
            message_type: message.kind.into(),
            iv: None,
            body: message.body.clone(),
        };
        ledger.record(Fact::MessageDelivered { message: agent.message(number), agent: agent.name.clone() });
        let message = match &agent.session_key {
            Some(key) => key.encrypt(message, random),
            None => message,
        };
        Some(Delivered { message, arrived: job.and_then(|job| self.arrival(job)) })
    }

    /// Forgets a message because its receiver says so, by whichever number it came.
    pub(super) fn acknowledge(&mut self, id: AgentId, number: i64) {
        let number = if number > BROKER_NUMBERS { number - BROKER_NUMBERS } else { number };
        if let Some(agent) = self.agents.get_mut(&id)
            && let Some(forgotten) = agent.queue.remove(number)
        {
            let message = agent.message(number);
            self.record(Fact::MessageAcked { message: message.clone() });
            // That an agent knows of an order to itself is all that the order is about.
            if forgotten.about == NO_JOB {
                self.record(Fact::MessageHandled { message });
            }
        }
    }

    /// What a message asked an agent for has been done.
    pub(super) fn handled(&self, id: AgentId, number: i64) {
        if let Some(agent) = self.agents.get(&id) {
            self.record(Fact::MessageHandled { message: agent.message(number) });
        }
    }

    /// Ends a session because its agent says so; `named` is what the request names.
    pub(super) fn delete_v2_session(
        &mut self,
        id: AgentId,
        named: Option<Uuid>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let live = self.sessions.of(&id).map(|session| session.id);
        let meant = match (self.policy.session_delete, self.parameters.idless_delete) {
            (SessionDelete::Named, _) => named.filter(|named| live == Some(*named)),
            (SessionDelete::AsTheRuleSays, IdlessDelete::EndsLiveSession) => live,
            (SessionDelete::AsTheRuleSays, IdlessDelete::Ignored) => return Ok(()),
        };
        self.delete_session(id, meant.unwrap_or_default(), now)
    }

    /// Ends a session because its agent says so.
    pub(super) fn delete_session(&mut self, id: AgentId, session: Uuid, now: Timestamp) -> Result<(), Failure> {
        use super::parameters::SecondDelete;
        match self.sessions.get(&session).map(|known| known.agent) {
            Some(whose) if whose != id => Err(Failure::AccessDenied("The session is that of another agent.")),
            Some(_) => {
                self.close_session(session, SessionEnd::Deleted, now);
                Ok(())
            }
            None if self.parameters.second_delete == SecondDelete::Succeeds => Ok(()),
            None => Err(Failure::SessionGone),
        }
    }

    fn close_session(&mut self, session: Uuid, why: SessionEnd, now: Timestamp) {
        if let Some(session) = self.sessions.close(&session) {
            self.session_ended(session, why, now);
        }
    }

    /// Accounts for a session that the table has let go.
    pub(super) fn session_ended(&mut self, session: Session<Uuid, AgentId>, why: SessionEnd, now: Timestamp) {
        let Some(agent) = self.agents.get(&session.agent) else { return };
        agent.wake.notify(usize::MAX);
        let agent = agent.name.clone();
        self.record(Fact::SessionClosed { session: fact(session.id), agent, why });
        self.agent_changed(session.agent, now);
    }

    /// May an agent that counts among the idle ones be given a job?
    pub(super) fn is_free(&self, id: AgentId, now: Timestamp) -> bool {
        self.agents.get(&id).is_some_and(|agent| agent.shown.is_idle() || agent.is_overlooked(now))
    }

    /// Shows an agent as it now is, and gives it work if it is idle.
    pub(super) fn agent_changed(&mut self, id: AgentId, now: Timestamp) {
        let has_session = self.sessions.of(&id).is_some();
        let State { agents, idle, idle_counter, parameters, ledger, .. } = self;
        let Some(agent) = agents.get_mut(&id) else { return };
        // Whoever is out of the pool is not in its list, whatever session is left of him.
        let online = has_session && agent.is_in_pool();
        let says_busy = agent.reported == Reported::Busy && parameters.busy_status == BusyStatus::Counts;
        let busy = !agent.engaged.is_empty() || says_busy;
        let idle_enough = !busy || agent.is_overlooked(now);
        let (pool, free) = (agent.pool, online && agent.standing == Standing::Member && idle_enough);
        match (agent.idle_since, free) {
            (None, true) => {
                // A busy one is taken for what it was before its job.
                let since = if busy { agent.idle_before } else { *idle_counter + 1 };
                *idle_counter = since.max(*idle_counter);
                agent.idle_since = Some(since);
                idle.entry(pool).or_default().insert((since, id));
            }
            (Some(since), false) => {
                (agent.idle_since, agent.idle_before) = (None, since);
                idle.entry(pool).or_default().remove(&(since, id));
            }
            _ => {}
        }
        let shown = Shown { online, busy };
        if agent.shown != shown {
            agent.shown = shown;
            ledger.record(Fact::AgentShown { agent: agent.name.clone(), online, busy });
        }
        if free {
            self.assign(pool, now);
        }
    }
}

impl Agent {
    /// Does its pool still count it, show it and give it a session?
    pub(super) fn is_in_pool(&self) -> bool {
        matches!(self.standing, Standing::Member | Standing::HasItsJob)
    }

    /// Is it given a job now although it has one?
    fn is_overlooked(&self, now: Timestamp) -> bool {
        self.overlooked.iter().any(|overlooked| overlooked.counts(&self.engaged, now))
    }

    /// It was offered a job although it has one.
    pub(super) fn was_overlooked(&mut self, now: Timestamp) {
        let counting = self.overlooked.iter_mut().find(|overlooked| overlooked.counts(&self.engaged, now));
        if let Some(overlooked) = counting {
            overlooked.jobs -= 1;
            overlooked.on_effect.tell();
        }
    }

    /// The journal's name of a message in its queue.
    pub(super) fn message(&self, number: i64) -> facts::Message {
        format!("{}/{number}", self.name).into()
    }
}

impl Shown {
    fn is_idle(self) -> bool {
        self.online && !self.busy
    }
}

impl Overlooked {
    fn counts(&self, engaged: &BTreeSet<JobNumber>, now: Timestamp) -> bool {
        self.jobs > 0 && now < self.until && self.while_it_has.is_none_or(|job| engaged.contains(&job))
    }
}

/// A session in the journal.
pub(super) fn fact(session: Uuid) -> facts::Session {
    session.to_string().into()
}

/// The machine in a session's owner: the runner writes its process behind it, "host (PID: 7)".
fn machine(owner: &str) -> &str {
    owner.split_once(" (PID:").map_or(owner, |(machine, _)| machine)
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_owner_is_a_machine() {
        assert_eq!(super::machine("host (PID: 7)"), "host");
        assert_eq!(super::machine("host"), "host");
    }
}
