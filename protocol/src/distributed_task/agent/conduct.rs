//! What is decided about the parts of an agent that both systems have: each decision an enum with the real projects'
//! answer and the repaired one.
//!
//! References are to issues of `actions/runner` unless another repository is named.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::distributed_task::auth::TokenTrouble;
use crate::distributed_task::client::HttpRetries;
use crate::distributed_task::http_retry::FullJitter;
use crate::distributed_task::server::{Completion, Policy};
use crate::http::Http;
use crate::line::{Line, SharedRandom};
use crate::random::Random;
use crate::{lease, retry, session};

/// The retry handler below every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpRetry {
    /// `VssHttpRetryMessageHandler`: 10 s and more between attempts, nearly the same everywhere; neither 429 nor a
    /// refused connection is retried, Retry-After is not read.
    Vss,
    /// Exponential with full jitter; 5xx, 429 and every transport error; Retry-After is minded, capped.
    FullJitter,
}

/// What the runner's own retries do to those of the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NestedRetries {
    /// They multiply: acquirejob up to 20 POSTs, completejob up to 100.
    Multiplied,
    /// A call with retries of its own makes one HTTP attempt at a time.
    OneLayer,
}

/// Reading the body of a V2 answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyTimeout {
    /// No time-out: a peer that sends headers and stalls holds the call forever.
    None,
    /// The send time-out covers it.
    Bounded,
}

/// An answer of 2xx that is not JSON: of V2, or one in which V1 reads nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotJson {
    /// It counts as a success without a result: a login page opens a session, or is an empty poll.
    NullResult,
    /// It is an error.
    Error,
}

/// A job arrives while another one runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondJob {
    /// V1 asks about the first and then drops the second, whose message is deleted all the same; V2 cancels the first.
    /// Either way the runner reports itself online although a worker may be running.
    DropsOne,
    /// The second waits until the first has ended; the runner stays busy.
    WaitsForFirst,
}

/// Where it is written whether a job came by V2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKindField {
    /// In one field of the dispatcher, overwritten by every job: a V1 job that ends after a V2 message arrived is
    /// never completed.
    Shared,
    /// In the job.
    PerJob,
}

/// A cancellation that is delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepeatedCancel {
    /// Starts the kill timer anew: redelivered often enough, the worker is never killed.
    RearmsKillTimer,
    /// The first one's deadline stays.
    KeepsFirstDeadline,
}

/// How long a worker that was told to stop may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KillDeadline {
    /// Only a cancellation by the server has a deadline. On a lost lease, a second job or a shutdown there is none.
    OnServerCancelOnly,
    /// Every stop has one.
    Always,
}

/// A job that could not be handed to its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DispatchFailure {
    /// The server is told nothing and waits until the lease has expired.
    Silent,
    /// It is reported as failed.
    Reported,
}

/// A job is delivered again while a worker of this runner's former process may still be running it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrphanedWorker {
    /// Nobody looks: a second worker starts beside it.
    Ignored,
    /// A file names the job in hand; no job starts before the orphan has ended or its lease has passed, and a
    /// cancellation reaches it through the file.
    WaitedFor,
}

/// An acquired job's lease cannot be renewed once (V2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRenewFailure {
    /// The first failure after a success dereferences null: the healthy job is cancelled.
    NullDereference,
    /// It is tried again while the lease lasts.
    Retry,
}

/// The renewals of a job whose start failed in an unforeseen way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewLoop {
    /// Go on for ever: the lease lives without a worker.
    LeaksOnException,
    /// End with the job.
    EndsWithJob,
}

/// How long a job runs when its lease cannot be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseEnd {
    /// Until the server's `lockedUntil` plus five minutes by the local wall clock, looked at between attempts.
    FiveMinutesPast,
    /// Until a margin before it, by the monotonic clock from the server's answer on.
    WithinLease,
}

/// A worker whose listener is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PipeEnd {
    /// Runs to its end; nobody renews its lease.
    RunsOn,
    /// Stops before the last lease it was told of has passed.
    StopsAtLeaseEnd,
}

/// The token of the lease, in renewals and completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fencing {
    /// The zero GUID, or nothing: the server cannot tell attempts apart.
    ZeroGuid,
    /// The token that came with the job.
    LockToken,
}

/// Sending the end of a job again when the answer to its report was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportReplay {
    /// The same report again. The job that it names is gone by then; the refusal, or a 401, is an exception that ends the
    /// worker, and its listener reports the job as failed.
    Blind,
    /// All reports of one attempt carry the same idempotency key. A refusal says that there is nothing left to report,
    /// and 401 is an outage.
    Keyed,
}

/// A worker ends without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashReport {
    /// The job has failed, whatever the worker may have reported before.
    AlwaysFailed,
    /// The result that the worker wrote down before it reported it, if it got that far.
    RecordedResult,
}

/// Sending the creation of a session again when its answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreateReplay {
    /// The same POST again; the server finds the first one's session in the way.
    Blind,
    /// All attempts at one session carry the same idempotency key.
    Keyed,
}

