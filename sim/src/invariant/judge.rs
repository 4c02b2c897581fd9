//! Judging a run by all of its invariants, and a campaign by all of its runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::verdict::Verdict;

use super::{History, Invariant, Kind};

/// What all invariants of a case make of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Everything that was found, the worst first.
    pub verdict: Verdict,
    /// What each invariant applied to, in the order in which they were given.
    pub tallies: Vec<Tally>,
}

/// How often an invariant applied, and how often it was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The invariant's name.
    pub invariant: String,
    /// Its kind.
    pub kind: Kind,
    /// See [`super::Judgement::subjects`].
    pub subjects: u64,
    /// How many of them broke it.
    pub breaches: u64,
}

/// Judges a history by each of `invariants`. How bad a breach is follows from the invariant's kind; what is asked for
/// only sometimes is counted and never found.
pub fn judge(invariants: &[Box<dyn Invariant>], history: &History<'_>) -> Judged {
    let mut findings = Vec::new();
    let mut tallies = Vec::with_capacity(invariants.len());
    for invariant in invariants {
        let kind = invariant.kind();
        let mut judgement = invariant.judge(history);
        if kind == Kind::Sometimes {
            judgement.findings.clear();
        }
        let breaches = judgement.findings.len() as u64;
        tallies.push(Tally { invariant: invariant.name().to_owned(), kind, subjects: judgement.subjects, breaches });
        findings.extend(judgement.findings.into_iter().map(|mut finding| {
            finding.severity = kind.severity();
            finding
        }));
    }
    Judged { verdict: Verdict::of(findings), tallies }
}

/// The tallies of a campaign: those of its runs, added up by invariant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tallies(BTreeMap<String, Tally>);

impl Tallies {
    /// Adds those of a run.
    pub fn add(&mut self, run: &[Tally]) {
        for more in run {
            let Some(sum) = self.0.get_mut(&more.invariant) else {
                self.0.insert(more.invariant.clone(), more.clone());
                continue;
            };
            sum.subjects += more.subjects;
            sum.breaches += more.breaches;
        }
    }

