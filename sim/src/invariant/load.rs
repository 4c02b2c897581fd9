//! Load: nobody asks too often, and not all at once.

use std::time::Duration;

use squall_protocol::Fact;

use crate::time::SimTime;

use super::{Findings, History, Rule};

/// No client sends more than so many requests in a minute.
#[derive(Clone, Debug)]
pub struct RequestRateBounded {
    /// The most requests that a machine may send in one minute, faults or not. Default: 120.
    pub per_minute: u32,
}

impl Default for RequestRateBounded {
    fn default() -> Self {
        Self { per_minute: 120 }
    }
}

impl Rule for RequestRateBounded {
    const NAME: &'static str = "request-rate-bounded";
    const SUMMARY: &'static str = "No client sends more than so many requests in a minute.";
    const SUBJECT: &'static str = "client";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        for entry in history.journal {
            let Fact::ClientLoad { client, requests, busiest_minute, in_busiest_minute } = &entry.fact else {
                continue;
            };
            found.subject();
            if *in_busiest_minute > self.per_minute {
                let from = minute(*busiest_minute);
                let message = format_args!(
                    "{client} sent {in_busiest_minute} requests in the minute from {from}, {requests} in all; {} are \
                     the most for a minute",
                    self.per_minute
                );
                found.breach(client, from, message);
            }
        }
    }
}

/// No client is refused as unauthorised over and over.
///
/// A client that has no valid token is told so once by each call that is under way, and gets one before it calls again.
#[derive(Clone, Debug)]
pub struct RefusalsBounded {
    /// The most requests of a machine that may be answered 401 in one minute, faults or not. Default: 10.
    pub per_minute: u32,
}

impl Default for RefusalsBounded {
    fn default() -> Self {
        Self { per_minute: 10 }
    }
}

impl Rule for RefusalsBounded {
    const NAME: &'static str = "refusals-bounded";
    const SUMMARY: &'static str = "No client goes on calling without a valid token.";
    const SUBJECT: &'static str = "client";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        for entry in history.journal {
            let Fact::ClientRefused { client, refused, worst_minute, in_worst_minute } = &entry.fact else { continue };
            found.subject();
            if *in_worst_minute > self.per_minute {
                let from = minute(*worst_minute);
                let message = format_args!(
                    "{client} was answered 401 {in_worst_minute} times in the minute from {from}, {refused} times in \
                     all; {} are the most for a minute",
                    self.per_minute
                );
                found.breach(client, from, message);
            }
        }
    }
}

/// After heal the clients do not act in step.
///
/// What counts is how many of them send requests in the same second: one alone sends many when it connects.
/// Whole minutes are judged, beginning with the one in which agents have settled after the heal.
#[derive(Clone, Debug)]
pub struct PeakToMeanBounded {
    /// How long after heal what has piled up may still come at once. Default: zero.
    pub settled: Duration,
    /// How many times the mean number of requests in a second the busiest second may have in clients. Default: 10.
    pub times: u64,
    /// A second with at most so many clients is no burst. Default: 50.
    pub small: u32,
}

impl Default for PeakToMeanBounded {
    fn default() -> Self {
        Self { settled: Duration::ZERO, times: 10, small: 50 }
    }
}

impl Rule for PeakToMeanBounded {
    const NAME: &'static str = "peak-to-mean-bounded";
    const SUMMARY: &'static str = "After heal the clients do not send their requests in the same second.";
    const SUBJECT: &'static str = "fleet";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let first = whole_minutes(history.heal_at + self.settled);
        let seconds = (whole_minutes(history.end) + 1).saturating_sub(first) * 60;
        let mut requests = 0_u64;
        let mut peak = (0_u32, 0_u32);
        for entry in history.journal {
            let Fact::MinuteLoad { minute, requests: more, clients_in_busiest_second: clients } = &entry.fact else {
                continue;
            };
            if u64::from(*minute) >= first {
                requests += u64::from(*more);
                if *clients > peak.0 {
                    peak = (*clients, *minute);
                }
            }
        }
        if requests == 0 {
            return;
        }
        found.subject();
        let (busiest, at) = (peak.0, minute(peak.1));
        if busiest > self.small && u64::from(busiest).saturating_mul(seconds) > self.times.saturating_mul(requests) {
            let message = format_args!(
                "{busiest} clients sent requests within one second of the minute from {at}; {requests} requests came \
                 in {seconds} seconds, and {} times their mean is the most for a second",
                self.times
            );
            found.breach("all", at, message);
        }
    }
}

fn whole_minutes(at: SimTime) -> u64 {
    at.as_millis() / 60_000
}

fn minute(number: u32) -> SimTime {
    SimTime::ZERO + Duration::from_secs(60 * u64::from(number))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn client(name: &str, most: u32) -> Fact {
        Fact::ClientLoad { client: name.into(), requests: 999, busiest_minute: 7, in_busiest_minute: most }
    }

    fn in_minute(minute: u32, requests: u32, clients_in_busiest_second: u32) -> Fact {
        Fact::MinuteLoad { minute, requests, clients_in_busiest_second }
    }

    #[test]
    fn a_client_that_asks_too_often_is_a_breach() {
        let facts = vec![(10_000, client("a", 120)), (10_000, client("b", 3))];
        holds(&RequestRateBounded::default(), 2, facts.clone());
        let broken = (420, "c", "request-rate-bounded/client");
        let words = &["121 requests", "0:07:00", "999 in all", "120"];
        breaks(&RequestRateBounded::default(), broken, words, [facts, vec![(10_000, client("c", 121))]].concat());
    }

    #[test]
    fn a_client_that_goes_on_without_a_token_is_a_breach() {
        let refused = |name: &str, most| {
            let client = name.into();
            (10_000, Fact::ClientRefused { client, refused: 99, worst_minute: 7, in_worst_minute: most })
        };
        holds(&RefusalsBounded::default(), 2, vec![refused("a", 10), refused("b", 1)]);
        let broken = (420, "c", "refusals-bounded/client");
        breaks(&RefusalsBounded::default(), broken, &["401 11 times", "0:07:00", "99 times"], vec![refused("c", 11)]);
    }

    #[test]
    fn a_burst_after_heal_is_a_breach() {
        let steady = (16..=166).map(|minute| (10_000, in_minute(minute, 600, 40)));
        let before_heal = (10_000, in_minute(15, 9_000, 9_000));
        let steady: Vec<_> = [before_heal].into_iter().chain(steady).collect();
        holds(&PeakToMeanBounded::default(), 1, steady.clone());
        let mut facts = steady;
        facts[3] = (10_000, in_minute(18, 600, 101));
        let broken = (1_080, "all", "peak-to-mean-bounded/fleet");
        breaks(
            &PeakToMeanBounded::default(),
            broken,
            &["101 clients", "0:18:00", "90600", "9060 seconds"],
            facts.clone(),
        );
        holds(&PeakToMeanBounded { small: 101, ..PeakToMeanBounded::default() }, 1, facts.clone());
        holds(&PeakToMeanBounded { times: 11, ..PeakToMeanBounded::default() }, 1, facts);
    }
}
