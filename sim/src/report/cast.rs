//! Who has to do with a failure: a story of several agents tells of those and leaves the others out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use squall_protocol::Fact;

use crate::journal::Entry;
use crate::trace::What;
use crate::verdict::Finding;
use crate::world::Ended;

/// Fields of facts that name nobody and nothing.
const NOT_NAMES: [&str; 8] = ["fact", "outcome", "why", "until", "digest", "published", "kind", "detail"];

/// The agents of a run, those whom its failure concerns, and what belongs to whom.
pub(crate) struct Cast {
    agents: BTreeSet<String>,
    /// Sessions, jobs, messages and workers, each with the agents that had it.
    owners: BTreeMap<String, BTreeSet<String>>,
    concerned: BTreeSet<String>,
}

impl Cast {
    /// The cast of a run whose worst finding this is. Without one, and when it tells of no agent, all are concerned.
    pub(crate) fn of(ended: &Ended, finding: Option<&Finding>) -> Self {
        let servers = ended.events.iter().filter_map(|event| match &event.what {
            What::RequestSent { to, .. } => Some(to.as_str()),
            _ => None,
        });
        Self::among(&ended.journal, &ended.nodes, &servers.collect(), finding)
    }

    fn among(journal: &[Entry], nodes: &[String], servers: &BTreeSet<&str>, finding: Option<&Finding>) -> Self {
        // Their processes start as those of agents do.
        let is_agent = |name: &String| !servers.contains(name.as_str());
        let agents: BTreeSet<String> =
            journal.iter().filter_map(|entry| started(&entry.fact)).filter(is_agent).collect();
        let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for entry in journal {
            // A machine is that of the agents which run there.
            let machine = nodes.get(entry.node.0 as usize).filter(|node| !agents.contains(*node));
            if let (Some(machine), Some(agent)) = (machine, started(&entry.fact).filter(is_agent)) {
                owners.entry(machine.clone()).or_default().insert(agent);
            }
            let (mut of, things): (Vec<String>, Vec<String>) =
                names(&entry.fact).into_iter().partition(|name| agents.contains(name));
            if of.is_empty() && is_told_by_worker(&entry.fact) {
                of.extend(nodes.get(entry.node.0 as usize).filter(|node| agents.contains(*node)).cloned());
            }
            for thing in things {
                owners.entry(thing).or_default().extend(of.iter().cloned());
            }
        }
        let mut cast = Self { agents, owners, concerned: BTreeSet::new() };
        if let Some(finding) = finding {
            cast.concerned = cast.named_in(&finding.subject);
            if cast.concerned.is_empty() {
                cast.concerned = cast.named_in(&finding.message);
            }
        }
        if cast.concerned.is_empty() {
            cast.concerned = cast.agents.clone();
        }
        cast
    }

    /// The agents of which the story tells nothing, and those of which it does.
    pub(crate) fn left_out(&self) -> (Vec<&str>, Vec<&str>) {
        self.agents.iter().map(String::as_str).partition(|agent| !self.concerned.contains(*agent))
    }

    /// Does a line about these names belong to the story?
    pub(crate) fn concerns(&self, about: &[String]) -> bool {
        let mut of = about.iter().flat_map(|name| self.of_name(name)).peekable();
        of.peek().is_none() || of.any(|agent| self.concerned.contains(agent))
    }

    fn named_in(&self, text: &str) -> BTreeSet<String> {
        words(text).flat_map(|word| self.of_name(word)).map(str::to_owned).collect()
    }

    fn of_name<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let (agent, owners) = (self.agents.get(name), self.owners.get(name));
        agent.into_iter().chain(owners.into_iter().flatten()).map(String::as_str)
    }
}

/// The words of a sentence, without its punctuation.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let apart = |c: char| c.is_whitespace() || ",;:()'\"".contains(c);
    text.split(apart).map(|word| word.trim_end_matches('.')).filter(|word| !word.is_empty())
}

/// Whom and what a fact names.
pub(crate) fn names(fact: &Fact) -> Vec<String> {
    let told = serde_json::to_value(fact).expect("facts are plain data");
    let Value::Object(fields) = told else { return Vec::new() };
    let named = fields.into_iter().filter(|(field, _)| !NOT_NAMES.contains(&field.as_str()));
    named.filter_map(|(_, value)| if let Value::String(name) = value { Some(name) } else { None }).collect()
}

fn started(fact: &Fact) -> Option<String> {
    if let Fact::AgentUp { agent } = fact { Some(agent.to_string()) } else { None }
}

fn is_told_by_worker(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::JobEffect { .. } | Fact::JobStopped { .. } | Fact::JobAborted { .. } | Fact::WorkerExited { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SimTime;
    use crate::trace::NodeId;
    use crate::verdict::Severity;

    fn cast(subject: &str, message: &str) -> Cast {
        let facts = vec![
            Fact::AgentUp { agent: "server".into() },
            Fact::AgentUp { agent: "runner-1".into() },
            Fact::AgentUp { agent: "runner-2".into() },
            Fact::SessionOpened { session: "s-1".into(), agent: "runner-1".into() },
            Fact::JobOffered { job: "job-1".into(), attempt: 1, agent: "runner-2".into() },
            Fact::JobQueued { job: "job-2".into() },
        ];
        let entry = |fact| Entry { at: SimTime::ZERO, node: NodeId::WORLD, fact };
        let finding = Finding {
            severity: Severity::Violation,
            invariant: "x".to_owned(),
            subject_kind: "y".to_owned(),
            subject: subject.to_owned(),
            at: SimTime::ZERO,
            message: message.to_owned(),
        };
        let journal: Vec<Entry> = facts.into_iter().map(entry).collect();
        Cast::among(&journal, &["box".to_owned()], &["server"].into(), Some(&finding))
    }

    fn concerns(cast: &Cast, name: &str) -> bool {
        cast.concerns(&[name.to_owned()])
    }

    #[test]
    fn a_failure_of_a_session_concerns_its_agent_alone() {
        let cast = cast("s-1", "s-1 was lost, and so was job-1");
        assert!(concerns(&cast, "runner-1") && concerns(&cast, "s-1"));
        assert!(!concerns(&cast, "runner-2") && !concerns(&cast, "job-1"));
        assert!(concerns(&cast, "server") && concerns(&cast, "job-2"), "they belong to nobody");
        assert_eq!(cast.left_out(), (vec!["runner-2"], vec!["runner-1"]));
    }

    #[test]
    fn a_subject_that_names_nobody_is_looked_for_in_the_message() {
        let cast = cast("attempt 1", "attempt 1 of (job-1).");
        assert!(concerns(&cast, "runner-2") && !concerns(&cast, "runner-1"));
    }

    #[test]
    fn a_failure_that_names_nobody_concerns_everybody() {
        let cast = cast("job-2", "nobody took job-2");
        assert!(concerns(&cast, "runner-1") && concerns(&cast, "runner-2"));
        assert!(cast.left_out().0.is_empty());
    }
}
