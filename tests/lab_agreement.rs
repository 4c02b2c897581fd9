//! Fleets that exchange without a network below come out as those over real HTTP do.

use squall::lab::compare::Spread;
use squall::lab::{Fleet, MEASURES, Observed, Transport, Trial, observe};
use squall_protocol::retry::named;

/// Measures of which the two may differ by a share, and by so much besides.
const NEAR: [(&str, f64, f64); 8] = [
    ("attempts_per_success", 0.15, 0.2),
    ("load_over_capacity", 0.35, 0.3),
    ("peak_to_mean", 0.5, 3.0),
    ("recovery_ms_p50", 0.2, 1_500.0),
    ("recovery_ms_p99", 0.3, 4_000.0),
    ("leases_lost", 0.1, 2.0),
    ("late_requests", 0.15, 30.0),
    ("synchrony", 0.3, 0.25),
];

fn medians(policy: &str, trial: Trial, transport: Transport) -> Vec<f64> {
    let fleet = Fleet { transport, ..Fleet::of(40, named(policy).expect("a policy")) };
    let seen: Vec<Observed> = (0..3).map(|seed| observe(&fleet, trial, seed)).collect();
    assert!(seen.iter().all(|seen| seen.broken.is_none()), "{:?}", seen[0].broken);
    MEASURES.iter().map(|measure| Spread::of(seen.iter().map(|seen| measure.of(seen)).collect()).median).collect()
}

fn agree(policy: &str, trial: Trial) {
    let (http, exchange) = (medians(policy, trial, Transport::Http), medians(policy, trial, Transport::Exchange));
    for (measure, (over_http, alone)) in MEASURES.iter().zip(http.iter().zip(&exchange)) {
        println!("{policy} in {trial}: {} {over_http:.2} over HTTP, {alone:.2} without", measure.name);
        let Some((_, share, besides)) = NEAR.iter().find(|(name, ..)| *name == measure.name) else { continue };
        let apart = (over_http - alone).abs();
        assert!(apart <= over_http * share + besides, "{policy} in {trial}: {} {over_http} or {alone}", measure.name);
    }
}

#[test]
fn an_outage_is_the_same_over_both_transports() {
    agree("fixed", Trial::Outage);
    agree("full-jitter", Trial::Outage);
    agree("go-retryablehttp", Trial::Outage);
}

#[test]
fn errors_of_the_server_are_the_same_over_both_transports() {
    agree("full-jitter", Trial::Brownout);
    agree("full-jitter", Trial::Slow);
    agree("decorrelated", Trial::Resets);
}

#[test]
fn tokens_and_restarts_are_the_same_over_both_transports() {
    agree("full-jitter", Trial::Tokens);
    agree("fixed", Trial::Rolling);
    agree("aws-standard", Trial::Permanent);
}

#[test]
fn a_run_is_the_same_every_time() {
    for transport in [Transport::Http, Transport::Exchange] {
        let fleet = Fleet { transport, ..Fleet::of(10, named("full-jitter").expect("a policy")) };
        let [first, second] = [(); 2].map(|()| observe(&fleet, Trial::Brownout, 7));
        assert_eq!((first.digest, first.record), (second.digest, second.record));
    }
}
