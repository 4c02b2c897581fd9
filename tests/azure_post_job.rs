//! `azure-post-job`: what random seeds find, and the log of the incident from a plan written by hand.

#[path = "incidents/azure_post_job.rs"]
mod scripted;

use std::collections::BTreeSet;
use std::time::Duration;

use scripted::{HEAL_MS, QUEUED_MS, TROUBLE_MS, incident};
use squall::azure_post_job::{AzurePostJob, CLEAN_UP_BOUND, POST_JOB};
use squall_protocol::Fact;
use squall_protocol::facts::Outcome;
use squall_sim::SimTime;
use squall_sim::case::Case;
use squall_sim::trace::{Event, Keep, What};
use squall_sim::trial::{self, Trial};
use squall_sim::verdict::Severity;

fn run(case: &Case) -> Trial {
    trial::run(&AzurePostJob, case, Keep::Events).expect("a case that fits")
}

/// When look-ups at the second host were sent, from the trouble on.
fn look_ups(trial: &Trial) -> Vec<SimTime> {
    let sent = |event: &Event| match &event.what {
        What::RequestSent { path, .. } if path.contains("A1/_apis/connectionData") => Some(event.at),
        _ => None,
    };
    trial.ended.events.iter().filter_map(sent).filter(|at| at.as_millis() >= TROUBLE_MS).collect()
}

/// When facts that `which` accepts happened.
fn when(trial: &Trial, which: impl Fn(&Fact) -> bool) -> Vec<SimTime> {
    trial.ended.journal.iter().filter(|entry| which(&entry.fact)).map(|entry| entry.at).collect()
}

fn broken(trial: &Trial) -> BTreeSet<&str> {
    trial.outcome.verdict.findings.iter().map(|finding| finding.invariant.as_str()).collect()
}

fn is_post_job(fact: &Fact) -> bool {
    matches!(fact, Fact::StageBegan { stage, .. } | Fact::StageEnded { stage, .. } if &*stage.0 == POST_JOB)
}

#[test]
fn each_look_up_makes_four_attempts_with_the_waits_of_the_incident_s_log() {
    let upstream = run(&incident("upstream"));
    let sent = look_ups(&upstream);
    // One for the stage's handler, and one for each event of its own.
    assert_eq!(sent.len(), 3 * 4, "{sent:?}");
    for attempts in sent.chunks(4) {
        let waits: Vec<u64> = attempts.windows(2).map(|pair| pair[1].since(pair[0]).as_millis() as u64).collect();
        for (wait, range) in waits.iter().zip([10_800..11_300, 12_400..13_700, 15_600..18_500]) {
            assert!(range.contains(wait), "{waits:?}");
        }
    }
}

#[test]
fn the_post_job_stage_takes_minutes_while_its_lease_is_renewed_and_an_alert_is_raised() {
    let upstream = run(&incident("upstream"));
    let [began, ended] = when(&upstream, is_post_job)[..] else { panic!("one stage") };
    let took = ended.since(began);
    assert!((Duration::from_secs(118)..Duration::from_secs(135)).contains(&took), "{took:?}");
    let renewed = when(&upstream, |fact| matches!(fact, Fact::LeaseRenewed { .. }));
    assert!(renewed.iter().filter(|at| (began..ended).contains(at)).count() >= 1, "{renewed:?}");
    assert_eq!(when(&upstream, |fact| matches!(fact, Fact::LeaseExpired { .. })), []);
    let alerts = when(&upstream, |fact| matches!(fact, Fact::StageAlert { .. }));
    let [alert] = alerts[..] else { panic!("{alerts:?}") };
    assert!(alert.since(began + CLEAN_UP_BOUND) < Duration::from_millis(10), "{alert}");
    let succeeded = |fact: &Fact| matches!(fact, Fact::JobReported { outcome: Outcome::Succeeded, accepted: true, .. });
    assert_eq!(when(&upstream, succeeded).len(), 1, "a healthy, slow job");
    assert_eq!(broken(&upstream), BTreeSet::from(["stage-ends", "work-not-held-up"]));
}

/// Its users were told to try the legacy handler: the stage is short again, and the host is as far out of reach as before.
#[test]
fn the_legacy_handler_hides_it() {
    let mut case = incident("upstream");
    case.parameters["agents"][0]["handler"] = "legacy".into();
    let upstream = run(&case);
    assert_eq!(look_ups(&upstream).len(), 3, "no look-up is made again");
    let [began, ended] = when(&upstream, is_post_job)[..] else { panic!("one stage") };
    assert!(ended.since(began) < Duration::from_secs(3));
    assert_eq!(when(&upstream, |fact| matches!(fact, Fact::StageAlert { .. })), []);
}

#[test]
fn the_repaired_agent_s_post_job_stage_does_not_notice() {
    let hardened = run(&incident("hardened"));
    let [began, ended] = when(&hardened, is_post_job)[..] else { panic!("one stage") };
    assert!(ended.since(began) < Duration::from_secs(3));
    assert_eq!(when(&hardened, |fact| matches!(fact, Fact::StageAlert { .. })), []);
    assert_eq!(hardened.outcome.verdict.severity(), Severity::Pass, "{:?}", hardened.outcome.verdict);
}

/// The second host is out of reach when a job arrives: nobody executes it, and its lease is renewed (#4939).
#[test]
fn a_flag_that_cannot_be_looked_up_leaks_the_renewals() {
    let case = |variant| {
        let mut case = incident(variant);
        case.plan.faults[0].at_ms = QUEUED_MS - 100_000;
        case.plan.faults[0].for_ms = HEAL_MS - case.plan.faults[0].at_ms;
        case
    };
    let upstream = run(&case("upstream"));
    assert_eq!(when(&upstream, |fact| matches!(fact, Fact::JobStarted { .. })), []);
    let renewed = when(&upstream, |fact| matches!(fact, Fact::LeaseRenewed { .. }));
    assert!(renewed.len() > 40, "{}", renewed.len());
    assert!(broken(&upstream).contains("no-leaked-renewal"), "{:?}", broken(&upstream));
    assert_eq!(run(&case("hardened")).outcome.verdict.severity(), Severity::Pass);
}

#[test]
fn random_seeds_catch_upstream_in_several_ways_and_leave_hardened_clean() {
    let mut caught = BTreeSet::new();
    for seed in 0..60 {
        let upstream = trial::run_seed(&AzurePostJob, "upstream", seed);
        caught.extend(upstream.verdict.findings.iter().map(|finding| finding.fingerprint()));
    }
    assert!(caught.len() >= 6, "{caught:?}");
    for seed in 0..40 {
        let hardened = trial::run_seed(&AzurePostJob, "hardened", seed);
        assert_eq!(hardened.verdict.severity(), Severity::Pass, "seed {seed}: {:?}", hardened.verdict);
    }
}
