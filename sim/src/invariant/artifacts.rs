//! Artefacts: what is used is what was published.

use std::collections::BTreeSet;

use squall_protocol::Fact;
use squall_protocol::facts::Artifact;

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
            let Fact::ArtifactUsed { artifact, digest, published } = &entry.fact else { continue };
            used.insert(artifact);
            if digest != published {
                let at = entry.at;
                let message =
                    format_args!("{artifact} was used at {at} with digest {digest}; {published} had been published");
                found.breach(artifact, at, message);
            }
        }
        found.subjects(used.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn used(artifact: &str, digest: &str) -> Fact {
        Fact::ArtifactUsed { artifact: artifact.into(), digest: digest.into(), published: "good".into() }
    }

    #[test]
    fn only_the_published_bytes_may_be_used() {
        let facts = vec![(1, used("f", "good")), (2, used("f", "good")), (2, used("g", "good"))];
        holds(&UsedAsPublished, 2, facts.clone());
        let facts = [facts, vec![(9, used("g", "bad"))]].concat();
        breaks(&UsedAsPublished, (9, "g", "used-as-published/artifact"), &["digest bad", "good", "0:00:09"], facts);
    }
}
