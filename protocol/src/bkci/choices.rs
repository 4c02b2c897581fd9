//! Where the design of BK-CI and the repaired one differ, each difference one field.
//!
//! `upstream` is BK-CI as it was when retried pipelines broke the reuse of agents (August 2024, before bk-ci#10877 was
//! mended), with what is still so later on. References are to issues of `TencentBlueKing/bk-ci` and to its source.

use crate::choices::choices;

choices! {
    system "bkci";

    /// When a build that an agent asked for counts as taken.
    claim: Claim {
        /// Before the answer leaves. Who asks again gets the next one.
        upstream BeforeTheAnswer,
        /// When the agent's next asking says that it has it. Until then it is offered again.
        hardened WhenTheAgentHasIt,
    }
    because "a build whose answer is lost waits for minutes until the claim is rolled back"
    from "ThirdPartyAgentService.kt:194-344 (startBuild)";

    /// An answer with a build and without the agent's status.
    unknown_status: UnknownStatus {
        /// It is thrown away as a whole.
        upstream Discarded,
        /// The build is taken.
        hardened BuildTaken,
    }
    because "the agent throws a claimed build away when only its heartbeat failed"
    from "ThirdPartyAgentService.kt:862-881, agent.go (doAsk)";

    /// When a claim of which no worker was heard is rolled back.
    roll_back: RollBack {
        /// When it is older than 3 min.
        upstream ByAge,
        /// When it is that old and the agent says that it does not have it.
        hardened UnlessTheAgentHasIt,
    }
    because "a worker that takes long to start is started twice"
    from "ThirdPartyAgentMonitorService.kt:250-275";

    /// What may change the row of a claim.
    row_update: RowUpdate {
        /// Whatever arrives, whichever attempt it is about.
        upstream Unconditional,
        /// What is about the attempt that the row is about.
        hardened CompareAndSet,
    }
    because "the late end of an attempt overwrites the claim of the next one"
    from "ThirdPartyAgentBuildDao.kt:94-160, 273; ThirdPartyAgentService.kt:678-682";

    /// What becomes of a claim's row when the engine ends its job.
    row_end: RowEnd {
        /// Nothing: it waits for the agent to say so.
        upstream LeftToTheAgent,
        /// It ends with the job.
        hardened WithTheJob,
    }
    because "a worker that is gone without a word takes a slot of its agent for ever"
    from "#11237, #11238 (60fa43babc6)";

    /// When a worker that cannot be heard stops itself.
    worker_fence: WorkerFence {
        /// After 12 failed heartbeats of up to 100 tries each: hours.
        upstream TwelveFailures,
        /// Before the server's lease on it can have ended.
        hardened BeforeTheLease,
    }
    because "a worker goes on for hours after the server gave its job away"
    from "HeartbeatControl.kt:60, worker Heartbeat.kt";

    /// How long a worker that was asked to end may be silent before its job counts as ended.
    cancel_lease: CancelLease {
        /// 20 s.
        upstream TwentySeconds,
        /// As long as any other worker: it may not have heard.
        hardened WholeLease,
    }
    because "a cancelled build ends while its worker goes on"
    from "HeartbeatControl.kt:61";

    /// What the monitor of a job's heartbeats does when there is none on record.
    missing_heartbeat: MissingHeartbeat {
        /// It ends without a word.
        upstream EndsTheMonitor,
        /// It counts from the start of the worker.
        hardened Silence,
    }
    because "a worker that dies before its first heartbeat is never missed"
    from "HeartbeatControl.kt:66-76";

    /// Whose heartbeats, claims and reports count.
    worker_attempt: WorkerAttempt {
        /// Those of any worker of the job: a call does not say which attempt it is about.
        upstream NotTold,
        /// Those of the present attempt's worker alone.
        hardened Checked,
    }
    because "a worker of an earlier attempt acts for the present one"
    from "EngineVMBuildService.kt:1138, 1151; build_util.lua";

    /// The second start of a job's worker.
    start_check: StartCheck {
        /// Refused, unless the call says that it is repeated.
        upstream RepeatedCallsPass,
        /// Refused, unless it is the same worker of the same attempt.
        hardened SameWorkerPasses,
    }
    because "a worker whose first call failed gets in whoever has started, and one whose call comes twice is turned away"
    from "EngineVMBuildService.kt:245";

    /// When the server forgets that a worker is to be told to end.
    cancel_delivery: CancelDelivery {
        /// When it makes the answer.
        upstream PoppedBeforeDelivery,
        /// When the job has ended.
        hardened KeptUntilTheEnd,
    }
    because "a cancel is lost with the answer that carries it"
    from "EngineVMBuildService.kt (heartbeatV1)";

    /// The mark that a task's completion is on its way.
    complete_key: CompleteKey {
        /// A second call is told that all is well; the mark is removed however the first one ends.
        upstream RemovedInFinally,
        /// A second call does the work of the first.
        hardened NoKey,
    }
    because "a completion that fails after its repetition was told otherwise lets the task run again"
    from "EngineVMBuildService.kt:825";

    /// What the lock of a reused agent says about its holder.
    lock_value: LockValue {
        /// The build.
        upstream Build,
        /// The build and its attempt.
        hardened BuildAndAttempt,
    }
    because "the late end of an attempt gives the lock of the next one back"
    from "AgentReuseMutex.kt";

    /// How long the lock of a reused agent lives.
    lock_life: LockLife {
        /// As many seconds as a week has minutes, and two: 2 h 48 min.
        upstream InSeconds,
        /// A week.
        hardened Week,
    }
    because "the lock of an agent ends after less than three hours, in the middle of a long build"
    from "#10589" if "builds take longer than 2 h 48 min";

    /// The lock of a critical section while somebody is in it.
    section_lock: SectionLock {
        /// It ends when its time is over, 30 or 60 s.
        upstream Unrenewed,
        /// It is renewed before it ends, and who cannot renew it leaves.
        hardened Renewed,
    }
    because "a slow access to the database outlives the lock of its critical section, and somebody else goes in"
    from "RedisLock.kt, BuildIdLock, ContainerIdLock" if "an access to the database takes longer than half a minute";

    /// When the locks of a build are given back.
    release: Release {
        /// After the build is marked as ended, and never again if that fails.
        upstream AfterTheEnd,
        /// In an event that is committed with the end and repeated until it is done.
        hardened WithTheEnd,
    }
    because "a crash or an error between the end of a build and the unlock leaves the agent locked for a week"
    from "BuildEndControl.kt:186-236";

    /// How the end of a build finds its locks.
    locks_found: LocksFound {
        /// By the build's variables that name agents.
        upstream ByVariables,
        /// By what was written down when they were taken.
        hardened ByRecord,
    }
    because "a lock that was taken before its variable was written is never given back"
    from "BuildEndControl.kt:212-236";

    /// A variable with the agent's name that cannot be written.
    variable_failure: VariableFailure {
        /// The job goes on without it.
        upstream Swallowed,
        /// The dispatch is tried again.
        hardened TriedAgain,
    }
    because "the job that reuses the agent does not find it"
    from "TPASingleQueueService.kt:115-141";

    /// A variable with the agent's name that is there from an earlier attempt.
    variable_rewrite: VariableRewrite {
        /// It is read-only and stays.
        upstream ReadOnly,
        /// It is written anew.
        hardened Rewritten,
    }
    because "a retried build reuses the agent of its first attempt instead of its own"
    from "#10675, #11739";

    /// A retried job whose root does not run again.
    retry_root: RetryRoot {
        /// The root is not in the attempt's tree of jobs, which is an error.
        upstream MissingIsAnError,
        /// The root's agent of the earlier attempt is reused.
        hardened EarlierAgent,
    }
    because "a retried job that reuses an agent fails at once"
    from "#10877, PR#10879";

    /// A job that reuses the agent of another one of its own stage.
    sibling_lock: SiblingLock {
        /// Its root takes no lock.
        upstream Skipped,
        /// Its root locks as any other.
        hardened Taken,
    }
    because "siblings use an agent that other builds use too"
    from "#10795";

    /// A job that moves to another node of its environment.
    move_lock: MoveLock {
        /// The first node stays locked.
        upstream Kept,
        /// The first node is given back.
        hardened GivenBack,
    }
    because "a node that could not start the job stays locked"
    from "#13214";

    /// A build that ends while it waits for a lock.
    queue_leave: QueueLeave {
        /// It stays in the lock's queue.
        upstream Never,
        /// It leaves.
        hardened AtTheEnd,
    }
    because "nobody gets a free lock, since the head of its queue is gone"
    from "#10589";

    /// The lock of an environment's queue.
    env_queue_lock: EnvQueueLock {
        /// It lives for 7 days, and its value travels in an event, whose handler gives it back once.
        upstream SevenDays,
        /// It lives for a minute, and whoever takes it gives it back.
        hardened Minute,
    }
    because "a lock that is not given back, after a crash or while the lock store is away, strands the environment's queue for a week"
    from "TPAQueueService.kt";

    /// What the client of the lock store makes of a store that does not answer.
    lock_client: LockClient {
        /// It goes on as though it had the lock.
        upstream FailsOpen,
        /// It waits, and gives up in the end.
        hardened FailsClosed;
        /// Locks have a store of their own, which nobody has set up: every lock is there for the asking.
        formerly NoStore
            because "a lock store that was never set up lets everybody into the critical section"
            from "#12508 (13cff559497); RedisOperation.kt:508-516"
    }
    because "without the lock store everybody is in the critical section"
    from "RedisLock.kt:47-61";

    /// When the lock store says that something is written.
    lock_durability: LockDurability {
        /// When the master knows it: a fail-over loses the latest, a restart may lose all.
        upstream OnTheMaster,
        /// When a replica and the disk know it.
        hardened OnAReplica,
    }
    because "locks that are held are lost with the store"
    from "RedisAutoConfiguration.kt";

    /// Which events of a build say which attempt they are about.
    event_attempt: EventAttempt {
        /// Neither those of its stages nor that of its end.
        upstream SomeWithout,
        /// All.
        hardened All,
    }
    because "a late event of an attempt ends the next one and drops its lock"
    from "PipelineBuildFinishEvent.kt, PipelineBuildStageEvent.kt";

    /// What the event of a cancel says.
    cancel_attempt: CancelAttempt {
        /// The attempt may be missing, and then any is meant.
        upstream Optional,
        /// The attempt.
        hardened Required,
    }
    because "a late cancel of an attempt cancels the next one"
    from "#11268";

    /// What the agent knows a build by whose worker is not running yet.
    pre_instance_key: PreInstanceKey {
        /// The build's id.
        upstream Build,
        /// The build, the job and the attempt.
        hardened Attempt,
    }
    because "two jobs of one build on one agent are taken for one"
    from "job/build_manager.go (preInstances)";

    /// Where the agent keeps which workers run.
    running_workers: RunningWorkers {
        /// In its memory.
        upstream InMemory,
        /// On disk, where each worker removes itself.
        hardened OnDisk,
    }
    because "an agent that was restarted forgets the workers that still run"
    from "job/build_manager.go (instances)";

    /// The workspace of a job that builds on an earlier one's.
    workspace: Workspace {
        /// As it is.
        upstream AsFound,
        /// Put back to how the earlier job left it.
        hardened PutBack,
    }
    because "a retried job starts from what its failed attempt left"
    from "#10877";
}
