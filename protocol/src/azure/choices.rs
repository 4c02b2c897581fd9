//! Where the real agent's design and the repaired one differ, each difference one field.
//!
//! [`Choices::upstream`] is agent 3.240.1 as its source has it, [`Choices::hardened`] the repaired one. A bug is one field
//! of hardened put back to upstream's value: see [`crate::choices`].
//!
//! References are to issues of `microsoft/azure-pipelines-agent` unless another repository is named; file names are
//! those of its source.

use crate::choices::choices;
use crate::distributed_task::agent::conduct::{
    self, BodyTimeout, Conduct, JobKindField, NotJson, OnRenewFailure, RenewLoop,
};
use crate::distributed_task::auth;
use crate::distributed_task::server::Policy;

choices! {
    system "azure";

    /// What a stage has to do with the events of customer intelligence that it publishes.
    telemetry_path: TelemetryPath {
        /// It waits for each, and for the look-up at the second host that comes before.
        upstream OnCriticalPath,
        /// They are sent beside the stages; what is left of them at the job's end is waited for.
        hardened Beside,
    }
    because "telemetry about a stage keeps the stage waiting"
    from "#4857";

    /// How long a look-up at the second host, and what is sent after it, may take with all attempts.
    look_up_deadline: LookUpDeadline {
        /// As long as the retry handler likes.
        upstream None,
        /// Ten seconds.
        hardened Bounded,
    }
    because "a look-up for best-effort traffic has no deadline of its own"
    from "#4857";

    /// What one look-up at the second host is good for.
    look_up_cache: LookUpCache {
        /// The one connection that it is made for.
        upstream PerConnection,
        /// Every connection of the process.
        hardened PerProcess,
    }
    because "each connection looks the same things up again"
    from "TelemetryCommandExtension.cs:95-119";

    /// What a failed look-up means for the next one.
    circuit_breaker: CircuitBreaker {
        /// Nothing: the next one fails as slowly.
        upstream None,
        /// For five minutes there is none.
        hardened OpensOnFailure,
    }
    because "a host that is known to be out of reach is waited for again and again"
    from "#4857";

    /// The two feature flags between the first renewal of a job and the start of its worker.
    flag_look_ups: FlagLookUps {
        /// A failed look-up is an exception outside of every handler: no worker starts, and the renewals go on.
        upstream LeakRenewals,
        /// What cannot be looked up has its default.
        hardened FallBack,
    }
    because "a failed look-up of a feature flag leaves a lease that is renewed for ever"
    from "#4939";

    /// The second poller, which is to keep the session of a busy agent alive.
    keep_alive: KeepAlive {
        /// It polls without a cursor every 80 s and throws away what it gets.
        upstream SecondPoller,
        /// There is none: the main loop polls while a job runs.
        hardened Off,
    }
    because "the keep-alive takes messages that are not for it"
    from "#4664" if "the pool hides a message for a while once it has handed it out";

    /// What follows an empty poll.
    empty_poll: EmptyPoll {
        /// A sleep of 5 to 15 s, from the chain that is the same on every machine.
        upstream Sleeps,
        /// The next poll.
        hardened PollsAgain,
    }
    because "the agent is deaf for eleven seconds of each minute"
    from "#5097";

    /// The wait after a failed poll.
    poll_backoff: PollBackoff {
        /// With the flag it doubles from 3 s to five minutes, without jitter; without it, it follows from the previous
        /// wait alone.
        upstream ProgressiveOrSeeded,
        /// From 15 to 30 s, later to 60 s, drawn from the machine's own generator.
        hardened Jittered,
    }
    because "an agent sleeps for minutes after the server is back"
    from "MessageListener.cs:72-98" if "the flag for progressive back-off is on";

    /// The pause between attempts to create a session.
    session_pause: SessionPause {
        /// 30 s sharp; with the flag, which the process fetches after its first session, it doubles from 3 s on.
        upstream FixedOrProgressive,
        /// Drawn from 15 to 45 s.
        hardened Jittered,
    }
    because "all agents create their sessions in step"
    from "MessageListener.cs:466-479";

    /// How long creations of a session go on that meet another session of the same agent (409).
    conflict_budget: ConflictBudget of conduct { upstream ExitAfter8, hardened Outlast }
    because "gives up on a session conflict before the old session can have expired"
    from "#720" if "a session lives for longer than the 210 s of eight conflicts";

    /// The server refuses the caller: unauthorised or access denied.
    on_refusal: OnRefusal {
        /// Fatal at once.
        upstream Fatal,
        /// Retried like an outage, because it may be one.
        hardened Retried,
    }
    because "refusals during an outage end the agent for good"
    from "MessageListener.cs:280-317";

    /// The server says that the agent, or its pool, does not exist.
    on_not_found: OnNotFound {
        /// Believed at once: the process ends for good.
        upstream Believed,
        /// Asked again, at least a minute apart; believed the fifth time in a row.
        hardened Confirmed,
    }
    because "one wrong not-found ends the agent"
    from "MessageListener.cs:452-553";

    /// A poll error that ends the process, while a job runs.
    fatal_poll: FatalPoll {
        /// The running job is cancelled.
        upstream CancelsRunningJob,
        /// The process goes on polling until the job has ended.
        hardened KeepsJob,
    }
    because "an error of the message queue cancels a healthy job"
    from "Agent.cs:478-562" if "an agent can be taken out of its pool while it has a job";

    /// A job's message that arrived during an update which then failed.
    deferred_message: DeferredMessage {
        /// It is handled in place of the poll under way, whose message nobody takes.
        upstream AbandonsPoll,
        /// It is handled, and the poll under way goes on.
        hardened KeepsPoll,
    }
    because "after a failed update a message is received and thrown away"
    from "Agent.cs:535-562" if "the pool hides a message for minutes once it has handed it out";

    /// The retry handler below every call.
    http_retries: HttpRetry of conduct { upstream Vss, hardened FullJitter }
    because "waits are nearly equal on all machines and ignore what the server asks for"
    from "#4857";

    /// What the agent's own retries do to those of the handler.
    nested_retries: NestedRetries of conduct { upstream Multiplied, hardened OneLayer }
    because "a refresh of the connection before each retry multiplies the attempts"
    from "AgentServer.cs:220-279";

    /// A token endpoint that answers something else than OAuth.
    token_trouble: TokenTrouble of auth { upstream SwallowedIntoUnauthorized, hardened Transient }
    because "an outage of the token endpoint is taken for a refusal"
    from "actions/runner: VssOAuthTokenProvider.cs:190-195";

    /// Sending the creation of a session again when its answer was lost.
    create_replay: CreateReplay of conduct { upstream Blind, hardened Keyed }
    because "the replay of a session's creation conflicts with itself"
    from "#1709";

    /// When a job's message is deleted.
    ack_order: AckOrder of conduct { upstream OnDispatch, hardened OnceLeased }
    because "a job's message is deleted before the job is ours"
    from "Agent.cs:478-562";

    /// The cursor, `lastMessageId`.
    cursor: Cursor of conduct { upstream AdvancesOnReceipt, hardened AdvancesOnDispatch }
    because "the cursor moves past a job that never started"
    from "MessageListener.cs:233-336" if "a lapsed offer is made again by the same number";

    /// A job arrives while another one runs.
    second_job: SecondJob of conduct { upstream DropsOne, hardened WaitsForFirst }
    because "any error about the first job drops the second"
    from "JobDispatcher.cs:272-286";

    /// A cancellation that is delivered again.
    repeated_cancel: RepeatedCancel of conduct { upstream RearmsKillTimer, hardened KeepsFirstDeadline }
    because "every repetition of a cancellation postpones its deadline"
    from "JobDispatcher.cs:1280-1328";

    /// How long a worker that was told to stop may take.
    kill_deadline: KillDeadline of conduct { upstream OnServerCancelOnly, hardened Always }
    because "a worker that ignores its stop runs on without a lease, and a shutdown waits for it"
    from "JobDispatcher.cs:713-752";

    /// A job that could not be handed to its worker.
    dispatch_failure: DispatchFailure of conduct { upstream Silent, hardened Reported }
    because "a job that never started stays leased"
    from "#3155";

    /// A job is delivered again while a worker of this agent's former process may still be running it.
    orphaned_worker: OrphanedWorker of conduct { upstream Ignored, hardened WaitedFor }
    because "a restarted agent executes a job beside its own orphaned worker"
    from "actions/runner#3010";

    /// How long a job runs when its lease cannot be renewed.
    lease_end: LeaseEnd of conduct { upstream FiveMinutesPast, hardened WithinLease }
    because "a job runs on for more than five minutes without a lease"
    from "#1495";

    /// A worker whose listener is gone.
    pipe_end: PipeEnd of conduct { upstream RunsOn, hardened StopsAtLeaseEnd }
    because "a worker whose listener died runs on without a lease"
    from "#2261";

    /// The token of the lease, in renewals and completions.
    fencing: Fencing of conduct { upstream ZeroGuid, hardened LockToken }
    because "nothing tells one attempt's renewal or result from another's"
    from "actions/runner: JobDispatcher.cs:854-973";

    /// Sending the end of a job again when the answer to its report was lost.
    report_replay: ReportReplay of conduct { upstream Blind, hardened Keyed }
    because "a success whose report was answered in vain ends as a failure"
    from "Worker/JobRunner.cs:583" if "the first result counts, and a second report of it meets a not-found";

    /// A worker ends without a result.
    crash_report: CrashReport of conduct { upstream AlwaysFailed, hardened RecordedResult }
    because "nobody reports the end of a job whose worker crashed"
    from "JobDispatcher.cs:649-660,991-1000";
}