/// When the messages about a V1 job are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckOrder {
    /// As soon as the job was handed to the dispatcher, or told to end, whatever becomes of it.
    OnDispatch,
    /// Once the first renewal has shown that the job is ours; that of a cancellation once the job has ended.
    OnceLeased,
}

/// The V1 cursor, `lastMessageId`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// Moves when a message is received, be it from the broker, and never back: a message that came to nothing is not
    /// seen again.
    AdvancesOnReceipt,
    /// Goes back when a job's message came to nothing, and does not move with the broker's messages.
    AdvancesOnDispatch,
}

/// How long creations of a session go on that meet another session of the same agent (409).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictBudget {
    /// Gives up at the eighth conflict, after 210 s: less than a session's life.
    ExitAfter8,
    /// Goes on until the other session's life has passed, however long that is.
    Outlast,
}

/// What is decided about the part that agents of both systems have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conduct {
    /// The retry handler below every call.
    pub http_retries: HttpRetry,
    /// What the runner's own retries do to those of the handler.
    pub nested_retries: NestedRetries,
    /// A token endpoint that answers something else than OAuth.
    pub token_trouble: TokenTrouble,
    /// Reading the body of a V2 answer.
    pub body_timeout: BodyTimeout,
    /// A V2 answer of 2xx that is not JSON.
    pub not_json: NotJson,
    /// A job arrives while another one runs.
    pub second_job: SecondJob,
    /// Where it is written whether a job came by V2.
    pub job_kind: JobKindField,
    /// A cancellation that is delivered again.
    pub repeated_cancel: RepeatedCancel,
    /// How long a worker that was told to stop may take.
    pub kill_deadline: KillDeadline,
    /// A job that could not be handed to its worker.
    pub dispatch_failure: DispatchFailure,
    /// A job is delivered again while a worker of this runner's former process may still be running it.
    pub orphaned_worker: OrphanedWorker,
    /// An acquired job's lease cannot be renewed once (V2).
    pub on_renew_failure: OnRenewFailure,
    /// The renewals of a job whose start failed in an unforeseen way.
    pub renew_loop: RenewLoop,
    /// How long a job runs when its lease cannot be renewed.
    pub lease_end: LeaseEnd,
    /// A worker whose listener is gone.
    pub pipe_end: PipeEnd,
    /// The token of the lease, in renewals and completions.
    pub fencing: Fencing,
    /// Sending the end of a job again when the answer to its report was lost.
    pub report_replay: ReportReplay,
    /// A worker ends without a result.
    pub crash_report: CrashReport,
    /// Sending the creation of a session again when its answer was lost.
    pub create_replay: CreateReplay,
    /// How long creations of a session go on that meet another session of the same agent (409).
    pub conflict_budget: ConflictBudget,
    /// When the messages about a V1 job are deleted.
    pub ack_order: AckOrder,
    /// The V1 cursor, `lastMessageId`.
    pub cursor: Cursor,
}

/// Is there a layer of retries above a client's own?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// No: it retries by itself.
    Alone,
    /// Yes.
    Retried,
}

impl Conduct {
    /// The server's half of it, as far as V1 goes: what a repaired agent sends makes sense only to a server that minds it.
    ///
    /// A session is taken over only by an agent that outlasts conflicts and names its attempts: where a refused creation
    /// extends the live session, waiting alone would never end.
    pub fn policy(&self) -> Policy {
        Policy {
            on_conflict: match (self.create_replay, self.conflict_budget) {
                (CreateReplay::Blind, _) => session::OnConflict::Refuse,
                (CreateReplay::Keyed, ConflictBudget::ExitAfter8) => session::OnConflict::AnswerAgain,
                (CreateReplay::Keyed, ConflictBudget::Outlast) => session::OnConflict::TakeOver,
            },
            completion: match self.report_replay {
                ReportReplay::Blind => Completion::AsTheRuleSays,
                ReportReplay::Keyed => Completion::Idempotent,
            },
            fencing: match self.fencing {
                Fencing::ZeroGuid => lease::Fencing::Ignored,
                Fencing::LockToken => lease::Fencing::Checked,
            },
            ..Policy::upstream()
        }
    }

    /// The line of a process. Where Retry-After is minded, all layers of retries mind it.
    pub fn line(&self, clock: Arc<dyn Clock>, http: Http, random: Random) -> Line {
        let random = SharedRandom::new(random);
        let http = match self.http_retries {
            HttpRetry::Vss => http,
            HttpRetry::FullJitter => {
                retry::minding(http, clock.clone(), random.clone(), FullJitter::CAP, retry::SPREAD)
            }
        };
        Line { clock, http, random }
    }

    /// The retry handler of a client.
    pub fn http_retries(&self, layer: Layer) -> HttpRetries {
        match (self.nested_retries, layer, self.http_retries) {
            (NestedRetries::OneLayer, Layer::Retried, _) => HttpRetries::Single,
            (_, _, HttpRetry::Vss) => HttpRetries::Vss,
            (_, _, HttpRetry::FullJitter) => HttpRetries::FullJitter,
        }
    }
}
