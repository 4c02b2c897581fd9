//! Faults and facts in plain words.

use std::time::Duration;

use jiff::Timestamp;
use squall_protocol::Fact;
use squall_protocol::facts::{Outcome, SessionEnd};

use crate::clock::EPOCH_UNIX_SECS;
use crate::fault::{Direction, Fault, FaultKind, RetryAfter, When};
use crate::time::SimTime;

/// What a fault does, without its time, such as `runner-1 loses power`.
pub fn fault(fault: &Fault) -> String {
    let node = fault.target.node.as_deref().unwrap_or("every node");
    let peer = fault.target.peer.as_deref().unwrap_or("every other node");
    let way = |direction: Direction| match direction {
        Direction::Both => format!("between {node} and {peer}"),
        Direction::Out => format!("from {node} to {peer}"),
        Direction::In => format!("from {peer} to {node}"),
    };
    let requests = |percent: u8| {
        let which = fault.target.route.as_ref().map(|route| format!(" for paths with {route:?}")).unwrap_or_default();
        match percent {
            100 => format!("every request{which}"),
            percent => format!("{percent} of 100 requests{which}"),
        }
    };
    let some = |percent: u8| format!("{node} answers {}", requests(percent));
    match &fault.kind {
        FaultKind::Latency { add_ms, direction } => format!("packets {} take {add_ms} ms longer", way(*direction)),
        FaultKind::Bandwidth { bytes_per_s, direction } => {
            format!("only {bytes_per_s} bytes a second get through {}", way(*direction))
        }
        FaultKind::Partition { direction } => format!("nothing gets through {}", way(*direction)),
        FaultKind::Refuse => format!("{node} refuses connections from {peer}"),
        FaultKind::Reset => format!("all connections between {node} and {peer} are reset"),
        FaultKind::ResetAfter { bytes, direction } => {
            format!("each connection is reset once {bytes} bytes went {}", way(*direction))
        }
        FaultKind::Dns => format!("{node} cannot resolve the name of {peer}"),
        FaultKind::Status { status, when, retry_after, percent } => {
            let wait = retry_after.as_ref().map(retry_after_words).unwrap_or_default();
            format!("{} with {status}{wait}, {}", some(*percent), when_words(*when))
        }
        FaultKind::DropReply { percent } => format!("{}: done, but the answer is lost", some(*percent)),
        FaultKind::Delay { by_ms, percent } => format!("{} {by_ms} ms late", some(*percent)),
        FaultKind::Late { by_ms, percent } => {
            format!("{node} gets {} {by_ms} ms late, even from callers who have gone", requests(*percent))
        }
        FaultKind::Truncate { bytes, percent } => {
            format!("{} with a body cut off after {bytes} bytes", some(*percent))
        }
        FaultKind::Stall { bytes, percent } => {
            format!("{} with a body that stops coming after {bytes} bytes", some(*percent))
        }
        FaultKind::LoginPage { percent } => format!("{} with the login page of a captive portal", some(*percent)),
        FaultKind::StreamReset { code, when, percent } => {
            format!("{} with RST_STREAM {code:#x}, {}", some(*percent), when_words(*when))
        }
        FaultKind::GoAway { percent } => format!("{} and ends the connection (GOAWAY)", some(*percent)),
        FaultKind::Crash => format!("{node} loses power"),
        FaultKind::Kill { service } => format!("{service} on {node} is killed"),
        FaultKind::Stop { service, grace_ms } => {
            format!("{service} on {node} is asked to stop, and killed {grace_ms} ms later")
        }
        FaultKind::Pause => format!("{node} is paused"),
        FaultKind::Suspend => format!("{node} falls asleep"),
        FaultKind::ClockStep { by_ms } => format!("the wall clock of {node} jumps by {by_ms} ms"),
        FaultKind::ClockDrift { ppm } => format!("the clocks of {node} gain {ppm} millionths"),
        FaultKind::DiskFull => format!("the disk of {node} is full"),
        FaultKind::System { name, amount: 0 } => format!("{name} at {node}"),
        FaultKind::System { name, amount } => format!("{name} of {amount} at {node}"),
    }
}