impl Choices {
    /// The part of these choices that is about what both systems have. There is no V2 here.
    pub fn conduct(&self) -> Conduct {
        Conduct {
            http_retries: self.http_retries,
            nested_retries: self.nested_retries,
            token_trouble: self.token_trouble,
            body_timeout: BodyTimeout::Bounded,
            not_json: NotJson::Error,
            create_replay: self.create_replay,
            conflict_budget: self.conflict_budget,
            ack_order: self.ack_order,
            cursor: self.cursor,
            second_job: self.second_job,
            job_kind: JobKindField::PerJob,
            repeated_cancel: self.repeated_cancel,
            kill_deadline: self.kill_deadline,
            dispatch_failure: self.dispatch_failure,
            orphaned_worker: self.orphaned_worker,
            on_renew_failure: OnRenewFailure::Retry,
            renew_loop: match self.flag_look_ups {
                FlagLookUps::LeakRenewals => RenewLoop::LeaksOnException,
                FlagLookUps::FallBack => RenewLoop::EndsWithJob,
            },
            lease_end: self.lease_end,
            pipe_end: self.pipe_end,
            fencing: self.fencing,
            report_replay: self.report_replay,
            crash_report: self.crash_report,
        }
    }

    /// The server's half of these choices: what a repaired agent sends makes sense only to a server that minds it.
    pub fn policy(&self) -> Policy {
        self.conduct().policy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::Design;
    use crate::{lease, session};

    #[test]
    fn putting_everything_back_is_upstream() {
        let mut choices = Choices::hardened();
        for choice in Choices::choices() {
            (choice.put_back)(&mut choices);
        }
        assert_eq!(choices, Choices::upstream());
    }

    #[test]
    fn the_server_s_half_follows() {
        assert_eq!(Choices::upstream().policy(), Policy::upstream());
        let put_back = |name: &str| Choices::named(&format!("azure.{name}")).unwrap().policy();
        assert_eq!(put_back("conflict-budget").on_conflict, session::OnConflict::AnswerAgain);
        assert_eq!(put_back("create-replay").on_conflict, session::OnConflict::Refuse);
        assert_eq!(put_back("fencing").fencing, lease::Fencing::Ignored);
    }
}
