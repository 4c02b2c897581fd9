//! The five incidents as case files, and what `squall replay` tells of each: the lines that its users know from their own
//! logs, in their order and with their waits.
//!
//! The files are made by the functions beside them. With `SQUALL_WRITE_DOCS=1` they are written instead of compared.

mod actions_idle_runner;
mod arc_listener_session;
mod azure_post_job;
mod bkci_agent_reuse;
mod flox_download;
mod story;

use std::env;
use std::fs;
use std::ops::Range;
use std::time::Duration;

use squall_sim::case::Case;
use squall_sim::case_file;
use story::{Story, file};

/// The incidents, as they are in the files named after their scenarios.
fn incidents() -> [Case; 5] {
    [
        azure_post_job::incident("upstream"),
        bkci_agent_reuse::incident("upstream"),
        actions_idle_runner::incident("upstream"),
        arc_listener_session::incident(),
        flox_download::incident("upstream"),
    ]
}

#[test]
fn the_files_are_as_made() {
    for case in incidents() {
        let (path, made) = (file(&case.scenario), case_file::to_text(&case));
        if env::var_os("SQUALL_WRITE_DOCS").is_some() {
            fs::write(&path, &made).expect("there is room");
        }
        let kept = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        assert!(kept == made, "{} is old: run this test once with SQUALL_WRITE_DOCS=1", path.display());
    }
}

#[test]
fn the_repaired_designs_get_over_their_incidents() {
    for case in incidents() {
        assert!(story::is_repaired(&case.scenario), "{}", case.scenario);
    }
}

/// The times between one instant and the next, in seconds.
fn waits(at: &[Duration]) -> Vec<f64> {
    at.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect()
}

#[track_caller]
fn assert_within(waits: &[f64], ranges: &[Range<f64>]) {
    assert_eq!(waits.len(), ranges.len(), "{waits:?}");
    assert!(waits.iter().zip(ranges).all(|(wait, range)| range.contains(wait)), "{waits:?} are not {ranges:?}");
}

/// The waits of the handler, with the milliseconds that an attempt takes.
const VSS_WAITS: [Range<f64>; 3] = [10.8..11.3, 12.4..13.7, 15.6..18.5];

#[test]
fn azure_post_job() {
    let story = Story::replayed("azure-post-job");
    let attempt = |number: u32, then: &str| {
        format!(
            "Attempt {number} of GET request to http://vssps/A1/_apis/connectionData*failed (Socket Error: ConnectionReset). {then}"
        )
    };
    let retried = |number| attempt(number, "The operation will be retried in * seconds.");
    let given_up = || attempt(4, "The maximum number of attempts has been reached.");
    let look_up =
        || vec![retried(1), retried(2), retried(3), given_up(), "warn: Unable to publish telemetry*".to_owned()];
    let mut expected = vec!["stage Post-job: Checkout of job-1 begins".to_owned()];
    for _ in 0..3 {
        expected.extend(look_up());
    }
    expected.push("stage Post-job: Checkout of job-1 ends".to_owned());
    expected.push("job-1 is reported as succeeded".to_owned());
    let at = story.in_order(&expected);
    for look_up in at[1..at.len() - 2].chunks(5) {
        assert_within(&waits(&look_up[..4]), &VSS_WAITS);
        assert_eq!(look_up[3], look_up[4], "the look-up fails when its attempts are over");
    }
    let stage = (at[at.len() - 2] - at[0]).as_secs();
    assert!((118..135).contains(&stage), "a clean-up of two seconds takes minutes: {stage} s");
    let alert = story
        .in_order(&["stage Post-job: Checkout of job-1 begins", "an alert is raised about stage Post-job: Checkout"]);
    assert_within(&waits(&alert), &[60.0..60.1]);
    let lease = story.in_order(&[
        "stage Post-job: Checkout of job-1 begins",
        "Successfully renew job",
        "stage Post-job: Checkout of job-1 ends",
    ]);
    assert_eq!(lease.len(), 3, "the server sees a healthy, slow job");
}

#[test]
fn actions_idle_runner() {
    let story = Story::replayed("actions-idle-runner");
    let attempt = |number: u32, call: &str, then: &str| {
        format!(
            "Attempt {number} of {call} request to http://pipelines/tenant/_apis/distributedtask/pools/1/*failed (HTTP Status: ServiceUnavailable). {then}"
        )
    };
    let retried = |number, call| attempt(number, call, "The operation will be retried in * seconds.");
    let conflict = || {
        "Catch exception during create session: TaskAgentSessionConflictException: The actions runner runner-1 already has an active session.".to_owned()
    };
    let refused = || {
        "Catch exception during create session: VssOAuthTokenRequestException: *Registration was not found or is not medium trust.".to_owned()
    };
    let mut expected = vec![
        retried(1, "GET"),
        retried(2, "GET"),
        retried(3, "GET"),
        attempt(4, "GET", "The maximum number of attempts has been reached."),
        "Catch exception during get next message*503 Service Unavailable".to_owned(),
        "Sleeping for 25.893 seconds before retrying.".to_owned(),
        "runner-1 gets session".to_owned(),
        retried(1, "POST"),
        "runner-1 is refused a session".to_owned(),
        "POST request to http://pipelines/tenant/_apis/distributedtask/pools/1/sessions*failed. HTTP Status: Conflict"
            .to_owned(),
    ];
    let [first, then] = [4, 4].map(|times| std::iter::repeat_n(conflict(), times));
    expected.extend(first);
    expected.extend([refused(), refused()]);
    expected.extend(then);
    expected.extend(
        [
            "Stop retry on SessionConflictException after retried for 240 seconds.",
            "Failed to create session. TaskAgentSessionConflictException",
            "runner-1 ends with exit code 5",
            "runner-1 will not be started again",
            "job-1 is queued",
            "the server shows runner-1 as online and idle",
        ]
        .map(str::to_owned),
    );
    let at = story.in_order(&expected);
    assert_within(&waits(&at[..4]), &VSS_WAITS);
    let tries = waits(&at[10..20]);
    assert!(tries.iter().all(|wait| (30.0..30.6).contains(wait)), "{tries:?}");
}