fn when_words(when: When) -> &'static str {
    match when {
        When::BeforeCommit => "without having acted",
        When::AfterCommit => "having acted",
    }
}

fn retry_after_words(header: &RetryAfter) -> String {
    match header {
        RetryAfter::Seconds(seconds) => format!(" and Retry-After: {seconds}"),
        RetryAfter::Date(seconds) => format!(" and a Retry-After date {seconds} s ahead"),
        RetryAfter::Absurd(text) => format!(" and Retry-After: {text:?}"),
    }
}

/// A fact as a sentence.
pub fn fact(fact: &Fact) -> String {
    match fact {
        Fact::CredentialsRefused { agent } => format!("the credentials of {agent} are refused"),
        Fact::PoolTarget { pool, size } => {
            format!("{pool} is to have {size} {}", if *size == 1 { "agent" } else { "agents" })
        }
        Fact::PoolJoined { pool, agent } => format!("{agent} is created in {pool}"),
        Fact::PoolLeft { pool, agent } => format!("{agent} of {pool} is gone"),
        Fact::JobQueued { job } => format!("{job} is queued"),
        Fact::JobOffered { job, attempt, agent } => format!("{job} is offered to {agent} (attempt {attempt})"),
        Fact::JobArrived { job, attempt, agent } => format!("{job} has arrived at {agent} (attempt {attempt})"),
        Fact::JobRequeued { job, attempt } => {
            format!("{job} is taken back and queued again (attempt {attempt} is over)")
        }
        Fact::JobCancelRequested { job } => format!("somebody asks to cancel {job}"),
        Fact::JobCancelAnswered { job, attempt } => {
            format!("the worker of {job}, which is to end, has its answer (attempt {attempt})")
        }
        Fact::JobStarted { job, attempt, agent, worker } => {
            format!("{job} is started by {worker} of {agent} (attempt {attempt})")
        }
        Fact::JobEffect { job, attempt, worker } => format!("{job} has an effect through {worker} (attempt {attempt})"),
        Fact::JobStopped { job, attempt, worker, outcome } => {
            format!("{worker} stops {job}, {} (attempt {attempt})", outcome_words(*outcome))
        }
        Fact::JobAborted { job, attempt, worker } => {
            format!("{worker} is stopped by its agent in the middle of {job} (attempt {attempt})")
        }
        Fact::JobReported { job, attempt, outcome, accepted } => {
            let taken = if *accepted { "and the server takes it" } else { "and the server refuses it" };
            format!("{job} is reported as {} (attempt {attempt}), {taken}", outcome_words(*outcome))
        }
        Fact::JobGivenUp { job, attempt } => format!("the server gives {job} up without a report (attempt {attempt})"),
        Fact::WorkerBegan { worker, agent, job, attempt, owner } => {
            format!("{worker} begins on {agent}, for {job} of {owner} (attempt {attempt})")
        }
        Fact::WorkerEnded { worker } => format!("{worker} ends"),
        Fact::WorkerExited { worker, code: Some(code) } => format!("{worker} exits with code {code}"),
        Fact::WorkerExited { worker, code: None } => format!("{worker} is killed"),
        Fact::WorkspaceEntered { machine, job, attempt, found, expected } if found == expected => {
            format!("{job} finds the workspace of {machine} as it should be: {found} (attempt {attempt})")
        }
        Fact::WorkspaceEntered { machine, job, attempt, found, expected } => {
            format!("{job} finds in the workspace of {machine} {found:?}, not {expected:?} (attempt {attempt})")
        }
        Fact::LeaseGranted { job, attempt, agent, until } => {
            format!("{agent} has a lease on {job} until {} (attempt {attempt})", instant(*until))
        }
        Fact::LeaseRenewed { job, attempt, until } => {
            format!("the lease on {job} is renewed until {} (attempt {attempt})", instant(*until))
        }
        Fact::LeaseAnswered { job, attempt, until } => {
            format!("the answer with the lease on {job} until {} has arrived (attempt {attempt})", instant(*until))
        }
        Fact::LeaseExpired { job, attempt } => format!("the lease on {job} expires (attempt {attempt})"),
        Fact::LeaseReleased { job, attempt } => format!("the lease on {job} is released (attempt {attempt})"),
        Fact::SessionOpened { session, agent } => format!("{agent} gets session {session}"),
        Fact::LookUpAnswered { job, attempt, what } => {
            format!("{what} has been looked up for {job} (attempt {attempt})")
        }
        Fact::SessionAnswered { session } => format!("the owner of session {session} has its answer"),
        Fact::SessionRefreshed { session } => format!("session {session} is refreshed"),
        Fact::SessionConflict { agent, live } => format!("{agent} is refused a session: {live} is live"),
        Fact::SessionClosed { session, agent, why } => {
            let why = match why {
                SessionEnd::Deleted => "is deleted by its agent",
                SessionEnd::Expired => "expires",
                SessionEnd::Replaced => "is replaced by a new one",
            };
            format!("session {session} of {agent} {why}")
        }
        Fact::MessageQueued { message, agent: Some(agent) } => format!("message {message} waits for {agent}"),
        Fact::MessageQueued { message, agent: None } => format!("message {message} waits"),
        Fact::MessageDelivered { message, agent } => format!("message {message} is handed to {agent}"),
        Fact::MessageAcked { message } => format!("message {message} is forgotten: its receiver said so"),
        Fact::MessageHandled { message } => format!("what message {message} asks for is done"),
        Fact::LockTaken { lock, holder, token } => format!("{holder} takes lock {lock} (token {token})"),
        Fact::LockReleased { lock, token } => format!("lock {lock} is released (token {token})"),
        Fact::LockExpired { lock, token } => format!("lock {lock} expires (token {token})"),
        Fact::AgentUp { agent } => format!("{agent} starts"),
        Fact::AgentDown { agent, code: Some(code) } => format!("{agent} ends with exit code {code}"),
        Fact::AgentDown { agent, code: None } => format!("{agent} is killed"),
        Fact::AgentStopped { agent } => format!("{agent} will not be started again by its supervisor"),
        Fact::AgentStopRequested { agent } => format!("{agent} is asked to stop, and not to start again for now"),
        Fact::AgentUpdateRequested { agent } => format!("{agent} is asked to update itself"),
        Fact::AgentDismissed { agent } => format!("{agent} is dismissed: it gets no more work"),
        Fact::MachineSuspended { machine } => format!("{machine} is suspended"),
        Fact::MachineResumed { machine } => format!("{machine} goes on"),
        Fact::DiskFull { machine } => format!("the disk of {machine} has no room for a write"),
        Fact::AgentShown { agent, online, busy } => {
            let online = if *online { "online" } else { "offline" };
            let busy = if *busy { "busy" } else { "idle" };
            format!("the server shows {agent} as {online} and {busy}")
        }
        Fact::StageBegan { job, stage } => format!("stage {stage} of {job} begins"),
        Fact::StageEnded { job, stage } => format!("stage {stage} of {job} ends"),
        Fact::StageAlert { job, stage } => format!("an alert is raised about stage {stage} of {job}"),
        Fact::ArtifactPublished { artifact, digest } => {
            format!("{artifact} is published with digest {}", short(digest))
        }
        Fact::ArtifactSent { artifact, bytes, whole: true } => format!("{bytes} bytes of {artifact} were sent: all"),
        Fact::ArtifactSent { artifact, bytes, whole: false } => {
            format!("{bytes} bytes of {artifact} were sent, and then no more")
        }
        Fact::ArtifactWanted { artifact, job } => format!("{job} needs {artifact}"),
        Fact::ArtifactVisible { artifact, digest, published } if digest == published => {
            format!("{artifact} is there, with its published digest")
        }
        Fact::ArtifactVisible { artifact, digest, published } => {
            format!("{artifact} is there with digest {}, published was {}", short(digest), short(published))
        }
        Fact::ArtifactUsed { artifact, job, digest, published } if digest == published => {
            format!("{job} uses {artifact}, with its published digest")
        }
        Fact::ArtifactUsed { artifact, job, digest, published } => {
            format!("{job} uses {artifact} with digest {}, published was {}", short(digest), short(published))
        }
        Fact::ArtifactMissed { artifact, job } => format!("{job} ends without {artifact}"),
        Fact::ClientWaited { client, server, millis } => {
            format!("{client} has waited for bytes of {server} for {}", duration(Duration::from_millis(*millis)))
        }
        Fact::ClientToldToWait { client, server, seconds } => format!("{server} tells {client} to wait {seconds} s"),
        Fact::ClientAskedAgain { client } => format!("{client} asks again after it was told to wait"),
        Fact::CallRepeated { client, call, after_ns, .. } => {
            format!("{client} makes {call} again, {} after it failed", duration(Duration::from_nanos(*after_ns)))
        }
        Fact::Custom { kind, subject, detail } => format!("{kind}: {subject} {detail}").trim_end().to_owned(),
        other => serde_json::to_string(other).expect("facts are plain data"),
    }
}

