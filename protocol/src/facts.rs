//! The vocabulary of facts: what really happened, in the words of the field.
//!
//! Facts are written by what owns the truth (the server's store, the worker that executes a job, the supervisor), never
//! by an agent about itself. Whoever keeps the ledger adds the time and the place.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Arc<str>);

        impl<S: AsRef<str>> From<S> for $name {
            fn from(name: S) -> Self {
                Self(name.as_ref().into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str(&self.0)
            }
        }
    )* };
}

names! {
    /// An agent's identity: what stays the same over restarts.
    Agent
    /// A piece of work that somebody queued.
    Job
    /// One process that executes a job; unique in a run.
    WorkerId
    /// A session between an agent and a server.
    Session
    /// A message that a server holds for an agent.
    Message
    /// A lock with holders.
    Lock
    /// A file or other thing whose content has a published digest.
    Artifact
    /// A part of a job that has a bound of its own.
    Stage
    /// Agents that are created and removed as there is work for them.
    Pool
}

/// What is promised to end a session, a lease or a lock when nobody renews it: server time, a wall-clock instant.
pub type Until = Timestamp;

/// How a job, or its attempt, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it was to do.
    Succeeded,
    /// It ran and failed.
    Failed,
    /// Somebody asked for its end.
    Cancelled,
    /// Nobody knows: the one who executed it was lost.
    Abandoned,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// Its agent deleted it.
    Deleted,
    /// Nobody refreshed it within its life.
    Expired,
    /// A new session of the same agent took its place.
    Replaced,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are the vocabulary's own words; each variant says what they mean together")]
pub enum Fact {
    /// Somebody queued a job for the agents of a server.
    JobQueued { job: Job },
    /// The server assigned a job to an agent and will not give it to another one unless it takes it back.
    JobOffered { job: Job, attempt: u32, agent: Agent },
    /// The answer that hands an assigned job to its agent arrived whole there: the agent has it to do.
    JobArrived { job: Job, attempt: u32, agent: Agent },
    /// The server took an assignment back and will offer the job again.
    JobRequeued { job: Job, attempt: u32 },
    /// Somebody asked the server to cancel a job.
    JobCancelRequested { job: Job },
    /// A server that knew that somebody had asked for a job's end answered the worker of an attempt, and the answer arrived
    /// whole: the worker may know of it.
    JobCancelAnswered { job: Job, attempt: u32 },
    /// A worker began to execute a job.
    JobStarted { job: Job, attempt: u32, agent: Agent, worker: WorkerId },
    /// A worker did something that the world can see and that cannot be undone.
    JobEffect { job: Job, attempt: u32, worker: WorkerId },
    /// A worker stopped executing a job, by its own end or because it was killed.
    JobStopped { job: Job, attempt: u32, worker: WorkerId, outcome: Outcome },
    /// The agent stopped a worker although nobody had asked for it (a lost lease, a fatal error, its own shutdown).
    JobAborted { job: Job, attempt: u32, worker: WorkerId },
    /// A result reached the server. `accepted` says whether the server's record is now this result.
    JobReported { job: Job, attempt: u32, outcome: Outcome, accepted: bool },
    /// The server closed a job without a report: its lease expired, or nobody took it in time.
    JobGivenUp { job: Job, attempt: u32 },

    /// A worker process began on an agent's machine, for an attempt of a job. `owner` is the work that the job is a part
    /// of; while it has a worker on a machine, the machine is its alone.
    WorkerBegan { worker: WorkerId, agent: Agent, job: Job, attempt: u32, owner: Job },
    /// A worker process ended.
    WorkerEnded { worker: WorkerId },
    /// The machine saw a worker process end, whatever it was for: with this exit code, or killed when `code` is `None`.
    WorkerExited { worker: WorkerId, code: Option<i32> },
    /// A job that builds on what others left began in their workspace: what it found, and what it should have found.
    WorkspaceEntered { machine: Agent, job: Job, attempt: u32, found: String, expected: String },

    /// The server granted a lease on a job.
    LeaseGranted { job: Job, attempt: u32, agent: Agent, until: Until },
    /// The server extended a lease.
    LeaseRenewed { job: Job, attempt: u32, until: Until },
    /// The answer that granted or extended a lease until then arrived whole at whoever had asked: he may know of it.
    LeaseAnswered { job: Job, attempt: u32, until: Until },
    /// A lease ran out on the server.
    LeaseExpired { job: Job, attempt: u32 },
    /// A lease ended because the job did.
    LeaseReleased { job: Job, attempt: u32 },

    /// An answer that says where something is arrived whole at whoever had looked it up for an attempt of a job: he may know
    /// it from now on.
    LookUpAnswered { job: Job, attempt: u32, what: String },

    /// The server opened a session.
    SessionOpened { session: Session, agent: Agent },
    /// The server heard from a session's owner and extended its life. A refused create that extends it is not this fact.
    SessionRefreshed { session: Session },
    /// The answer to a poll arrived whole at a session's owner: it can hear the server.
    SessionAnswered { session: Session },
    /// The server refused a session because another one is live.
    SessionConflict { agent: Agent, live: Session },
    /// A session ended.
    SessionClosed { session: Session, agent: Agent, why: SessionEnd },

