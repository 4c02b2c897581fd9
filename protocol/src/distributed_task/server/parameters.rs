//! What a server is told when it starts: its addresses, the unknowns of the real one, and how it is designed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::distributed_task::wire::{Dialect, token_error};
use crate::jwt::PublicKey;
use crate::lease::Fencing;
use crate::queue::{Cursor, Redelivery};
use crate::session::{ConflictExtends, OnConflict};

/// Addresses of the server's parts. They may be four hosts or one; each may have a path of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Base URL of the V1 services.
    pub tenant: String,
    /// The token endpoint, and the audience of assertions.
    pub authorization: String,
    /// Base URL of the broker (`ServerUrlV2`).
    pub broker: String,
    /// Base URL of the run service.
    pub run_service: String,
}

impl Addresses {
    /// Everything on one origin, such as `http://127.0.0.1:8080`.
    pub fn on(origin: &str) -> Self {
        let origin = origin.trim_end_matches('/');
        Self {
            tenant: format!("{origin}/tenant/"),
            authorization: format!("{origin}/_apis/oauth2/token"),
            broker: format!("{origin}/broker/"),
            run_service: format!("{origin}/run/"),
        }
    }
}

/// Which result of a job counts when several are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultRule {
    /// The first one; later reports find no job.
    FirstWrite,
    /// The last one.
    LastWrite,
}

/// What happens to a job whose lease expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLeaseExpiry {
    /// It ends as failed: "the runner lost communication with the server".
    FailJob,
    /// Another agent gets it.
    Requeue,
}

/// What a second acquirejob of the same runner for the same request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcquireReplay {
    /// 409, even when the answer to the first one was lost (actions-runner-controller#4307).
    Conflict,
    /// The job, once more.
    SameAnswer,
}

/// What the second deletion of a session meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondDelete {
    /// The same as the first.
    Succeeds,
    /// An error: there is no such session.
    NotFound,
}

/// What a V2 deletion does that names no session, as those of the real runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdlessDelete {
    /// It ends whatever session the runner has, even that of a newer process.
    EndsLiveSession,
    /// Nothing: the session lives until it expires.
    Ignored,
}

/// What the broker has in common with a pool that sends its runners to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Broker {
    /// The pool's messages with their numbers, and what the pool knows of its runners.
    #[default]
    OfPool,
    /// It numbers messages by a count of its own, far ahead of the pool's, and learns only after a while of a job that a
    /// runner brings along. What the runner says of itself still counts where it counts ([`Parameters::busy_status`]).
    Apart,
}

/// What becomes of an offer that nobody took in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LapsedOffer {
    /// It is withdrawn. The next one is a message of its own, whoever gets it.
    #[default]
    Withdrawn,
    /// It is withdrawn. But if the next one is to the same agent, it has the same number, unless the agent deleted it or
    /// has been sent a later message, which its cursor may have seen.
    SameNumber,
}

/// When does an agent that has a job leave its pool, out of which its owner takes it ([`Server::dismiss`])? To delete its
/// registration is another thing, and done at once.
///
/// [`Server::dismiss`]: super::Server::dismiss
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removal {
    /// It is given no other, and removed when that one is over (`TaskAgentJobStillRunningException`).
    #[default]
    WaitsForJob,
    /// At once: the pool knows it no more, and the job's lease is all that is left. But an agent that is being told to end
    /// its job is left in the pool until it has ended it.
    AtOnce,
}

/// Does an agent that polls as busy get a job, when the server knows of none that it has?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusyStatus {
    /// No: only one that says it is online.
    Counts,
    /// Yes: the next job is offered as soon as the last one has been reported (actions/runner#4728).
    Ignored,
}

/// What the pool says for a while to an agent that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denial {
    /// That it may not: whoever keeps permissions is out of reach.
    AccessDenied,
    /// That there is no such agent: it asked a copy that lags behind.
    AgentUnknown,
}

/// How the token service words a refusal of a registration that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// `invalid_client`: the runner takes it for good.
    InvalidClient,
    /// `unauthorized_client`: fatal when a session is created, not in a poll.
    UnauthorizedClient,
    /// `server_error`: never fatal.
    ServerError,
}

impl RefusalCode {
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::InvalidClient => token_error::INVALID_CLIENT,
            Self::UnauthorizedClient => token_error::UNAUTHORIZED_CLIENT,
            Self::ServerError => token_error::SERVER_ERROR,
        }
    }
}

