//! Everything there is, with its default bounds.

use super::aborts::LeasedJobNotAborted;
use super::arrivals::{ArrivedJobBegun, HeardCancelStops};
use super::artifacts::{NotGivenUpEarly, UsedAsPublished, WantedArtifactArrives, WholeUnderFinalName};
use super::endings::{AgentOutlivesTrouble, ConnectedAgentGoesOn, DismissedAgentEnds, NoAgentStoppedForGood};
use super::exits::ExitCodeTellsOutcome;
use super::giving_up::{CancelledOnRequest, JobWaitsItsTime};
use super::idle::IdleAgentRunsNothing;
use super::jobs::{
    AgentWithinCapacity, AssignedWithinCapacity, AttemptStartsOnce, FinishedJobNotFailed, NoJobRunsTwice,
    OldAttemptsSilent, ReportedResultStays,
};
use super::leases::EffectUnderLease;
use super::leaving::WaitedForWorkerStays;
use super::load::{PeakToMeanBounded, RefusalsBounded, RequestRateBounded};
use super::locks::{DeadHoldersLockFreed, LockTokensGrow, OneLockHolder};
use super::look_ups::LookUpsBounded;
use super::messages::{AckedMessageHandled, NoMessageLost};
use super::offers::OfferedJobTaken;
use super::patience::{RetryAfterBounded, RetryAfterMinded, SilenceBounded, WaitsDiffer};
use super::pools::{PoolReachesTarget, PoolWithinCapacity, WorkingAgentStays};
use super::progress::WorkNotHeldUp;
use super::queue::{CancelledJobStops, QueuedJobEnds, WaitingJobTaken};
use super::restarts::RestartsBounded;
use super::session_ends::{LiveSessionNotDeleted, StoppedAgentLeavesNoSession};
use super::sessions::{NotLockedOut, OneLiveSession, SessionRegained};
use super::shutdown::ShutdownInTime;
use super::stages::{SlowStageAlerted, StageEnds};
use super::unused_leases::{LeasedJobRuns, NoLeakedRenewal};
use super::workers::{ExclusiveUse, NoEffectAfterEnd, OneLiveWorker};
use super::workspaces::CleanWorkspace;
use super::{Invariant, Kind, coverage};

/// Every invariant's name, its summary and, with its default bounds, its kind.
pub fn catalogue() -> Vec<(&'static str, &'static str, Kind)> {
    every_invariant().iter().map(|it| (it.name(), it.summary(), it.kind())).collect()
}

/// Every invariant, with its default bounds.
pub fn every_invariant() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(NoJobRunsTwice::default()),
        Box::new(AgentWithinCapacity::default()),
        Box::new(AssignedWithinCapacity::default()),
        Box::new(AttemptStartsOnce),
        Box::new(ReportedResultStays),
        Box::new(FinishedJobNotFailed),
        Box::new(ExitCodeTellsOutcome::default()),
        Box::new(OldAttemptsSilent::default()),
        Box::new(OneLiveWorker::default()),
        Box::new(ExclusiveUse::default()),
        Box::new(NoEffectAfterEnd::default()),
        Box::new(WaitedForWorkerStays::default()),
        Box::new(CleanWorkspace),
        Box::new(ArrivedJobBegun::default()),
        Box::new(HeardCancelStops::default()),
        Box::new(CancelledOnRequest),
        Box::new(JobWaitsItsTime::default()),
        Box::new(EffectUnderLease::default()),
        Box::new(LeasedJobNotAborted::default()),
        Box::new(NoLeakedRenewal::default()),
        Box::new(OneLiveSession::default()),
        Box::new(LiveSessionNotDeleted::default()),
        Box::new(NoMessageLost::default()),
        Box::new(OneLockHolder::default()),
        Box::new(LockTokensGrow),
        Box::new(UsedAsPublished),
        Box::new(WholeUnderFinalName),
        Box::new(NotGivenUpEarly::default()),
        Box::new(IdleAgentRunsNothing::default()),
        Box::new(ShutdownInTime::default()),
        Box::new(ConnectedAgentGoesOn::default()),
        Box::new(AgentOutlivesTrouble::default()),
        Box::new(StoppedAgentLeavesNoSession::default()),
        Box::new(PoolWithinCapacity::default()),
        Box::new(WorkingAgentStays),
        Box::new(RestartsBounded::default()),
        Box::new(RequestRateBounded::default()),
        Box::new(RefusalsBounded::default()),
        Box::new(LookUpsBounded::default()),
        Box::new(PeakToMeanBounded::default()),
        Box::new(SilenceBounded::default()),
        Box::new(RetryAfterMinded::default()),
        Box::new(RetryAfterBounded::default()),
        Box::new(WaitsDiffer::default()),
        Box::new(QueuedJobEnds::default()),
        Box::new(WaitingJobTaken::default()),
        Box::new(OfferedJobTaken::default()),
        Box::new(CancelledJobStops::default()),
        Box::new(LeasedJobRuns::default()),
        Box::new(SessionRegained::default()),
        Box::new(PoolReachesTarget::default()),
        Box::new(NotLockedOut::default()),
        Box::new(NoAgentStoppedForGood::default()),
        Box::new(DismissedAgentEnds::default()),
        Box::new(AckedMessageHandled::default()),
        Box::new(DeadHoldersLockFreed::default()),
        Box::new(WorkNotHeldUp::default()),
        Box::new(WantedArtifactArrives::default()),
        Box::new(StageEnds::default()),
        Box::new(SlowStageAlerted::default()),
        Box::new(coverage::lease_expires()),
        Box::new(coverage::session_expires()),
        Box::new(coverage::session_conflicts()),
        Box::new(coverage::agent_killed()),
        Box::new(coverage::job_retried()),
        Box::new(coverage::result_refused()),
        Box::new(coverage::lock_expires()),
        Box::new(coverage::artifact_cut_off()),
        Box::new(coverage::artifact_used()),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_kebab_case_and_differ_and_summaries_are_sentences() {
        let mut names = BTreeSet::new();
        for (name, summary, _) in catalogue() {
            assert!(names.insert(name), "{name} is there twice");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
            assert!(summary.ends_with('.') && summary.matches(". ").count() == 0, "{name}: {summary}");
        }
    }
}