/// As much of a digest as tells it from others.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn outcome_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "cancelled",
        Outcome::Abandoned => "abandoned",
    }
}

/// A wall-clock instant of a right clock, as simulated time.
fn instant(at: Timestamp) -> String {
    let since = at.as_nanosecond() - i128::from(EPOCH_UNIX_SECS) * 1_000_000_000;
    u64::try_from(since).map_or_else(|_| at.to_string(), |nanos| SimTime::from_nanos(nanos).to_string())
}

/// A duration as a person says it: `12 ms`, `5.3 s`, `4 min 10 s`, `1 h 2 min`.
pub fn duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds}.{} s", millis / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Target;

    #[test]
    fn faults_say_who_is_hit_and_which_way() {
        let between = Target { node: Some("runner-1".to_owned()), ..Target::default() };
        let kind = FaultKind::Partition { direction: Direction::In };
        let cut = Fault { kind, target: between, at_ms: 0, for_ms: 1 };
        assert_eq!(fault(&cut), "nothing gets through from every other node to runner-1");
        let retry_after = Some(RetryAfter::Seconds(7));
        let kind = FaultKind::Status { status: 503, when: When::AfterCommit, retry_after, percent: 30 };
        let target =
            Target { node: Some("server".to_owned()), route: Some("/sessions".to_owned()), ..Target::default() };
        assert_eq!(
            fault(&Fault { kind, target, at_ms: 0, for_ms: 1 }),
            "server answers 30 of 100 requests for paths with \"/sessions\" with 503 and Retry-After: 7, having acted"
        );
    }

    #[test]
    fn a_deadline_is_told_in_simulated_time() {
        let until = Timestamp::from_second(EPOCH_UNIX_SECS + 600).expect("in range");
        let renewed = Fact::LeaseRenewed { job: "job-1".into(), attempt: 1, until };
        assert_eq!(fact(&renewed), "the lease on job-1 is renewed until 0:10:00.000 (attempt 1)");
    }

    #[test]
    fn durations_are_short() {
        let told: Vec<String> =
            [12, 5_312, 250_000, 3_720_000].map(Duration::from_millis).into_iter().map(duration).collect();
        assert_eq!(told, ["12 ms", "5.3 s", "4 min 10 s", "1 h 2 min"]);
    }
}
