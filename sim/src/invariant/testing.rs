//! Journals written by hand.

use squall_protocol::Fact;
use squall_protocol::facts::{Outcome, SessionEnd};

use crate::journal::Entry;
use crate::time::SimTime;
use crate::trace::NodeId;

use super::{History, Invariant, Judgement};

pub(super) const HEAL_S: u64 = 1_000;
pub(super) const END_S: u64 = 10_000;

/// Judges facts, each with its second, in a run that heals at [`HEAL_S`] and ends at [`END_S`].
pub(super) fn judged(invariant: &dyn Invariant, facts: Vec<(u64, Fact)>) -> Judgement {
    let journal = journal(facts);
    let (heal_at, end) = (SimTime::from_secs(HEAL_S), SimTime::from_secs(END_S));
    invariant.judge(&History { journal: &journal, heal_at, end })
}

pub(super) fn journal(facts: Vec<(u64, Fact)>) -> Vec<Entry> {
    facts.into_iter().map(|(s, fact)| Entry { at: SimTime::from_secs(s), node: NodeId::WORLD, fact }).collect()
}

/// The facts keep the invariant, and are about so many subjects.
#[track_caller]
pub(super) fn holds(invariant: &dyn Invariant, subjects: u64, facts: Vec<(u64, Fact)>) {
    let judgement = judged(invariant, facts);
    assert_eq!(judgement.findings, [], "{} does not hold", invariant.name());
    assert_eq!(judgement.subjects, subjects, "subjects of {}", invariant.name());
}

/// The facts break the invariant once: at this second, for this subject, with this fingerprint and these words.
#[track_caller]
pub(super) fn breaks(
    invariant: &dyn Invariant,
    (at_s, subject, fingerprint): (u64, &str, &str),
    words: &[&str],
    facts: Vec<(u64, Fact)>,
) {
    let findings = judged(invariant, facts).findings;
    let [finding] = &findings[..] else { panic!("one finding expected: {findings:#?}") };
    assert_eq!(
        (finding.at, &*finding.subject, &*finding.fingerprint(), finding.severity),
        (SimTime::from_secs(at_s), subject, fingerprint, invariant.kind().severity()),
        "{}",
        finding.message
    );
    for word in words {
        assert!(finding.message.contains(word), "{word:?} is missing in {:?}", finding.message);
    }
}

pub(super) fn queued(job: &str) -> Fact {
    Fact::JobQueued { job: job.into() }
}

pub(super) fn offered(job: &str, attempt: u32, agent: &str) -> Fact {
    Fact::JobOffered { job: job.into(), attempt, agent: agent.into() }
}

pub(super) fn arrived(job: &str, attempt: u32, agent: &str) -> Fact {
    Fact::JobArrived { job: job.into(), attempt, agent: agent.into() }
}

pub(super) fn cancel_answered(job: &str, attempt: u32) -> Fact {
    Fact::JobCancelAnswered { job: job.into(), attempt }
}

pub(super) fn requeued(job: &str, attempt: u32) -> Fact {
    Fact::JobRequeued { job: job.into(), attempt }
}

pub(super) fn cancel(job: &str) -> Fact {
    Fact::JobCancelRequested { job: job.into() }
}

pub(super) fn started(job: &str, attempt: u32, agent: &str, worker: &str) -> Fact {
    Fact::JobStarted { job: job.into(), attempt, agent: agent.into(), worker: worker.into() }
}

pub(super) fn effect(job: &str, attempt: u32, worker: &str) -> Fact {
    Fact::JobEffect { job: job.into(), attempt, worker: worker.into() }
}

pub(super) fn stopped(job: &str, attempt: u32, worker: &str) -> Fact {
    Fact::JobStopped { job: job.into(), attempt, worker: worker.into(), outcome: Outcome::Succeeded }
}

pub(super) fn aborted(job: &str, attempt: u32, worker: &str) -> Fact {
    Fact::JobAborted { job: job.into(), attempt, worker: worker.into() }
}

pub(super) fn worker_exited(worker: &str, code: i32) -> Fact {
    Fact::WorkerExited { worker: worker.into(), code: Some(code) }
}

pub(super) fn worker_killed(worker: &str) -> Fact {
    Fact::WorkerExited { worker: worker.into(), code: None }
}

pub(super) fn reported(job: &str, attempt: u32, outcome: Outcome) -> Fact {
    Fact::JobReported { job: job.into(), attempt, outcome, accepted: true }
}

pub(super) fn refused(job: &str, attempt: u32, outcome: Outcome) -> Fact {
    Fact::JobReported { job: job.into(), attempt, outcome, accepted: false }
}

