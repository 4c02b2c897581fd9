//! Artefacts: what is used or visible is what was published, and who needs one gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Artifact, Job};

use crate::time::SimTime;

use super::deadlines::{Deadlines, Due};
use super::findings::Span;
use super::{Findings, History, Rule};

/// Whatever is put to use has the digest that was published for it.
#[derive(Clone, Debug, Default)]
pub struct UsedAsPublished;

impl Rule for UsedAsPublished {
    const NAME: &'static str = "used-as-published";
    const SUMMARY: &'static str = "Whatever is put to use has the digest that was published for it.";
    const SUBJECT: &'static str = "artifact";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut used: BTreeSet<&Artifact> = BTreeSet::new();
        for entry in history.journal {
            let Fact::ArtifactUsed { artifact, job, digest, published } = &entry.fact else { continue };
            used.insert(artifact);
            if digest != published {
                let at = entry.at;
                let message =
                    format_args!("{job} used {artifact} at {at} with digest {digest}; {published} had been published");
                found.breach(artifact, at, message);
            }
        }
        found.subjects(used.len());
    }
}

/// Under an artefact's final name nobody ever sees a part of it, or anything else.
#[derive(Clone, Debug, Default)]
pub struct WholeUnderFinalName;

impl Rule for WholeUnderFinalName {
    const NAME: &'static str = "whole-under-final-name";
    const SUMMARY: &'static str = "What is visible under an artifact's final name is the whole of what was published.";
    const SUBJECT: &'static str = "artifact";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut seen: BTreeSet<&Artifact> = BTreeSet::new();
        for entry in history.journal {
            let Fact::ArtifactVisible { artifact, digest, published } = &entry.fact else { continue };
            seen.insert(artifact);
            if digest != published {
                let at = entry.at;
                let message = format_args!(
                    "a file with digest {digest} could be seen under the name of {artifact} at {at}; {published} had been \
                     published"
                );
                found.breach(artifact, at, message);
            }
        }
        found.subjects(seen.len());
    }
}

/// A job that needs an artefact gets it.
///
/// Time counts from heal on. A job that gave up before, or that had waited since before, is none of this rule's: see
/// [`NotGivenUpEarly`].
#[derive(Clone, Debug)]
pub struct WantedArtifactArrives {
    /// How long it may take: the transfer at the rate that is promised, and what is lost between attempts. Default: 15
    /// minutes.
    pub bound: Duration,
}

impl Default for WantedArtifactArrives {
    fn default() -> Self {
        Self { bound: Duration::from_secs(15 * 60) }
    }
}

impl Rule for WantedArtifactArrives {
    const NAME: &'static str = "wanted-artifact-arrives";
    const SUMMARY: &'static str = "A job that needs an artifact has it in time, as long as bytes get through at all.";
    const SUBJECT: &'static str = "job";

    fn within(&self) -> Option<Duration> {
        Some(self.bound)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut open: Deadlines<(&Job, &Artifact)> = Deadlines::after_heal(history, self.bound);
        let tell = |found: &mut Findings, (job, artifact): (&Job, &Artifact), due: Due| {
            found.subject();
            if due.missed {
                let (since, by, heal) = (due.since, due.deadline, history.heal_at);
                let message = format_args!(
                    "{job}, which needs {artifact} since {since}, had not got it by {by} (heal was at {heal})"
                );
                found.breach(job, by, message);
            }
        };
        for entry in history.journal {
            match &entry.fact {
                Fact::ArtifactWanted { artifact, job } => open.arise((job, artifact), entry.at),
                Fact::ArtifactUsed { artifact, job, .. } => {
                    let wanted = (job, artifact);
                    open.settle(&wanted, entry.at).into_iter().for_each(|due| tell(found, wanted, due));
                }
                Fact::ArtifactMissed { artifact, job } => {
                    let Some(due) = open.settle(&(job, artifact), entry.at) else { continue };
                    if due.since >= history.heal_at {
                        found.subject();
                        let (since, at) = (due.since, entry.at);
                        let message = format_args!(
                            "{job}, which needed {artifact} from {since} on, ended without it at {at} although nothing was \
                             wrong any more"
                        );
                        found.breach(job, at, message);
                    }
                }
                _ => {}
            }
        }
        open.missed(history.end).for_each(|(wanted, due)| tell(found, wanted, due));
    }
}

/// No job ends without its artefact before it has tried for long enough, whatever goes wrong meanwhile.
#[derive(Clone, Debug)]
pub struct NotGivenUpEarly {
    /// How long a job tries at least. Default: 10 minutes.
    pub patience: Duration,
}