    /// The server put a message into a queue.
    MessageQueued { message: Message, agent: Option<Agent> },
    /// The server handed a message out.
    MessageDelivered { message: Message, agent: Agent },
    /// The server forgot a message because its receiver said so.
    MessageAcked { message: Message },
    /// What a message asked for has been done, so that it survives a crash of the receiver.
    MessageHandled { message: Message },

    /// A holder took a lock. A later holder has a larger token.
    LockTaken { lock: Lock, holder: Agent, token: u64 },
    /// A lock was released by its holder or on its behalf.
    LockReleased { lock: Lock, token: u64 },
    /// A lock's time to live ended.
    LockExpired { lock: Lock, token: u64 },

    /// A process of an agent started.
    AgentUp { agent: Agent },
    /// A process of an agent ended; `code` is `None` when it was killed.
    AgentDown { agent: Agent, code: Option<i32> },
    /// The supervisor will not start the agent again.
    AgentStopped { agent: Agent },
    /// Somebody asked an agent's process to stop, and does not want it up until it is started again.
    AgentStopRequested { agent: Agent },
    /// Somebody asked an agent to replace itself by another version, for which it ends and starts again.
    AgentUpdateRequested { agent: Agent },
    /// An agent is to end for good: its registration was deleted, or it gets no more work than what it has.
    AgentDismissed { agent: Agent },
    /// A machine was suspended: nothing on it runs.
    MachineSuspended { machine: Agent },
    /// A machine goes on after it was suspended.
    MachineResumed { machine: Agent },
    /// The disk of a machine had no room for what was to be written there.
    DiskFull { machine: Agent },
    /// The server refused an agent's own credentials, which only somebody else can replace.
    CredentialsRefused { agent: Agent },
    /// The server shows an agent as connected, and as busy or idle.
    AgentShown { agent: Agent, online: bool, busy: bool },

    /// Somebody asked for so many agents in a pool.
    PoolTarget { pool: Pool, size: u32 },
    /// An agent was created in a pool.
    PoolJoined { pool: Pool, agent: Agent },
    /// An agent of a pool is gone.
    PoolLeft { pool: Pool, agent: Agent },

    /// A stage of a job began.
    StageBegan { job: Job, stage: Stage },
    /// A stage of a job ended.
    StageEnded { job: Job, stage: Stage },
    /// A monitor raised an alert about a stage.
    StageAlert { job: Job, stage: Stage },

    /// A publisher put content up under an artefact's name, in the place of what was there before.
    ArtifactPublished { artifact: Artifact, digest: String },
    /// So many bytes of an artefact were sent in answer to one request; `whole` says whether that is all that was asked
    /// for.
    ArtifactSent { artifact: Artifact, bytes: u64, whole: bool },
    /// A job needs an artefact before it can go on.
    ArtifactWanted { artifact: Artifact, job: Job },
    /// Others can see a file under an artefact's final name. `digest` is that of its bytes, `published` the one it should
    /// have.
    ArtifactVisible { artifact: Artifact, digest: String, published: String },
    /// A job put an artefact to use. `digest` is that of the bytes used, `published` the one it should have.
    ArtifactUsed { artifact: Artifact, job: Job, digest: String, published: String },
    /// A job ended without the artefact that it had wanted.
    ArtifactMissed { artifact: Artifact, job: Job },

    /// The requests of one client, named by its machine, over a whole run: all of them, and those of its busiest minute,
    /// counted from 0 since the beginning.
    ClientLoad { client: Agent, requests: u64, busiest_minute: u32, in_busiest_minute: u32 },
    /// The requests of one client that were answered 401 over a whole run, and those of the minute with the most.
    ClientRefused { client: Agent, refused: u64, worst_minute: u32, in_worst_minute: u32 },
    /// The requests of all clients in one minute, counted from 0 since the beginning, and how many clients sent one in the
    /// second of it in which most did.
    MinuteLoad { minute: u32, requests: u32, clients_in_busiest_second: u32 },

    /// A client, named by its machine, waited for more than a minute for the next bytes of an answer: so many milliseconds,
    /// until they came, it gave up, or the run ended.
    ClientWaited { client: Agent, server: String, millis: u64 },
    /// An answer that told a client to wait so many seconds before it asks again (Retry-After) arrived.
    ClientToldToWait { client: Agent, server: String, seconds: u64 },
    /// A client that was told to wait sent a request again, whatever it asks for.
    ClientAskedAgain { client: Agent },
    /// A process of a client made a call again that had failed, so many nanoseconds after it had: by trouble of the
    /// transport, by a time-out of its own, or with 429 or 5xx. `told` is the wait in seconds that it was told, if it was;
    /// `idle` says that no other call of the process ended meanwhile; one may be under way.
    CallRepeated { client: Agent, call: String, after_ns: u64, told: Option<u64>, idle: bool },

    /// A fact of somebody's own.
    Custom { kind: String, subject: String, detail: String },
}

/// Where facts are written.
pub trait Ledger: Send + Sync + 'static {
    /// Adds a fact, which happens now and here.
    fn record(&self, fact: Fact);
}

/// A ledger that forgets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forget;

impl Ledger for Forget {
    fn record(&self, _: Fact) {}
}
