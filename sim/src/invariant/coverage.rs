//! What a campaign should have seen at least once: without it, its faults did not reach what they were meant to test.

use squall_protocol::Fact;
use squall_protocol::facts::SessionEnd;

use super::Property;

/// A lease runs out on the server.
pub fn lease_expires() -> Property {
    let summary = "Some lease runs out on the server.";
    Property::sometimes("lease-expires", summary, |fact| matches!(fact, Fact::LeaseExpired { .. }))
}

/// A session ends because nobody refreshed it.
pub fn session_expires() -> Property {
    let expired = |fact: &Fact| matches!(fact, Fact::SessionClosed { why: SessionEnd::Expired, .. });
    Property::sometimes("session-expires", "Some session ends because nobody refreshed it.", expired)
}

/// A session is refused because another one is live.
pub fn session_conflicts() -> Property {
    let summary = "Some session is refused because another one is live.";
    Property::sometimes("session-conflicts", summary, |fact| matches!(fact, Fact::SessionConflict { .. }))
}

/// An agent's process is killed.
pub fn agent_killed() -> Property {
    let killed = |fact: &Fact| matches!(fact, Fact::AgentDown { code: None, .. });
    Property::sometimes("agent-killed", "Some agent's process is killed.", killed)
}

/// A job is started as a second or later attempt.
pub fn job_retried() -> Property {
    let retried = |fact: &Fact| matches!(fact, Fact::JobStarted { attempt: 2.., .. });
    Property::sometimes("job-retried", "Some job is started as a second or later attempt.", retried)
}

/// A result reaches the server and is refused.
pub fn result_refused() -> Property {
    let refused = |fact: &Fact| matches!(fact, Fact::JobReported { accepted: false, .. });
    Property::sometimes("result-refused", "Some result reaches the server and is refused.", refused)
}

/// A lock's time to live ends before its holder releases it.
pub fn lock_expires() -> Property {
    let summary = "Some lock's time to live ends before its holder releases it.";
    Property::sometimes("lock-expires", summary, |fact| matches!(fact, Fact::LockExpired { .. }))
}

/// An answer with an artefact ends before its end.
pub fn artifact_cut_off() -> Property {
    let cut_off = |fact: &Fact| matches!(fact, Fact::ArtifactSent { whole: false, .. });
    Property::sometimes("artifact-cut-off", "Some answer with an artifact ends before its end.", cut_off)
}

/// A job uses an artefact.
pub fn artifact_used() -> Property {
    let summary = "Some job uses the artifact that it needed.";
    Property::sometimes("artifact-used", summary, |fact| matches!(fact, Fact::ArtifactUsed { .. }))
}

#[cfg(test)]
mod tests {
    use squall_protocol::facts::Outcome::Failed;

    use super::super::testing::*;
    use super::super::{Invariant, Kind};
    use super::*;

    fn sent(whole: bool) -> Fact {
        Fact::ArtifactSent { artifact: "f".into(), bytes: 7, whole }
    }

    fn used() -> Fact {
        let (digest, published) = ("d".to_owned(), "d".to_owned());
        Fact::ArtifactUsed { artifact: "f".into(), job: "j".into(), digest, published }
    }

    #[test]
    fn each_property_counts_what_it_asks_for_and_nothing_else() {
        let closed_by = |why| vec![(1, closed("s", "a", why))];
        let cases = [
            (lease_expires(), vec![(1, lease_expired("j", 1))], vec![(1, lease_released("j", 1))]),
            (session_expires(), closed_by(SessionEnd::Expired), closed_by(SessionEnd::Deleted)),
            (session_conflicts(), vec![(1, conflict("a", "s"))], vec![(1, opened("s", "a"))]),
            (agent_killed(), vec![(1, down("a"))], vec![(1, exited("a", 1))]),
            (job_retried(), vec![(1, started("j", 2, "a", "w"))], vec![(1, started("j", 1, "a", "w"))]),
            (result_refused(), vec![(1, refused("j", 1, Failed))], vec![(1, reported("j", 1, Failed))]),
            (artifact_cut_off(), vec![(1, sent(false))], vec![(1, sent(true))]),
            (artifact_used(), vec![(1, used())], vec![(1, sent(true))]),
            (lock_expires(), vec![(1, lock_expired("l", 1))], vec![(1, unlocked("l", 1))]),
        ];
        for (property, shown, not_shown) in cases {
            assert_eq!(property.kind(), Kind::Sometimes);
            holds(&property, 1, shown);
            holds(&property, 0, not_shown);
        }
    }
}
