//! What is served on a real port, and what can be told of its clients.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use squall_protocol::Fact;
use squall_protocol::distributed_task::server::{Parameters, Registered};
use squall_protocol::facts::{Agent, Job, Outcome, Session};
use squall_protocol::jwt::PrivateKey;
use squall_sim::SimTime;
use squall_sim::invariant::jobs::ReportedResultStays;
use squall_sim::invariant::queue::{QueuedJobEnds, WaitingJobTaken};
use squall_sim::invariant::sessions::{NotLockedOut, OneLiveSession};
use squall_sim::invariant::{Findings, History, Invariant, Rule};

use super::bounds::{JOBS_END, redelivery};

/// Bits of an agent's key: as a real one's.
pub const AGENT_KEY_BITS: usize = 2_048;

/// A restart of a client, a call of it that times out, and its longest wait before the next one.
const RESTART_AND_RETRY: Duration = Duration::from_secs(300);

/// What an agent is configured with.
pub fn credentials(agent: &str, registered: &Registered, key: &PrivateKey) -> Value {
    json!({
        "tenant_url": registered.tenant_url,
        "server_url_v2": registered.server_url_v2,
        "authorization_url": registered.authorization_url,
        "client_id": registered.client_id,
        "private_key_pem": key.to_pem(),
        "pool_id": registered.pool_id,
        "agent_id": registered.agent_id,
        "agent_name": agent,
    })
}

/// What can be told from what the service saw alone.
pub fn invariants(service: &Parameters) -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(ReportedResultStays),
        Box::new(OneResultReported),
        Box::new(OneLiveSession::default()),
        Box::new(LeaseKeptInSession),
        Box::new(QueuedJobEnds { bound: JOBS_END, ..QueuedJobEnds::default() }),
        Box::new(WaitingJobTaken { bound: redelivery(service), ..WaitingJobTaken::default() }),
        Box::new(NotLockedOut { bound: service.session_life + RESTART_AND_RETRY }),
    ]
}

/// Names and summaries of those that are for served agents alone, of whose workers nothing is known.
pub fn own_invariants() -> Vec<(&'static str, &'static str)> {
    vec![(OneResultReported::NAME, OneResultReported::SUMMARY), (LeaseKeptInSession::NAME, LeaseKeptInSession::SUMMARY)]
}

/// An attempt is reported with one result, however often.
#[derive(Clone, Copy, Debug)]
struct OneResultReported;

impl Rule for OneResultReported {
    const NAME: &'static str = "one-result-reported";
    const SUMMARY: &'static str = "An attempt is reported with one result, however often it is reported.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut reported: BTreeMap<(&Job, u32), (Outcome, SimTime)> = BTreeMap::new();
        for entry in history.journal {
            let Fact::JobReported { job, attempt, outcome, .. } = &entry.fact else { continue };
            let (first, at) = *reported.entry((job, *attempt)).or_insert((*outcome, entry.at));
            if first != *outcome {
                let now = entry.at;
                let message = format_args!(
                    "attempt {attempt} of {job} was reported as {first:?} at {at} and as {outcome:?} at {now}"
                );
                found.breach(job, now, message);
            }
        }
        found.subjects(reported.len());
    }
}

/// An agent that goes on in one session renews the leases that it got in it.
#[derive(Clone, Copy, Debug)]
struct LeaseKeptInSession;

