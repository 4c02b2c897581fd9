//! Where the real runner's design and the repaired one differ, each difference one field.
//!
//! [`Choices::upstream`] is the runner as its source has it, [`Choices::hardened`] the repaired one. A bug is one field
//! of hardened put back to upstream's value: see [`crate::choices`].
//!
//! References are to issues of `actions/runner` unless another repository is named; file names are those of its source.

use super::server::{self, Policy};
use crate::choices::choices;
use crate::distributed_task::agent::conduct::{self, Conduct, RenewLoop};
use crate::distributed_task::auth;

choices! {
    system "actions";

    /// The retry handler below every call.
    http_retries: HttpRetry of conduct { upstream Vss, hardened FullJitter }
    because "waits are nearly equal on all machines and ignore what the server asks for"
    from "VssHttpRetryMessageHandler.cs";

    /// What the runner's own retries do to those of the handler.
    nested_retries: NestedRetries of conduct { upstream Multiplied, hardened OneLayer }
    because "layers of retries multiply into up to a hundred POSTs"
    from "Worker/JobRunner.cs:290-362";

    /// A token endpoint that answers something else than OAuth.
    token_trouble: TokenTrouble of auth { upstream SwallowedIntoUnauthorized, hardened Transient }
    because "an outage of the token endpoint is taken for a refusal"
    from "VssOAuthTokenProvider.cs:190-195";

    /// Reading the body of a V2 answer.
    body_timeout: BodyTimeout of conduct { upstream None, hardened Bounded }
    because "a body that stalls hangs the runner while it is shown online"
    from "#4695";

    /// An answer of 2xx that is not JSON: of V2, or one in which V1 reads nothing.
    not_json: NotJson of conduct { upstream NullResult, hardened Error }
    because "a login page counts as a success"
    from "RawHttpClientBase.cs:261-288";

    /// Sending the creation of a session again when its answer was lost.
    create_replay: CreateReplay of conduct { upstream Blind, hardened Keyed }
    because "the replay of a session's creation conflicts with itself"
    from "#3526";

    /// How long creations of a session go on that meet another session of the same runner (409).
    conflict_budget: ConflictBudget of conduct { upstream ExitAfter8, hardened Outlast }
    because "gives up on a session conflict before the old session can have expired"
    from "#1506" if "a session lives for longer than the 210 s of eight conflicts";

    /// An OAuth error that says both `invalid_client` and that the clocks disagree.
    clock_skew: ClockSkew {
        /// `invalid_client` is looked at first: the registration counts as deleted, exit code 1.
        upstream InvalidClientFirst,
        /// The clock is looked at first, and waited for.
        hardened SkewFirst,
    }
    because "a wrong clock at start is taken for a deleted registration"
    from "#4648";

    /// The server refuses the caller: unauthorised, access denied, an OAuth error.
    on_refusal: OnRefusal {
        /// Fatal at once.
        upstream Fatal,
        /// Retried like an outage, because it may be one.
        hardened Retried,
    }
    because "two 401 in a row end the runner for good"
    from "BrokerMessageListener.cs:351-354";

    /// The server says that the runner, or its pool, does not exist.
    on_not_found: OnNotFound {
        /// Believed at once: the configuration is deleted, or the process ends for good.
        upstream DeletesConfiguration,
        /// Asked again, at least a minute apart; believed the fifth time in a row.
        hardened Confirms,
    }
    because "one wrong not-found deletes the configuration"
    from "Runner.cs:823-830";

    /// The pause between attempts to create a session.
    session_pause: SessionPause {
        /// 30 s sharp.
        upstream Fixed,
        /// Drawn from 15 to 45 s.
        hardened Jittered,
    }
    because "all runners create their sessions in step"
    from "MessageListener.cs:73-193";

    /// What a V2 runner says when it ends its session.
    session_delete: SessionDelete {
        /// Nothing but who it is: a slow old process deletes the session of the new one.
        upstream ByIdentity,
        /// Which session.
        hardened BySession,
    }
    because "an old process deletes the session of its successor"
    from "BrokerHttpClient.cs:169-185" if "a deletion that names no session ends whatever session the runner has";

    /// The wait after a failed poll.
    poll_backoff: PollBackoff {
        /// A generator seeded with the previous wait: the same chain on every machine of the world.
        upstream SeededByPrevious,
        /// The same ranges, drawn from the machine's own generator.
        hardened Jittered;
        /// The same ranges, drawn from a generator whose seed is part of the image that all machines are made of.
        formerly SameSeed
            because "all runners draw the same waits"
            from "retry: mutant-shared-generator";
        /// 30 s and up to half as much again, and then a cap of 30 s: nothing is drawn any more.
        formerly JitterBeforeCap
            because "in a long outage all runners wait for exactly the cap"
            from "fleetdm/fleet#53357; retry: mutant-jitter-before-cap";
        /// It doubles from 100 ms to 10 s, and 2^n is counted in 32 bits.
        formerly Overflow
            because "after some thirty failed polls the runner polls without a pause"
            from "retry: mutant-overflow";
        /// It doubles from 100 ms to 30 s, and any answer begins it anew, be it a 503.
        formerly ResetOnConnect
            because "a server that answers 503 is asked ten times a second"
            from "retry: mutant-reset-on-connect";
        /// As hardened, and its end is a time of the wall clock.
        formerly WallTimer
            because "a clock that is set back while the runner waits leaves it deaf for as long"
            from "retry: mutant-wall-timer"
    }
    because "after a mass disconnect all runners come back in step"
    from "BackoffTimerHelper.cs";

    /// How V2 counts failed polls; the tenth ends the process.
    poll_errors: PollErrors {
        /// Since the last message: empty polls in between do not count as success.
        upstream Cumulative,
        /// In a row.
        hardened Consecutive,
    }
    because "ten errors spread over days end the process"
    from "BrokerMessageListener.cs:304-307";

    /// What a change between busy and idle does to the poll under way.
    status_change: StatusChange {
        /// Aborts it, and with it a message that is on its way.
        upstream AbortsPoll,
        /// The next poll tells.
        hardened KeepsPoll;
        /// Aborts it, and takes that for a failure of the poll.
        formerly AbortFails
            because "after each job the runner backs off from a failure of its own making"
            from "#4644"
    }
    because "the end of a job aborts the poll that carries the next one"
    from "#4728";

    /// The rate of polls that come back at once.
    empty_polls: EmptyPolls {
        /// No limit in V2; in V1 none for the first 50 in half an hour.
        upstream Unpaced,
        /// At most one a second.
        hardened Paced,
    }
    because "polls that are answered at once are repeated at once"
    from "#4569";

    /// A poll error that ends the process, while a job runs.
    fatal_poll: FatalPoll {
        /// The running job is cancelled.
        upstream CancelsRunningJob,
        /// The process goes on polling until the job has ended.
        hardened KeepsJob,
    }
    because "an error of the message queue cancels a healthy job"
    from "Runner.cs:852-858";

    /// The V1 cursor, `lastMessageId`.
    cursor: Cursor of conduct { upstream AdvancesOnReceipt, hardened AdvancesOnDispatch }
    because "the cursor moves past a job that never started"
    from "MessageListener.cs:233-418" if "the broker numbers messages by a count of its own";

    /// When a V1 job's message is deleted.
    ack_order: AckOrder of conduct { upstream OnDispatch, hardened OnceLeased }
    because "a job's message is deleted before the job is ours"
    from "Runner.cs:515-850";

    /// Sending acquirejob again when its answer was lost.
    acquire_replay: AcquireReplay {
        /// The same POST again; the 409 it draws is taken for somebody else's job, and the job is skipped.
        upstream Blind,
        /// All attempts for one message carry the same idempotency key.
        hardened Keyed,
    }
    because "the replay of acquirejob loses the job it acquired"
    from "actions/actions-runner-controller#4307" if "a second acquisition of the same runner meets a conflict";

    /// After a job that turned out to be somebody else's, or nobody's any more.
    skipped_job: SkippedJob {
        /// Nothing is done for a while, which grows to a minute: no poll, and no cancellation.
        upstream BlocksPolls,
        /// The next poll begins at once, at its ordinary pace.
        hardened PollsOn,
    }
    because "after jobs that were lost to others the runner is deaf for up to a minute each"
    from "ErrorThrottler.cs; Runner.cs:515-850";

    /// A job arrives while another one runs.
    second_job: SecondJob of conduct { upstream DropsOne, hardened WaitsForFirst }
    because "a second job cancels the first, or is dropped and the runner reported online"
    from "#4670";

    /// Where it is written whether a job came by V2.
    job_kind: JobKindField of conduct { upstream Shared, hardened PerJob }
    because "a job that came by V1 is ended as if it had come by V2"
    from "JobDispatcher.cs:93,1124" if "the broker does not know what the pool has given out";

    /// A cancellation that is delivered again.
    repeated_cancel: RepeatedCancel of conduct { upstream RearmsKillTimer, hardened KeepsFirstDeadline }
    because "every repetition of a cancellation postpones its deadline"
    from "#4569";

    /// How long a worker that was told to stop may take.
    kill_deadline: KillDeadline of conduct { upstream OnServerCancelOnly, hardened Always }
    because "a worker that ignores its stop runs on without a lease"
    from "JobDispatcher.cs:677-698";

    /// A job that could not be handed to its worker.
    dispatch_failure: DispatchFailure of conduct { upstream Silent, hardened Reported }
    because "a job that never started stays leased, and is renewed for ever"
    from "#4598; microsoft/azure-pipelines-agent#4939";

    /// A job is delivered again while a worker of this runner's former process may still be running it.
    orphaned_worker: OrphanedWorker of conduct { upstream Ignored, hardened WaitedFor }
    because "a restarted runner executes a job beside its own orphaned worker"
    from "#3010";

    /// An acquired job's lease cannot be renewed once (V2).
    on_renew_failure: OnRenewFailure of conduct { upstream NullDereference, hardened Retry }
    because "one failed renewal cancels a job with nine minutes of lease left"
    from "#4635";

    /// How long a job runs when its lease cannot be renewed.
    lease_end: LeaseEnd of conduct { upstream FiveMinutesPast, hardened WithinLease }
    because "a job runs on for more than five minutes without a lease"
    from "#3539";

    /// A worker whose listener is gone.
    pipe_end: PipeEnd of conduct { upstream RunsOn, hardened StopsAtLeaseEnd }
    because "a worker whose listener died runs on without a lease"
    from "StreamString.cs";

    /// The token of the lease, in renewals and completions.
    fencing: Fencing of conduct { upstream ZeroGuid, hardened LockToken }
    because "nothing tells one attempt's renewal or result from another's"
    from "JobDispatcher.cs:854-973";

    /// Sending the end of a job again when the answer to its report was lost.
    report_replay: ReportReplay of conduct { upstream Blind, hardened Keyed }
    because "a success whose report was answered in vain ends as a failure"
    from "#4418; Worker/JobRunner.cs:342-348" if "the first result counts, and a second report of it meets a not-found";

    /// A worker ends without a result.
    crash_report: CrashReport of conduct { upstream AlwaysFailed, hardened RecordedResult }
    because "a worker that dies after its report turns a success into a failure"
    from "JobDispatcher.cs:575-577";

    /// A job that an ephemeral runner could not acquire (404 or 409).
    ephemeral_skip: EphemeralSkip {
        /// It goes on polling, although it may be deregistered by then.
        upstream KeepsPolling,
        /// It ends.
        hardened Exits,
    }
    because "an ephemeral runner polls for ever after it was deregistered"
    from "#4617";
}

