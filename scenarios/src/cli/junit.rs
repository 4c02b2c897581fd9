//! Campaigns as a JUnit report: a suite for each campaign, a test for each invariant.

use std::collections::BTreeSet;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use squall_sim::explore::Summary;

use super::judgement::{Asked, Mark};
use super::{UPSTREAM, replay_found};

/// The report of some campaigns.
pub(super) fn report(asked: Asked, summaries: &[Summary]) -> String {
    let mut report = Report::new("squall");
    report.add_test_suites(summaries.iter().map(|summary| suite(asked, summary)));
    report.to_string().expect("names and messages are text")
}

fn suite(asked: Asked, summary: &Summary) -> TestSuite {
    let mut suite = TestSuite::new(format!("{} {}", summary.scenario, summary.variant));
    suite.set_time(summary.wall);
    suite.add_property(Property::new("seeds", summary.seeds.to_string()));
    if asked == Asked::Both && summary.variant == UPSTREAM {
        let mark = Mark::of(summary);
        let status =
            if mark == Mark::Caught { TestCaseStatus::success() } else { failure("upstream", &mark.to_string()) };
        suite.add_test_case(TestCase::new("some invariant catches it", status));
    } else {
        suite.add_test_cases(invariants(summary));
    }
    let gaps: Vec<String> = summary.coverage.certain_gaps().iter().map(ToString::to_string).collect();
    let status = if gaps.is_empty() { TestCaseStatus::success() } else { failure("coverage", &gaps.join("\n")) };
    suite.add_test_case(TestCase::new("everything was tried", status));
    suite
}

/// A test for each invariant, and for each further thing that was found.
fn invariants(summary: &Summary) -> Vec<TestCase> {
    let coverage = &summary.coverage;
    let of = |fingerprint: &str| fingerprint.split('/').next().unwrap_or_default().to_owned();
    let asked = coverage.tallies.iter().map(|tally| tally.invariant.clone());
    let names: BTreeSet<String> = asked.chain(coverage.fingerprints.keys().map(|it| of(it))).collect();
    let test = |name: String| {
        let found = coverage.fingerprints.iter().filter(|(fingerprint, _)| of(fingerprint) == name);
        let told: Vec<String> =
            found.map(|(_, found)| format!("{}\n{}", replay_found(summary, found), found.message)).collect();
        let status = if told.is_empty() { TestCaseStatus::success() } else { failure(&name, &told.join("\n")) };
        TestCase::new(name, status)
    };
    names.into_iter().map(test).collect()
}

fn failure(kind: &str, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_type(kind).set_message(message.lines().last().unwrap_or_default()).set_description(message);
    status
}