impl Rule for LeaseKeptInSession {
    const NAME: &'static str = "lease-kept-in-session";
    const SUMMARY: &'static str = "No lease runs out while its agent goes on in the session in which it got it.";
    const SUBJECT: &'static str = "lease";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut live: BTreeMap<&Agent, (&Session, SimTime)> = BTreeMap::new();
        let mut leases: BTreeMap<(&Job, u32), Lease<'_>> = BTreeMap::new();
        for entry in history.journal {
            match &entry.fact {
                Fact::SessionOpened { session, agent } => drop(live.insert(agent, (session, entry.at))),
                Fact::SessionClosed { session, agent, .. } => {
                    live.retain(|whose, (known, _)| *whose != agent || *known != session);
                }
                Fact::SessionRefreshed { session } => {
                    let known = live.values_mut().find(|(known, _)| *known == session);
                    known.into_iter().for_each(|(_, heard)| *heard = entry.at);
                }
                Fact::LeaseGranted { job, attempt, agent, .. } => {
                    found.subject();
                    let session = live.get(agent).map(|(session, _)| *session);
                    leases.insert((job, *attempt), Lease { agent, session, renewed: entry.at });
                }
                Fact::LeaseRenewed { job, attempt, .. } => {
                    let lease = leases.get_mut(&(job, *attempt));
                    lease.into_iter().for_each(|lease| lease.renewed = entry.at);
                }
                Fact::LeaseExpired { job, attempt } => {
                    let Some(lease) = leases.remove(&(job, *attempt)) else { continue };
                    let Some((session, heard)) = live.get(lease.agent) else { continue };
                    // One who has not been heard of since may be gone, and its session about to end.
                    if lease.session != Some(*session) || *heard <= lease.renewed {
                        continue;
                    }
                    let (agent, renewed) = (lease.agent, lease.renewed);
                    let message = format_args!(
                        "the lease of {agent} on attempt {attempt} of {job}, last renewed at {renewed}, ran out although \
                         the agent went on in session {session}, last heard of at {heard}"
                    );
                    found.breach(format_args!("{job}#{attempt}"), entry.at, message);
                }
                _ => {}
            }
        }
    }
}

struct Lease<'a> {
    agent: &'a Agent,
    /// In which it was granted.
    session: Option<&'a Session>,
    renewed: SimTime,
}

#[cfg(test)]
mod tests {
    use squall_protocol::facts::SessionEnd;
    use squall_sim::invariant::judge;
    use squall_sim::journal::Entry;
    use squall_sim::trace::NodeId;
    use squall_sim::verdict::Severity;

    use super::*;

    fn judged(rule: impl Invariant + 'static, facts: &[(u64, Fact)]) -> Severity {
        let entry =
            |(at, fact): &(u64, Fact)| Entry { at: SimTime::from_secs(*at), node: NodeId::WORLD, fact: fact.clone() };
        let journal: Vec<Entry> = facts.iter().map(entry).collect();
        let history = History { journal: &journal, heal_at: SimTime::ZERO, end: SimTime::from_secs(9_999) };
        judge(&[Box::new(rule)], &history).verdict.severity()
    }

    fn reported(outcome: Outcome, accepted: bool) -> Fact {
        Fact::JobReported { job: "job-1".into(), attempt: 1, outcome, accepted }
    }

    #[test]
    fn a_result_that_is_repeated_is_the_same() {
        let again = [(1, reported(Outcome::Succeeded, true)), (2, reported(Outcome::Succeeded, false))];
        assert_eq!(judged(OneResultReported, &again), Severity::Pass);
        let other = [(1, reported(Outcome::Succeeded, true)), (2, reported(Outcome::Failed, false))];
        assert_eq!(judged(OneResultReported, &other), Severity::Violation);
    }

    fn granted() -> Fact {
        let until = jiff::Timestamp::UNIX_EPOCH;
        Fact::LeaseGranted { job: "job-1".into(), attempt: 1, agent: "agent-1".into(), until }
    }

    fn expired() -> Fact {
        Fact::LeaseExpired { job: "job-1".into(), attempt: 1 }
    }

    fn opened(session: &str) -> Fact {
        Fact::SessionOpened { session: session.into(), agent: "agent-1".into() }
    }

    fn refreshed(session: &str) -> Fact {
        Fact::SessionRefreshed { session: session.into() }
    }

    #[test]
    fn an_agent_that_goes_on_keeps_its_lease() {
        let forgot = [(1, opened("s")), (2, granted()), (300, refreshed("s")), (602, expired())];
        assert_eq!(judged(LeaseKeptInSession, &forgot), Severity::Violation);
    }

    #[test]
    fn an_agent_that_is_gone_may_lose_its_lease() {
        let silent = [(1, opened("s")), (2, granted()), (602, expired())];
        assert_eq!(judged(LeaseKeptInSession, &silent), Severity::Pass);
        let closed = Fact::SessionClosed { session: "s".into(), agent: "agent-1".into(), why: SessionEnd::Expired };
        let restarted = [
            (1, opened("s")),
            (2, granted()),
            (40, refreshed("s")),
            (400, closed),
            (500, opened("t")),
            (550, refreshed("t")),
            (602, expired()),
        ];
        assert_eq!(judged(LeaseKeptInSession, &restarted), Severity::Pass);
    }
}