    /// Adds those of another part of the campaign.
    pub fn merge(&mut self, other: &Tallies) {
        other.iter().for_each(|tally| self.add(std::slice::from_ref(tally)));
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Tally> {
        self.0.values()
    }

    /// What some run should have shown and none did.
    pub fn never_shown(&self) -> impl Iterator<Item = &Tally> {
        self.iter().filter(|tally| tally.kind == Kind::Sometimes && tally.subjects == 0)
    }

    /// The invariants that never applied to anything, and so prove nothing.
    pub fn without_subject(&self) -> impl Iterator<Item = &Tally> {
        self.iter().filter(|tally| tally.kind != Kind::Sometimes && tally.subjects == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use squall_protocol::Fact;
    use squall_protocol::facts::{Outcome, SessionEnd};

    use super::super::testing::*;
    use super::super::{Findings, Judgement, Property, coverage, every_invariant};
    use super::*;
    use crate::SimTime;
    use crate::journal::Entry;
    use crate::trace::NodeId;
    use crate::verdict::Severity;

    fn all_down(history: &History<'_>, found: &mut Findings) {
        for entry in history.journal.iter().filter(|entry| matches!(entry.fact, Fact::AgentDown { .. })) {
            found.subject();
            found.breach("a", entry.at, "down");
        }
    }

    #[test]
    fn a_kind_decides_how_bad_a_breach_is_and_the_worst_comes_first() {
        let invariants: Vec<Box<dyn Invariant>> = vec![
            Box::new(Property::always("never-down", "No agent is down.", "agent", all_down)),
            Box::new(Property::eventually("soon-up", "No agent stays down.", "agent", Duration::ZERO, all_down)),
            Box::new(coverage::agent_killed()),
            Box::new(coverage::lock_expires()),
        ];
        let journal = journal(vec![(3, down("a")), (5, down("a"))]);
        let judged = judge(&invariants, &History { journal: &journal, heal_at: SimTime::ZERO, end: SimTime::MAX });
        let found: Vec<_> = judged.verdict.findings.iter().map(|it| (it.fingerprint(), it.severity, it.at)).collect();
        let expected = [
            ("soon-up/agent".to_owned(), Severity::Stuck, SimTime::from_secs(3)),
            ("never-down/agent".to_owned(), Severity::Violation, SimTime::from_secs(3)),
        ];
        assert_eq!(found, expected);
        assert_eq!(judged.verdict.severity(), Severity::Stuck);
        let counts: Vec<_> =
            judged.tallies.iter().map(|it| (it.invariant.as_str(), it.subjects, it.breaches)).collect();
        assert_eq!(counts, [("never-down", 2, 1), ("soon-up", 2, 1), ("agent-killed", 2, 0), ("lock-expires", 0, 0)]);
    }

    #[test]
    fn a_campaign_tells_what_it_never_saw() {
        let invariants = every_invariant();
        let (quiet, eventful) = (journal(vec![(1, up("a"))]), journal(vec![(1, down("a")), (2, lock_expired("l", 1))]));
        let tallies = |journal: &[Entry]| {
            judge(&invariants, &History { journal, heal_at: SimTime::ZERO, end: SimTime::from_secs(9) }).tallies
        };
        let (mut campaign, mut part) = (Tallies::default(), Tallies::default());
        campaign.add(&tallies(&quiet));
        assert!(campaign.never_shown().any(|it| it.invariant == "agent-killed"));
        part.add(&tallies(&eventful));
        part.add(&tallies(&eventful));
        campaign.merge(&part);
        assert!(campaign.never_shown().all(|it| !["agent-killed", "lock-expires"].contains(&&*it.invariant)));
        assert!(campaign.never_shown().any(|it| it.invariant == "lease-expires"));
        assert!(campaign.iter().any(|it| it.invariant == "agent-killed" && it.subjects == 2));
        assert!(campaign.without_subject().any(|it| it.invariant == "no-job-runs-twice"));
        assert!(campaign.without_subject().all(|it| it.invariant != "restarts-bounded"));
    }

    fn name(of: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
        select(of)
    }

    fn agent() -> impl Strategy<Value = &'static str> {
        name(&["a", "b", "j"])
    }

    fn job() -> impl Strategy<Value = (&'static str, u32)> {
        (name(&["j", "k"]), select(&[0, 1, 2, 3, u32::MAX][..]))
    }

    fn worker() -> impl Strategy<Value = &'static str> {
        name(&["w1", "w2", "w3"])
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        select(&[Outcome::Succeeded, Outcome::Failed, Outcome::Cancelled, Outcome::Abandoned][..])
    }

    fn fact_of_job() -> impl Strategy<Value = Fact> {
        prop_oneof![
            job().prop_map(|(job, _)| queued(job)),
            (job(), agent()).prop_map(|((job, attempt), agent)| offered(job, attempt, agent)),
            (job(), agent()).prop_map(|((job, attempt), agent)| arrived(job, attempt, agent)),
            job().prop_map(|(job, attempt)| requeued(job, attempt)),
            job().prop_map(|(job, attempt)| cancel_answered(job, attempt)),
            job().prop_map(|(job, _)| cancel(job)),
            (job(), agent(), worker()).prop_map(|((job, attempt), agent, worker)| started(job, attempt, agent, worker)),
            (job(), worker()).prop_map(|((job, attempt), worker)| effect(job, attempt, worker)),
            (job(), worker(), outcome()).prop_map(|((job, attempt), worker, outcome)| Fact::JobStopped {
                job: job.into(),
                attempt,
                worker: worker.into(),
                outcome
            }),
            (job(), worker()).prop_map(|((job, attempt), worker)| aborted(job, attempt, worker)),
            (worker(), 0..2).prop_map(|(worker, code)| worker_exited(worker, code)),
            worker().prop_map(worker_killed),
            (job(), outcome()).prop_map(|((job, attempt), outcome)| reported(job, attempt, outcome)),
            (job(), outcome()).prop_map(|((job, attempt), outcome)| refused(job, attempt, outcome)),
            job().prop_map(|(job, attempt)| given_up(job, attempt)),
            (job(), agent()).prop_map(|((job, attempt), agent)| granted(job, attempt, agent)),
            job().prop_map(|(job, attempt)| renewed(job, attempt)),
            job().prop_map(|(job, attempt)| lease_expired(job, attempt)),
            job().prop_map(|(job, attempt)| lease_released(job, attempt)),
        ]
    }

    fn fact_of_agent() -> impl Strategy<Value = Fact> {
        let session = || name(&["s", "t"]);
        let message = || name(&["m", "n"]);
        prop_oneof![
            (session(), agent()).prop_map(|(session, agent)| opened(session, agent)),
            session().prop_map(refreshed),
            (agent(), session()).prop_map(|(agent, session)| conflict(agent, session)),
            (session(), agent()).prop_map(|(session, agent)| closed(session, agent, SessionEnd::Expired)),
            (message(), agent()).prop_map(|(message, agent)| delivered(message, agent)),
            message().prop_map(acked),
            message().prop_map(handled),
            agent().prop_map(up),
            agent().prop_map(down),
            (agent(), 0..3).prop_map(|(agent, code)| exited(agent, code)),
            agent().prop_map(stopped_for_good),
            agent().prop_map(stop_requested),
            agent().prop_map(dismissed),
            agent().prop_map(shown_idle),
            agent().prop_map(shown_busy),
            agent().prop_map(shown_offline),
        ]
    }

    fn fact_of_anything_else() -> impl Strategy<Value = Fact> {
        let lock = || (name(&["l", "m"]), select(&[0, 1, 2, u64::MAX][..]));
        let stage = || (job(), name(&["s", "t"]));
        prop_oneof![
            (lock(), agent()).prop_map(|((lock, token), holder)| taken(lock, holder, token)),
            lock().prop_map(|(lock, token)| unlocked(lock, token)),
            lock().prop_map(|(lock, token)| lock_expired(lock, token)),
            stage().prop_map(|((job, _), stage)| stage_began(job, stage)),
            stage().prop_map(|((job, _), stage)| stage_ended(job, stage)),
            stage().prop_map(|((job, _), stage)| alert(job, stage)),
            ("[ab]", "[ab]").prop_map(|(digest, published)| Fact::ArtifactUsed {
                artifact: "f".into(),
                job: "j".into(),
                digest,
                published
            }),
            (agent(), any::<(u64, u32, u32)>()).prop_map(|(client, (requests, busiest_minute, in_busiest_minute))| {
                Fact::ClientLoad { client: client.into(), requests, busiest_minute, in_busiest_minute }
            }),
            any::<(u32, u32, u32)>().prop_map(|(minute, requests, clients_in_busiest_second)| Fact::MinuteLoad {
                minute,
                requests,
                clients_in_busiest_second
            }),
        ]
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let fact = prop_oneof![fact_of_job(), fact_of_agent(), fact_of_anything_else()];
        let at = prop_oneof![9 => 0..3_000_u64, 1 => Just(u64::MAX / 1_000_000_000)];
        vec((at, fact), 0..200).prop_map(|facts| {
            let entry = |(s, fact)| Entry { at: SimTime::from_secs(s), node: NodeId::WORLD, fact };
            facts.into_iter().map(entry).collect()
        })
    }

    fn told(judgement: Judgement) -> Vec<(SimTime, String)> {
        judgement.findings.into_iter().map(|finding| (finding.at, finding.subject)).collect()
    }

    /// Invariants that a single fact breaks, whatever follows.
    const AT_ONCE: [&str; 5] =
        ["attempt-starts-once", "old-attempts-silent", "effect-under-lease", "lock-tokens-grow", "used-as-published"];

    proptest! {
        #[test]
        fn any_journal_can_be_judged(
            journal in entries(),
            heal_at in 0..3_000_u64,
            end in prop_oneof![0..9_000_u64, Just(u64::MAX / 1_000_000_000)],
        ) {
            let (heal_at, end) = (SimTime::from_secs(heal_at), SimTime::from_secs(end));
            let history = History { journal: &journal, heal_at, end };
            let judged = judge(&every_invariant(), &history);
            prop_assert_eq!(&judged, &judge(&every_invariant(), &history));
            let breaches: u64 = judged.tallies.iter().map(|tally| tally.breaches).sum();
            prop_assert_eq!(breaches, judged.verdict.findings.len() as u64);
            prop_assert!(judged.verdict.findings.iter().all(|finding| finding.severity > Severity::Pass));
        }

        #[test]
        fn facts_that_nobody_asked_for_change_nothing(journal in entries(), at in any::<prop::sample::Index>()) {
            let mut journal = journal;
            journal.sort_by_key(|entry| entry.at);
            let (heal_at, end) = (SimTime::from_secs(1_000), SimTime::from_secs(10_000));
            let before = judge(&every_invariant(), &History { journal: &journal, heal_at, end });
            let fact = Fact::Custom { kind: "other".into(), subject: "a".into(), detail: String::new() };
            let place = at.index(journal.len() + 1);
            let when = journal.get(place).map_or(end, |next| next.at);
            journal.insert(place, Entry { at: when, node: NodeId::WORLD, fact });
            prop_assert_eq!(before, judge(&every_invariant(), &History { journal: &journal, heal_at, end }));
        }

        #[test]
        fn what_has_happened_stays_found(journal in entries(), at in any::<prop::sample::Index>()) {
            let mut journal = journal;
            journal.sort_by_key(|entry| entry.at);
            let cut = at.index(journal.len() + 1);
            for invariant in every_invariant().iter().filter(|it| AT_ONCE.contains(&it.name())) {
                let [part, whole] = [&journal[..cut], &journal[..]].map(|journal| {
                    told(invariant.judge(&History { journal, heal_at: SimTime::ZERO, end: SimTime::MAX }))
                });
                let kept = part.iter().all(|finding| whole.contains(finding));
                prop_assert!(kept, "{}: {:?} {:?}", invariant.name(), part, whole);
            }
        }
    }
}