/// The server's numbers and habits. What sources do not say is swept by seeds; the defaults are the likely values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// Where its parts are.
    pub addresses: Addresses,
    /// Whose exception names it uses.
    pub dialect: Dialect,
    /// The hub that plans belong to: "actions", "build".
    pub hub: String,
    /// Features of its plans; 8 and more: a job's end is an event of its plan.
    pub plan_version: i32,
    /// Bearer of the administration; `None`: there is no administration.
    #[serde(skip)]
    pub admin_token: Option<String>,
    /// Life of a session that nobody refreshes. "About five minutes" says a maintainer (vso-agent#202).
    pub session_life: Duration,
    /// Does a refused creation extend the live session?
    pub conflict_extends: ConflictExtends,
    /// How long a poll is held: 50 s by the cadence of logs (actions/runner#3371).
    pub poll_hold: Duration,
    /// What `lastMessageId` does in V1.
    pub cursor: Cursor,
    /// When the pool hands a message out again that nobody has deleted. Sources do not say.
    pub pool_redelivery: Redelivery,
    /// What becomes of an offer that nobody took in time. Sources do not say.
    #[serde(default)]
    pub lapsed_offer: LapsedOffer,
    /// When an agent that has a job leaves its pool. Known for GitHub's service; of Azure's sources do not say.
    #[serde(default)]
    pub removal: Removal,
    /// When the broker hands a job message out again: after 61 s in actions/runner#4728.
    pub redelivery: Duration,
    /// When the broker hands a cancellation out again; actions/runner#4569 saw several a second.
    pub cancel_redelivery: Duration,
    /// How long an offered job waits to be taken before it is offered anew. Sources do not say.
    pub assignment_life: Duration,
    /// Life of a job's lease: ten minutes in logs since 2021, five before.
    pub lease_life: Duration,
    /// What the end of a lease does.
    pub on_lease_expiry: OnLeaseExpiry,
    /// Which result counts.
    pub result_rule: ResultRule,
    /// Is acquirejob idempotent?
    pub acquire_replay: AcquireReplay,
    /// What a second deletion of a session meets.
    pub second_delete: SecondDelete,
    /// What a deletion without a session's name does.
    pub idless_delete: IdlessDelete,
    /// Does the status in a poll count?
    pub busy_status: BusyStatus,
    /// What the broker has in common with the pool. Sources do not say.
    #[serde(default)]
    pub broker: Broker,
    /// Does the broker ask for an acknowledgement of job messages?
    pub should_acknowledge: bool,
    /// How long a cancelled job may take to end by itself; goes with the cancellation. Sources do not say.
    pub cancel_timeout: Duration,
    /// Life of an agent's token: about 50 min (azure-pipelines-agent#1737).
    pub token_life: Duration,
    /// Life of a job's token. Sources do not say; longer than any job here.
    pub job_token_life: Duration,
    /// By how much an agent's clock may differ when it asks for a token. Sources do not say.
    pub assertion_skew: Duration,
    /// How a refused registration is worded.
    pub refusal: RefusalCode,
    /// The largest body that is read, in bytes.
    pub body_limit: usize,
}

impl Parameters {
    /// The likely values.
    pub fn new(addresses: Addresses) -> Self {
        Self {
            addresses,
            dialect: Dialect::GitHub,
            hub: "actions".into(),
            plan_version: 12,
            admin_token: None,
            session_life: Duration::from_secs(300),
            conflict_extends: ConflictExtends::Nothing,
            poll_hold: Duration::from_secs(50),
            cursor: Cursor::SkipsSeen,
            pool_redelivery: Redelivery::AtOnce,
            lapsed_offer: LapsedOffer::Withdrawn,
            removal: Removal::WaitsForJob,
            redelivery: Duration::from_secs(60),
            cancel_redelivery: Duration::from_secs(60),
            assignment_life: Duration::from_secs(120),
            lease_life: Duration::from_secs(600),
            on_lease_expiry: OnLeaseExpiry::FailJob,
            result_rule: ResultRule::FirstWrite,
            acquire_replay: AcquireReplay::Conflict,
            second_delete: SecondDelete::NotFound,
            idless_delete: IdlessDelete::EndsLiveSession,
            busy_status: BusyStatus::Counts,
            broker: Broker::OfPool,
            should_acknowledge: true,
            cancel_timeout: Duration::from_secs(300),
            token_life: Duration::from_secs(3_000),
            job_token_life: Duration::from_secs(6 * 3_600),
            assertion_skew: Duration::from_secs(300),
            refusal: RefusalCode::UnauthorizedClient,
            body_limit: 4 << 20,
        }
    }
}

