//! Workspaces: whoever builds on what others left finds it as they left it.

use std::collections::BTreeSet;

use squall_protocol::Fact;
use squall_protocol::facts::Job;

use super::{Findings, History, Rule};

/// A job that builds on what others left finds that and nothing else.
#[derive(Clone, Debug, Default)]
pub struct CleanWorkspace;

impl Rule for CleanWorkspace {
    const NAME: &'static str = "clean-workspace";
    const SUMMARY: &'static str = "A job that builds on what others left finds that and nothing else.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut entered: BTreeSet<(&Job, u32)> = BTreeSet::new();
        for entry in history.journal {
            let Fact::WorkspaceEntered { machine, job, attempt, found: seen, expected } = &entry.fact else { continue };
            entered.insert((job, *attempt));
            if seen != expected {
                let at = entry.at;
                let message = format_args!(
                    "attempt {attempt} of {job} found {seen:?} in the workspace of {machine} at {at}, not {expected:?}"
                );
                found.breach(job, at, message);
            }
        }
        found.subjects(entered.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn entered(attempt: u32, found: &str) -> Fact {
        let (found, expected) = (found.to_owned(), "b/1".to_owned());
        Fact::WorkspaceEntered { machine: "a".into(), job: "b/2".into(), attempt, found, expected }
    }

    #[test]
    fn a_workspace_is_as_its_last_owner_left_it() {
        holds(&CleanWorkspace, 2, vec![(1, entered(1, "b/1")), (5, entered(2, "b/1"))]);
        let dirty = vec![(1, entered(1, "b/1")), (5, entered(2, "b/1, half of b/2"))];
        breaks(&CleanWorkspace, (5, "b/2", "clean-workspace/job"), &["half of b/2", "of a", "attempt 2"], dirty);
    }
}
