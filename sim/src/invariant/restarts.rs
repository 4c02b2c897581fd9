//! How often agents start.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::Agent;

use crate::time::SimTime;

use super::findings::Span;
use super::{Findings, History, Rule};

/// No agent is started over and over.
#[derive(Clone, Debug)]
pub struct RestartsBounded {
    /// How many starts are too few to mind. Default: 5.
    pub starts: usize,
    /// The time in which they are counted. Default: 10 minutes.
    pub window: Duration,
    /// Which starts are counted. Default: [`Counted::AfterHeal`].
    pub counted: Counted,
}

/// Which starts are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Those after heal: faults may need any number.
    AfterHeal,
    /// All: whoever starts an agent over and over makes trouble worse.
    DespiteFaults,
}

impl Default for RestartsBounded {
    fn default() -> Self {
        Self { starts: 5, window: Duration::from_secs(10 * 60), counted: Counted::AfterHeal }
    }
}

impl Rule for RestartsBounded {
    const NAME: &'static str = "restarts-bounded";
    const SUMMARY: &'static str = "No agent is started more than so many times within so long.";
    const SUBJECT: &'static str = "agent";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut starts: BTreeMap<&Agent, VecDeque<SimTime>> = BTreeMap::new();
        for entry in history.journal {
            let Fact::AgentUp { agent } = &entry.fact else { continue };
            let recent = starts.entry(agent).or_default();
            if self.counted == Counted::AfterHeal && entry.at < history.heal_at {
                continue;
            }
            while recent.front().is_some_and(|first| entry.at.since(*first) > self.window) {
                recent.pop_front();
            }
            recent.push_back(entry.at);
            if recent.len() > self.starts {
                let message = format_args!(
                    "{agent} was started {} times from {} to {}; {} within {} are the most",
                    recent.len(),
                    recent[0],
                    entry.at,
                    self.starts,
                    Span(self.window)
                );
                found.breach(agent, entry.at, message);
            }
        }
        found.subjects(starts.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_few_restarts_are_fine() {
        let early = (1..9).map(|s| (s * 10, up("a")));
        let late = (0..5).map(|n| (2_000 + n, up("a"))).chain((0..5).map(|n| (2_700 + n, up("a"))));
        holds(&RestartsBounded::default(), 1, early.chain(late).collect());
    }

    #[test]
    fn a_storm_of_restarts_is_a_breach() {
        let facts = (0..9).map(|n| (2_000 + 60 * n, up("a"))).collect();
        let broken = (2_300, "a", "restarts-bounded/agent");
        breaks(&RestartsBounded::default(), broken, &["6 times", "0:33:20", "0:38:20", "10 min"], facts);
    }

    #[test]
    fn a_storm_despite_faults_is_a_breach_if_it_counts() {
        let facts: Vec<_> = (0..9).map(|n| (100 + 60 * n, up("a"))).collect();
        holds(&RestartsBounded::default(), 1, facts.clone());
        let all = RestartsBounded { counted: Counted::DespiteFaults, ..RestartsBounded::default() };
        breaks(&all, (400, "a", "restarts-bounded/agent"), &["6 times", "0:01:40"], facts);
    }
}