/// What a report about a job that has ended meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completion {
    /// An error, or the last write wins: as [`Parameters::result_rule`] says. A report whose answer was lost is answered
    /// "not found" when it is sent again (actions/runner#4418).
    AsTheRuleSays,
    /// The same result once more succeeds and changes nothing; another one is refused.
    Idempotent,
}

/// What acquirejob does about a request that it has answered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acquire {
    /// As [`Parameters::acquire_replay`] says.
    AsTheRuleSays,
    /// The runner that has the job gets the same answer again.
    Idempotent,
}

/// Which session a V2 deletion ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionDelete {
    /// As [`Parameters::idless_delete`] says; a name in the request is overlooked.
    AsTheRuleSays,
    /// The one that `sessionId` in the query names, and only that.
    Named,
}

/// The server's half of a system's choices: where the real server and a repaired one differ in design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What an agent meets that has a live session (actions/runner#3526, #1506, #3441).
    pub on_conflict: OnConflict,
    /// Reports that come again (actions/runner#4418).
    pub completion: Completion,
    /// Do leases carry a token that tells attempts apart (actions/runner#3010)?
    pub fencing: Fencing,
    /// acquirejob that comes again (actions-runner-controller#4307).
    pub acquire: Acquire,
    /// Which session DELETE /session ends.
    pub session_delete: SessionDelete,
}

impl Policy {
    /// The real server, as far as it shows.
    pub const fn upstream() -> Self {
        Self {
            on_conflict: OnConflict::Refuse,
            completion: Completion::AsTheRuleSays,
            fencing: Fencing::Ignored,
            acquire: Acquire::AsTheRuleSays,
            session_delete: SessionDelete::AsTheRuleSays,
        }
    }

    /// The repaired one.
    pub const fn hardened() -> Self {
        Self {
            on_conflict: OnConflict::TakeOver,
            completion: Completion::Idempotent,
            fencing: Fencing::Checked,
            acquire: Acquire::Idempotent,
            session_delete: SessionDelete::Named,
        }
    }
}

/// Which protocol an agent is told to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// Distributed task.
    V1,
    /// Broker and run service.
    V2,
}

/// How an agent's messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// As plain text.
    Plain,
    /// Encrypted; the session's key is in the answer as it is. For public clients that cannot do without a key.
    KeyInClear,
    /// Encrypted; the session's key is under the agent's public key.
    KeyUnderRsa,
}

/// How many jobs an agent is registered for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    /// As many as there are.
    #[default]
    Persistent,
    /// One (`config.sh --ephemeral`). Whoever has had a job, or was assigned one that is lost to him, gets no other
    /// (actions/runner#4617).
    Ephemeral,
}

/// Registers an agent, as its configuration does.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Its name, unique in the pool.
    pub name: String,
    /// Its pool; a pool exists once somebody is in it.
    pub pool: i64,
    /// What it speaks.
    pub flow: Flow,
    /// How its messages travel.
    pub encryption: Encryption,
    /// How many jobs it is for.
    pub lifetime: Lifetime,
    /// What its assertions are checked with.
    pub public_key: PublicKey,
}

/// What an agent knows after its registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Its number.
    pub agent_id: i64,
    /// Its pool.
    pub pool_id: i64,
    /// Its name at the token endpoint.
    pub client_id: uuid::Uuid,
    /// The token endpoint.
    pub authorization_url: String,
    /// Base URL of V1.
    pub tenant_url: String,
    /// Base URL of the broker; `None` for V1.
    pub server_url_v2: Option<String>,
    /// How many jobs it is for.
    pub lifetime: Lifetime,
}

/// A job to be queued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// Its name, unique in the server: it is the name in the journal.
    pub name: String,
    /// Who may run it.
    #[serde(default = "first_pool")]
    pub pool: i64,
    /// Variables that its worker gets.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Steps that its worker gets.
    #[serde(default)]
    pub steps: Vec<serde_json::Value>,
}

const fn first_pool() -> i64 {
    1
}

impl JobSpec {
    /// A job without variables and steps for pool 1.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), pool: first_pool(), variables: BTreeMap::new(), steps: Vec::new() }
    }
}