pub(super) fn given_up(job: &str, attempt: u32) -> Fact {
    Fact::JobGivenUp { job: job.into(), attempt }
}

pub(super) fn granted(job: &str, attempt: u32, agent: &str) -> Fact {
    let until = crate::clock::true_wall(SimTime::ZERO);
    Fact::LeaseGranted { job: job.into(), attempt, agent: agent.into(), until }
}

pub(super) fn renewed(job: &str, attempt: u32) -> Fact {
    Fact::LeaseRenewed { job: job.into(), attempt, until: crate::clock::true_wall(SimTime::ZERO) }
}

pub(super) fn renewed_until(job: &str, attempt: u32, until_s: u64) -> Fact {
    Fact::LeaseRenewed { job: job.into(), attempt, until: crate::clock::true_wall(SimTime::from_secs(until_s)) }
}

pub(super) fn answered(session: &str) -> Fact {
    Fact::SessionAnswered { session: session.into() }
}

pub(super) fn lease_answered(job: &str, attempt: u32, until_s: u64) -> Fact {
    Fact::LeaseAnswered { job: job.into(), attempt, until: crate::clock::true_wall(SimTime::from_secs(until_s)) }
}

pub(super) fn lease_expired(job: &str, attempt: u32) -> Fact {
    Fact::LeaseExpired { job: job.into(), attempt }
}

pub(super) fn lease_released(job: &str, attempt: u32) -> Fact {
    Fact::LeaseReleased { job: job.into(), attempt }
}

pub(super) fn opened(session: &str, agent: &str) -> Fact {
    Fact::SessionOpened { session: session.into(), agent: agent.into() }
}

pub(super) fn refreshed(session: &str) -> Fact {
    Fact::SessionRefreshed { session: session.into() }
}

pub(super) fn conflict(agent: &str, live: &str) -> Fact {
    Fact::SessionConflict { agent: agent.into(), live: live.into() }
}

pub(super) fn closed(session: &str, agent: &str, why: SessionEnd) -> Fact {
    Fact::SessionClosed { session: session.into(), agent: agent.into(), why }
}

pub(super) fn delivered(message: &str, agent: &str) -> Fact {
    Fact::MessageDelivered { message: message.into(), agent: agent.into() }
}

pub(super) fn acked(message: &str) -> Fact {
    Fact::MessageAcked { message: message.into() }
}

pub(super) fn handled(message: &str) -> Fact {
    Fact::MessageHandled { message: message.into() }
}

pub(super) fn taken(lock: &str, holder: &str, token: u64) -> Fact {
    Fact::LockTaken { lock: lock.into(), holder: holder.into(), token }
}

pub(super) fn unlocked(lock: &str, token: u64) -> Fact {
    Fact::LockReleased { lock: lock.into(), token }
}

pub(super) fn lock_expired(lock: &str, token: u64) -> Fact {
    Fact::LockExpired { lock: lock.into(), token }
}

pub(super) fn up(agent: &str) -> Fact {
    Fact::AgentUp { agent: agent.into() }
}

pub(super) fn down(agent: &str) -> Fact {
    Fact::AgentDown { agent: agent.into(), code: None }
}

pub(super) fn exited(agent: &str, code: i32) -> Fact {
    Fact::AgentDown { agent: agent.into(), code: Some(code) }
}

pub(super) fn stopped_for_good(agent: &str) -> Fact {
    Fact::AgentStopped { agent: agent.into() }
}

pub(super) fn stop_requested(agent: &str) -> Fact {
    Fact::AgentStopRequested { agent: agent.into() }
}

pub(super) fn update_requested(agent: &str) -> Fact {
    Fact::AgentUpdateRequested { agent: agent.into() }
}

pub(super) fn dismissed(agent: &str) -> Fact {
    Fact::AgentDismissed { agent: agent.into() }
}

pub(super) fn shown_idle(agent: &str) -> Fact {
    Fact::AgentShown { agent: agent.into(), online: true, busy: false }
}

pub(super) fn shown_busy(agent: &str) -> Fact {
    Fact::AgentShown { agent: agent.into(), online: true, busy: true }
}

pub(super) fn shown_offline(agent: &str) -> Fact {
    Fact::AgentShown { agent: agent.into(), online: false, busy: false }
}

pub(super) fn stage_began(job: &str, stage: &str) -> Fact {
    Fact::StageBegan { job: job.into(), stage: stage.into() }
}

pub(super) fn stage_ended(job: &str, stage: &str) -> Fact {
    Fact::StageEnded { job: job.into(), stage: stage.into() }
}

pub(super) fn alert(job: &str, stage: &str) -> Fact {
    Fact::StageAlert { job: job.into(), stage: stage.into() }
}