impl Choices {
    /// The part of these choices that is about what both systems have.
    pub const fn conduct(&self) -> Conduct {
        Conduct {
            http_retries: self.http_retries,
            nested_retries: self.nested_retries,
            token_trouble: self.token_trouble,
            body_timeout: self.body_timeout,
            not_json: self.not_json,
            create_replay: self.create_replay,
            conflict_budget: self.conflict_budget,
            cursor: self.cursor,
            ack_order: self.ack_order,
            second_job: self.second_job,
            job_kind: self.job_kind,
            repeated_cancel: self.repeated_cancel,
            kill_deadline: self.kill_deadline,
            dispatch_failure: self.dispatch_failure,
            orphaned_worker: self.orphaned_worker,
            on_renew_failure: self.on_renew_failure,
            renew_loop: match self.dispatch_failure {
                DispatchFailure::Silent => RenewLoop::LeaksOnException,
                DispatchFailure::Reported => RenewLoop::EndsWithJob,
            },
            lease_end: self.lease_end,
            pipe_end: self.pipe_end,
            fencing: self.fencing,
            report_replay: self.report_replay,
            crash_report: self.crash_report,
        }
    }

    /// The server's half of these choices: what a repaired runner sends makes sense only to a server that minds it.
    pub fn policy(&self) -> Policy {
        Policy {
            acquire: match self.acquire_replay {
                AcquireReplay::Blind => server::Acquire::AsTheRuleSays,
                AcquireReplay::Keyed => server::Acquire::Idempotent,
            },
            session_delete: match self.session_delete {
                SessionDelete::ByIdentity => server::SessionDelete::AsTheRuleSays,
                SessionDelete::BySession => server::SessionDelete::Named,
            },
            ..self.conduct().policy()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::{Design, Since};
    use crate::{lease, session};

    #[test]
    fn putting_everything_back_is_upstream() {
        let mut choices = Choices::hardened();
        for choice in Choices::choices().iter().filter(|choice| choice.since == Since::Present) {
            (choice.put_back)(&mut choices);
        }
        assert_eq!(choices, Choices::upstream());
    }

    #[test]
    fn the_server_s_half_follows() {
        assert_eq!(Choices::upstream().policy(), Policy::upstream());
        assert_eq!(Choices::hardened().policy(), Policy::hardened());
        let put_back = |name: &str| Choices::named(&format!("actions.{name}")).unwrap().policy().on_conflict;
        assert_eq!(put_back("conflict-budget"), session::OnConflict::AnswerAgain);
        assert_eq!(put_back("create-replay"), session::OnConflict::Refuse);
        assert_eq!(Choices::named("actions.fencing").unwrap().policy().fencing, lease::Fencing::Ignored);
    }

    #[test]
    fn a_case_can_store_them() {
        let stored = serde_json::to_string(&Choices::hardened()).unwrap();
        assert_eq!(serde_json::from_str::<Choices>(&stored).unwrap(), Choices::hardened());
    }
}
