//! Where the real listener's and controller's design and the repaired one differ, each difference one field.
//!
//! [`Choices::upstream`] is ARC 0.14.2 with SS v0.4.0. What earlier versions did is a `formerly` value, named after its
//! version where the field is about what changed from version to version. References are to issues of ARC unless they
//! name SS.

use super::server::Policy;
use crate::choices::choices;
use crate::session;

choices! {
    system "arc";

    /// The retry handler below every call of the scale-set API.
    http_retries: HttpRetries {
        /// go-retryablehttp: 1, 2, 4 and 8 s, the same everywhere; Retry-After is minded however long it is.
        upstream GoRetryable,
        /// Exponential with full jitter; Retry-After is minded, capped.
        hardened FullJitter;
        /// As upstream, and up to a microsecond of jitter that was meant to be a second.
        formerly NanosecondJitter
            because "jitter in nanoseconds, and a Retry-After that is minded however long it is"
            from "github/actions/client.go of 0.13.1";
        /// Exponential with full jitter, which every call draws anew from a copy of the same generator.
        formerly ClonedGenerator
            because "every call of every listener draws the same waits"
            from "tower 0.5, retry/backoff.rs; retry: mutant-cloned-generator";
        /// Retry-After is minded, capped, to the second.
        formerly ToldAlike
            because "listeners that were told the same come back together"
            from "retry: mutant-retry-after-cluster"
    }
    because "waits are the same everywhere, and a Retry-After is minded however long it is"
    from "go-retryablehttp client.go, DefaultBackoff";

    /// An answer whose body cannot be read.
    body_errors: BodyErrors {
        /// It comes to light after the retry handler, and is fatal.
        upstream Fatal,
        /// It is retried as any other trouble of the transport is.
        hardened Retried,
    }
    because "a body that is cut short ends the listener"
    from "#4285, #4470; SS common_client.go:59-77";

    /// How long a call may take, and a poll most of all.
    poll_timeout: PollTimeout {
        /// Every call 5 minutes, and so do polls, although the service answers within one.
        upstream AsEveryCall,
        /// Every call a little longer than the service holds polls.
        hardened AsServiceHolds,
    }
    because "a poll into a black hole is noticed after five minutes, and five times so"
    from "#3204, #3100";

    /// Trouble that outlasts the retry handler.
    outage: Outage {
        /// It is fatal, after 15 s if errors come fast.
        upstream Fatal,
        /// The call is made again, further and further apart, until the process is asked to stop.
        hardened Outlasts,
    }
    because "an outage of 16 seconds ends the listener and loses its session"
    from "SS session_client.go:94-118";

    /// Sending the creation of a session again when its answer was lost.
    create_replay: CreateReplay {
        /// The same POST again: the service finds the first one's session in the way.
        upstream Blind,
        /// All attempts at one session carry the same idempotency key.
        hardened Keyed,
    }
    because "the replay of a session's creation conflicts with itself"
    from "#3210; SS session_client.go:44-71"
    if "a refused creation extends the live session";

    /// Another session of the same scale set is live (409).
    on_conflict: OnConflict {
        /// The process ends.
        upstream Exits,
        /// The same owner takes the session over; another owner's is waited for.
        hardened TakesOver;
        /// Up to 0.7.0: ten times, 30 to 45 s apart, then the process ends.
        formerly V0_7
            because "gives up on a session conflict after 300 to 450 s, however long a session lives"
            from "cmd/githubrunnerscalesetlistener/autoScalerMessageListener.go of 0.7.0"
            if "a session lives for longer than 300 to 450 s";
        /// 0.8.0 to 0.13.1: ten times, 30 s apart, then the process ends.
        formerly V0_8
            because "gives up on a session conflict after 5 minutes, however long a session lives"
            from "cmd/ghalistener/listener/listener.go of 0.8.0"
            if "a session lives for longer than 5 minutes"
    }
    because "ends at the first session conflict"
    from "#3210, #4285; cmd/ghalistener/main.go:79-86"
    if "a refused creation extends the live session";

    /// The scale set is unknown (404).
    missing_set: MissingSet {
        /// The process ends, and so does every one after it.
        upstream Fatal,
        /// It is registered anew.
        hardened Reregisters,
    }
    because "a scale set that the service has lost is never registered again"
    from "#4370, #3935, #4571";

    /// The session is unknown when it is to be refreshed (404).
    session_gone: SessionGone {
        /// The process ends.
        upstream Fatal,
        /// Another session is opened.
        hardened Reopens,
    }
    because "a session that ended on the server ends the process"
    from "SS#123";

    /// What a refreshed session replaces.
    refresh: Refresh {
        /// All of the old one, even by what is empty.
        upstream ReplacesAll,
        /// Only what it says.
        hardened KeepsRest,
    }
    because "a refresh that leaves the queue's address out ends the process"
    from "SS session_client.go:81-90"
    if "a refresh answers with the token alone";

    /// The queue refuses its token (401).
    queue_refusal: QueueRefusal {
        /// The session is refreshed, and the call made again once. A second refusal is fatal.
        upstream OnceMore,
        /// So it is, and a second refusal is waited out.
        hardened Waits;
        /// In earlier versions: only for polls. A refusal of an acknowledgement or an acquisition is fatal.
        formerly PollsAlone
            because "a queue token that expires between poll and acknowledgement ends the process"
            from "#3529, #3307"
    }
    because "a queue token that is not known everywhere at once ends the process"
    from "SS session_client.go:94-118"
    if "a new token is refused for some seconds";

    /// When the admin token is renewed.
    admin_token: AdminToken {
        /// By the local clock alone, a minute before it ends. A refusal is fatal.
        upstream ByLocalClock,
        /// And when it is refused.
        hardened AlsoWhenRefused,
    }
    because "an admin token that a slow clock takes for valid ends the process"
    from "SS client.go:977";

    /// In which order a message is acknowledged, its jobs acquired, and its effects brought about.
    message_order: MessageOrder {
        /// 0.14.1 and later: acknowledged, acquired, brought about.
        upstream V0_14,
        /// Up to 0.7.0: acquired, brought about, acknowledged. It is the only order in which no crash loses anything, and
        /// the repaired one.
        hardened V0_7;
        /// 0.14.0: acknowledged, never acquired, brought about.
        formerly V0_14_0
            because "jobs that have to be acquired never are"
            from "SS#75, SS PR#4";
        /// 0.8.2 to 0.13.1: acquired, acknowledged, brought about.
        formerly V0_8_2
            because "a message is acknowledged before it has started to count"
            from "cmd/ghalistener/listener/listener.go:191-217 of 0.13.1";
        /// 0.8.0 and 0.8.1: acknowledged, acquired, brought about.
        formerly V0_8_1
            because "a message is acknowledged before its jobs are acquired"
            from "cmd/ghalistener/listener/listener.go of 0.8.1"
    }
    because "a message is acknowledged before anything that it asks for is done"
    from "SS listener/listener.go:210-233";

    /// The answer to an acknowledgement that is no 204.
    ack_answer: AckAnswer {
        /// It is fatal, also when it says that there is no such message any more.
        upstream NoContentAlone,
        /// A message that is gone is acknowledged.
        hardened GoneIsDone,
    }
    because "an acknowledgement whose answer was lost ends the process when it is repeated"
    from "SS session_client.go:192-223"
    if "a second deletion finds no message";

    /// What the service hears of how many jobs a set has room for.
    capacity: Capacity {
        /// Every poll says it.
        upstream Told;
        /// In earlier versions: nothing.
        formerly NotTold
            because "more jobs are made a set's than it may have runners"
            from "#3446; #3431"
    };

    /// What the answer to an acquisition says was acquired.
    acquired: Acquired {
        /// It is counted for the log.
        upstream Ignored,
        /// What is missing is asked for again.
        hardened Compared,
    }
    because "jobs that an acquisition left out are forgotten"
    from "SS listener/listener.go:240-257"
    if "an acquisition may leave jobs out, and what nobody acquires is not offered again";

    /// A message without statistics.
    statistics: MissingStatistics {
        /// They are dereferenced all the same.
        upstream Dereferenced,
        /// Those before it stay.
        hardened KeepsLast,
    }
    because "a message without statistics ends the process by a nil dereference"
    from "SS listener/listener.go:190,233";

    /// A message of a type that is not known.
    unknown_message: UnknownMessage {
        /// It is fatal, and waits for the next process.
        upstream Fatal,
        /// It is acknowledged and passed over.
        hardened PassedOver,
    }
    because "a message of a new type ends every process that receives it"
    from "SS client.go, parseRunnerScaleSetMessageResponse; cloudbase/garm#812";

    /// The cluster's API fails.
    cluster_errors: ClusterErrors {
        /// It is fatal.
        upstream Fatal,
        /// The call is made again until it is done.
        hardened Retried;
        /// Up to 0.7.0: a job's start that could not be noted is logged, and its message acknowledged.
        formerly Logged
            because "a job's start that could not be noted is forgotten"
            from "cmd/githubrunnerscalesetlistener/autoScalerService.go of 0.7.0"
    }
    because "an error of the cluster's API ends the process"
    from "cmd/ghalistener/scaler/scaler.go";

    /// The number of a patch, by which the runner set tells a new one from one that it has seen.
    patch_number: PatchNumber {
        /// Counts from 0 in every process: it may be that of runners which a former process asked for.
        upstream FromZero,
        /// Counts from a number that each process draws.
        hardened FromDrawn,
    }
    because "a restarted listener's patch bears the number of one that was carried out"
    from "cmd/ghalistener/scaler/scaler.go:52-53";

    /// A message that is being handled when the process is asked to stop.
    message_in_hand: MessageInHand {
        /// It is handled to its end, however long that takes (`context.WithoutCancel`).
        upstream ToItsEnd,
        /// It has 15 seconds.
        hardened Bounded,
    }
    because "a message in hand holds up a shutdown until the process is killed"
    from "SS listener/listener.go:201";

    /// The end of the session when the process ends.
    close: Close {
        /// It is deleted, with all the retries of every call and no deadline.
        upstream Unbounded,
        /// It is deleted within 30 s, as 0.8.2 to 0.13.1 had it.
        hardened Within30Seconds;
        /// 0.8.0 and 0.8.1: it is left behind.
        formerly V0_8
            because "a clean shutdown leaves the session behind"
            from "#3209"
    }
    because "deleting the session has no deadline, and outlasts the pod's grace period"
    from "cmd/ghalistener/main.go:87-91";

    /// When the controller makes a new pod in place of one that has ended.
    pod_recreation: PodRecreation {
        /// At once: a loop of about three seconds.
        upstream AtOnce,
        /// After 10 s, and up to 5 minutes if that does not help.
        hardened BacksOff;
        /// At once, but not in place of one that was evicted.
        formerly NotWhenEvicted
            because "a pod that was evicted is not made again"
            from "#4331, #4469"
    }
    because "a pod that ends is made again without any pause"
    from "#4656, #3351; autoscalinglistener_controller.go:547-556";

    /// Somebody else changes what the listener's pod is labelled with.
    spec_drift: SpecDrift {
        /// The pod is deleted and made again, for as long as somebody does.
        upstream Deletes,
        /// What is not the controller's own is left alone.
        hardened Ignores,
    }
    because "two that disagree about a label delete the listener over and over"
    from "#3533, #3877, #4154, #4200; autoscalingrunnerset_controller.go:372-382";

    /// What runners are made from changes, and the listener is to be replaced.
    spec_change: SpecChange {
        /// There is no listener until the set has no runners any more, which is looked at every second. Runners that wait
        /// for a job stay.
        upstream WaitsForDrain,
        /// There is one as soon as the old one has ended.
        hardened KeepsListening,
    }
    because "a set whose spec changes has no listener until its idle runners are gone, which stay"
    from "#4432; autoscalingrunnerset_controller.go:294-305";

    /// There are more runners than are wanted, and of one of them no job is noted.
    idle_removal: IdleRemoval {
        /// The service is asked, which refuses if it has given the runner a job.
        upstream AsksService;
        /// It is removed by the cluster's own note alone.
        formerly ByNoteAlone
            because "a runner whose job is not noted yet is removed in the middle of it"
            from "#4000, #3748"
    };
}