impl Default for NotGivenUpEarly {
    fn default() -> Self {
        Self { patience: Duration::from_secs(10 * 60) }
    }
}

impl Rule for NotGivenUpEarly {
    const NAME: &'static str = "artifact-not-given-up-early";
    const SUMMARY: &'static str = "No job ends without its artifact before it has tried for long enough.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut wanted: BTreeMap<(&Job, &Artifact), SimTime> = BTreeMap::new();
        for entry in history.journal {
            match &entry.fact {
                Fact::ArtifactWanted { artifact, job } => {
                    let is_new = wanted.insert((job, artifact), entry.at).is_none();
                    found.subjects(usize::from(is_new));
                }
                Fact::ArtifactMissed { artifact, job } => {
                    let Some(since) = wanted.get(&(job, artifact)) else { continue };
                    let tried = entry.at.since(*since);
                    if tried < self.patience {
                        let (tried, patience) = (Span(tried), Span(self.patience));
                        let message = format_args!(
                            "{job} ended without {artifact} {tried} after it began to try; {patience} are the least"
                        );
                        found.breach(job, entry.at, message);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn used(job: &str, artifact: &str, digest: &str) -> Fact {
        let (digest, published) = (digest.into(), "good".into());
        Fact::ArtifactUsed { artifact: artifact.into(), job: job.into(), digest, published }
    }

    fn visible(artifact: &str, digest: &str) -> Fact {
        Fact::ArtifactVisible { artifact: artifact.into(), digest: digest.into(), published: "good".into() }
    }

    fn wanted(job: &str) -> Fact {
        Fact::ArtifactWanted { artifact: "f".into(), job: job.into() }
    }

    fn missed(job: &str) -> Fact {
        Fact::ArtifactMissed { artifact: "f".into(), job: job.into() }
    }

    #[test]
    fn only_the_published_bytes_may_be_used() {
        let facts = vec![(1, used("j", "f", "good")), (2, used("k", "f", "good")), (2, used("j", "g", "good"))];
        holds(&UsedAsPublished, 2, facts.clone());
        let facts = [facts, vec![(9, used("j", "g", "bad"))]].concat();
        breaks(&UsedAsPublished, (9, "g", "used-as-published/artifact"), &["digest bad", "good", "0:00:09"], facts);
    }

    #[test]
    fn only_the_published_bytes_may_be_seen() {
        holds(&WholeUnderFinalName, 1, vec![(1, visible("f", "good")), (2, visible("f", "good"))]);
        let facts = vec![(1, visible("f", "good")), (4, visible("f", "half")), (5, visible("f", "good"))];
        breaks(&WholeUnderFinalName, (4, "f", "whole-under-final-name/artifact"), &["digest half", "0:00:04"], facts);
    }

    #[test]
    fn what_is_wanted_arrives_in_time_after_heal() {
        let rule = WantedArtifactArrives { bound: Duration::from_secs(100) };
        holds(&rule, 1, vec![(1, wanted("j")), (HEAL_S + 99, used("j", "f", "good"))]);
        let late = vec![
            (1, wanted("j")),
            (1, wanted("k")),
            (2, used("k", "f", "good")),
            (HEAL_S + 101, used("j", "f", "good")),
        ];
        breaks(&rule, (HEAL_S + 100, "j", "wanted-artifact-arrives/job"), &["since 0:00:01"], late);
        let never = vec![(1, wanted("j")), (HEAL_S - 1, wanted("j"))];
        breaks(&rule, (HEAL_S + 100, "j", "wanted-artifact-arrives/job"), &["since 0:00:01"], never);
    }

    #[test]
    fn nobody_gives_up_when_nothing_is_wrong() {
        let rule = WantedArtifactArrives { bound: Duration::from_secs(100) };
        holds(&rule, 0, vec![(HEAL_S - 1, wanted("j")), (HEAL_S + 20, missed("j"))]);
        let given_up = vec![(HEAL_S + 1, wanted("j")), (HEAL_S + 20, missed("j"))];
        breaks(&rule, (HEAL_S + 20, "j", "wanted-artifact-arrives/job"), &["nothing was wrong"], given_up);
    }

    #[test]
    fn nobody_gives_up_early() {
        let rule = NotGivenUpEarly { patience: Duration::from_secs(60) };
        holds(&rule, 1, vec![(1, wanted("j")), (61, missed("j")), (62, missed("unknown"))]);
        let early = vec![(1, wanted("j")), (2, wanted("k")), (60, missed("j"))];
        breaks(&rule, (60, "j", "artifact-not-given-up-early/job"), &["59 s", "60 s are the least"], early);
    }
}
