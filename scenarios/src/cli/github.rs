//! Annotations of GitHub's workflows: what fails is shown beside the change that was checked.
//!
//! The commands are those of <https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands>.

use std::fmt::Write;

use squall_sim::explore::Summary;

use super::judgement::{Asked, Mark};
use super::{UPSTREAM, replay_found};

/// The annotations of some campaigns: an error for what fails, a notice for an upstream variant that was caught.
pub(super) fn annotations(asked: Asked, summaries: &[Summary]) -> String {
    let mut text = String::new();
    for summary in summaries {
        let Summary { scenario, variant, coverage, .. } = summary;
        let is_wanted = asked == Asked::Both && variant == UPSTREAM && Mark::of(summary) == Mark::Caught;
        for (fingerprint, found) in &coverage.fingerprints {
            let title = format!("{}: {fingerprint} in {scenario} {variant}", found.verdict);
            let replay = replay_found(summary, found);
            let message =
                format!("{}\nin {} of {} runs, again by: {replay}", found.message, found.trials, coverage.trials);
            annotate(&mut text, if is_wanted { "notice" } else { "error" }, &title, &message);
        }
        for gap in coverage.gaps() {
            let level = if gap.is_certain(coverage.trials) { "error" } else { "notice" };
            annotate(&mut text, level, &format!("not tried in {scenario} {variant}"), &gap.to_string());
        }
        if asked == Asked::Both && Mark::of(summary) == Mark::NotCaught {
            annotate(
                &mut text,
                "error",
                "not caught",
                &format!("{} seeds of {scenario} {variant} passed", summary.seeds),
            );
        }
    }
    text
}

fn annotate(to: &mut String, level: &str, title: &str, message: &str) {
    let message = message.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let title = title.replace('%', "%25").replace(':', "%3A").replace(',', "%2C");
    writeln!(to, "::{level} title={title}::{message}").expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::annotate;

    #[test]
    fn what_would_end_a_command_is_escaped() {
        let mut text = String::new();
        annotate(&mut text, "error", "stuck: a,b", "100 %\nof it: lost");
        assert_eq!(text, "::error title=stuck%3A a%2Cb::100 %25%0Aof it: lost\n");
    }
}