impl Choices {
    /// The service's half of these choices: what a repaired listener sends makes sense only to a service that minds it.
    ///
    /// Only whoever names its attempts may take a session over: a blind replay that arrives late would end the session of
    /// a later process.
    pub fn policy(&self) -> Policy {
        Policy {
            on_conflict: match (self.create_replay, self.on_conflict) {
                (CreateReplay::Blind, _) => session::OnConflict::Refuse,
                (CreateReplay::Keyed, OnConflict::TakesOver) => session::OnConflict::TakeOver,
                (CreateReplay::Keyed, _) => session::OnConflict::AnswerAgain,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::{Choice, Design, Since};

    #[test]
    fn putting_everything_back_is_upstream() {
        let mut choices = Choices::hardened();
        let present = |choice: &&Choice<Choices>| choice.since == Since::Present;
        for choice in Choices::choices().iter().filter(present) {
            (choice.put_back)(&mut choices);
        }
        assert_eq!(choices, Choices::upstream());
    }

    #[test]
    fn the_service_s_half_follows() {
        assert_eq!(Choices::upstream().policy().on_conflict, session::OnConflict::Refuse);
        assert_eq!(Choices::hardened().policy().on_conflict, session::OnConflict::TakeOver);
        let put_back = |bug: &str| Choices::named(bug).unwrap().policy().on_conflict;
        assert_eq!(put_back("arc.create-replay"), session::OnConflict::Refuse);
        assert_eq!(put_back("arc.on-conflict.v0_8"), session::OnConflict::AnswerAgain);
    }
}
