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

/// After heal the requests of all clients together do not come in bursts.
///
/// Whole minutes are judged, beginning with the one in which the faults heal.
#[derive(Clone, Debug)]
pub struct PeakToMeanBounded {
    /// How many times the mean rate the busiest second may have. Default: 10.
    pub times: u64,
    /// A second with at most so many requests is no burst. Default: 50.
    pub small: u32,
}

impl Default for PeakToMeanBounded {
    fn default() -> Self {
        Self { times: 10, small: 50 }
    }
}

impl Rule for PeakToMeanBounded {
    const NAME: &'static str = "peak-to-mean-bounded";
    const SUMMARY: &'static str = "After heal no second has many times the requests of the mean second.";
    const SUBJECT: &'static str = "fleet";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let first = whole_minutes(history.heal_at);
        let seconds = (whole_minutes(history.end) + 1).saturating_sub(first) * 60;
        let mut requests = 0_u64;
        let mut peak = (0_u32, 0_u32);
        for entry in history.journal {
            let Fact::MinuteLoad { minute, requests: more, in_busiest_second } = &entry.fact else { continue };
            if u64::from(*minute) >= first {
                requests += u64::from(*more);
                if *in_busiest_second > peak.0 {
                    peak = (*in_busiest_second, *minute);
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
                "{busiest} requests came within one second of the minute from {at}; {requests} came in the {seconds} \
                 seconds after heal, and {} times their mean is the most for a second",
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

    fn in_minute(minute: u32, requests: u32, in_busiest_second: u32) -> Fact {
        Fact::MinuteLoad { minute, requests, in_busiest_second }
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
            &["101 requests", "0:18:00", "90600", "9060 seconds"],
            facts.clone(),
        );
        holds(&PeakToMeanBounded { small: 101, ..PeakToMeanBounded::default() }, 1, facts.clone());
        holds(&PeakToMeanBounded { times: 11, ..PeakToMeanBounded::default() }, 1, facts);
    }
}