#[test]
fn arc_listener_session() {
    let story = Story::replayed("arc-listener-session");
    let again = "Unable to create message session. Will try again in 30 seconds. *409 Conflict*already has an active session for owner arc-runner-set-1-listener";
    let mut expected = vec![
        "Retryable client error: *context canceled* method=GET url=http://actions/tenant/message/1",
        "Application returned an error: GET http://actions/tenant/message/1 giving up after 1 attempt(s): context canceled",
        "arc-runner-set-1 ends with exit code 1",
        "arc-runner-set-1 starts",
    ];
    expected.extend([again; 10]);
    expected.extend([
        "Application returned an error: failed to create message session: *409 Conflict*already has an active session",
        "arc-runner-set-1 ends with exit code 1",
        "arc-runner-set-1 starts",
        again,
    ]);
    let at = story.in_order(&expected);
    assert_within(&waits(&at[4..15]), &[const { 30.0..30.2 }; 10].map(|range| range.clone()));
    assert_within(&waits(&at[15..17]), &[3.0..3.1]);
}

/// Up to 0.7.0 the waits were drawn.
#[test]
fn arc_listener_session_of_0_7() {
    let story = Story::of(&arc_listener_session::after_a_kill(&[("on_conflict", "v0_7")]));
    let again =
        "Unable to create message session. Will try again in * seconds. *409 Conflict*already has an active session";
    let mut expected = vec!["arc-runner-set-1 is killed", "arc-runner-set-1 starts"];
    expected.extend([again; 10]);
    expected.extend(["Application returned an error: failed to create message session: *409", "ends with exit code 1"]);
    let at = story.in_order(&expected);
    let waits = waits(&at[2..13]);
    assert!(waits.iter().all(|wait| (30.0..45.2).contains(wait)), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait > 31.0), "{waits:?}");
}

#[test]
fn flox_download() {
    let story = Story::replayed("flox-download");
    let meter = "47 30.0M  47 14.3M    0     0  182k      0  0:02:48  0:01:20";
    let reset = "curl: (92) HTTP/2 stream 1 was not closed cleanly: INTERNAL_ERROR (err 2)";
    let mut expected = vec!["GET pkgs/stable/tailscale_1.82.0_amd64.tgz → 200"];
    for retry in [
        "Will retry in 1 seconds. 3 retries left",
        "Will retry in 2 seconds. 2 retries left",
        "Will retry in 4 seconds. 1 *left",
    ] {
        expected.extend([meter, reset, retry]);
    }
    expected.extend([
        meter,
        reset,
        "Process completed with exit code 92.",
        "job-1 ends without tailscale_1.82.0_amd64.tgz",
    ]);
    let at = story.in_order(&expected);
    let resets = [at[0], at[2], at[5], at[8], at[11]];
    // Each attempt begins from zero and lives for 80 s; between them curl waits for 1, 2 and 4 s.
    assert_within(&waits(&resets), &[79.9..80.6, 80.9..81.9, 81.9..82.9, 83.9..84.9]);
}

#[test]
fn bkci_agent_reuse() {
    let story = Story::replayed("bkci-agent-reuse");
    let at = story.in_order(&[
        "build-1 takes lock agent:reuse:agent:agent-1:lock",
        "buildInfo: build build-1 vmSeq 1 executeCount 1",
        "stops build-1/1, failed (attempt 1)",
        "build-1 is reported as failed (attempt 1)",
        "lock agent:reuse:agent:agent-1:lock is released",
        // The retry: the same build, and so the same value in the lock.
        "build-1 takes lock agent:reuse:agent:agent-1:lock",
        "buildInfo: build build-1 vmSeq 1 executeCount 2",
        "begins on agent-1, for build-1/1 of build-1 (attempt 2)",
        // The end of attempt 1 once more ends attempt 2, and takes its lock away.
        "build-1 is reported as failed (attempt 1)",
        "lock agent:reuse:agent:agent-1:lock is released",
        "build-2 takes lock agent:reuse:agent:agent-1:lock",
        "heartbeat failed 1 times: refused with 2101182: Build has ended",
        "begins on agent-1, for build-2/1 of build-2 (attempt 1)",
        // Both workers are there.
        "is stopped by its agent in the middle of build-1/1 (attempt 2)",
        "worker of build build-1 stops itself",
    ]);
    let late = at[8] - at[3];
    assert!((98.0..98.1).contains(&late.as_secs_f64()), "the event comes again after 98 s: {late:?}");
    let together = at[13] - at[12];
    assert!(together.as_secs() >= 20, "two workers of two builds on one agent: {together:?}");
    assert!(story.text().contains("exclusive-use: agent-1 was used by build-1 and by build-2"));
}
