//! Patience: how long clients wait for an answer, and before they ask again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::Agent;

use crate::time::SimTime;
use crate::trace::NodeId;

use super::findings::Span;
use super::suspensions::Suspensions;
use super::{Findings, History, Rule};

/// No client waits for long for bytes that do not come, whatever the network does.
///
/// A peer may be gone without a word: only the one who waits can end the wait. The bound is what the server may take to
/// answer, and what the client grants on top. Time in which the client's machine was suspended does not count.
#[derive(Clone, Debug)]
pub struct SilenceBounded {
    /// How long a client may wait for the next bytes of an answer; a minute at the least. Default: 2 minutes.
    pub bound: Duration,
}

impl Default for SilenceBounded {
    fn default() -> Self {
        Self { bound: Duration::from_secs(2 * 60) }
    }
}

impl Rule for SilenceBounded {
    const NAME: &'static str = "silence-bounded";
    const SUMMARY: &'static str = "No client waits longer than a bound for bytes that do not come.";
    const SUBJECT: &'static str = "client";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let suspensions = Suspensions::of(history);
        let clients = clients(history);
        for entry in history.journal {
            let Fact::ClientWaited { client, server, millis } = &entry.fact else { continue };
            let waited = Duration::from_millis(*millis);
            let since = SimTime::ZERO + entry.at.since(SimTime::ZERO).saturating_sub(waited);
            if suspensions.awake(&[entry.node], since, entry.at) > self.bound {
                let message = format_args!(
                    "{client} waited for {server} for {} until {}, and nothing came; {} are the most",
                    Span(waited),
                    entry.at,
                    Span(self.bound)
                );
                found.breach(client, since + self.bound, message);
            }
        }
        found.subjects(clients.len());
    }
}

/// A client that was told to wait (Retry-After) does not make the same call again before.
#[derive(Clone, Debug)]
pub struct RetryAfterMinded {
    /// What a client need not wait for, however long it is told to: a server's word is input, not an order. Default: 15
    /// seconds.
    pub most: Duration,
}

impl Default for RetryAfterMinded {
    fn default() -> Self {
        Self { most: Duration::from_secs(15) }
    }
}

impl Rule for RetryAfterMinded {
    const NAME: &'static str = "retry-after-minded";
    const SUMMARY: &'static str = "No client makes a call again before the time for which it was told to wait.";
    const SUBJECT: &'static str = "client";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        for entry in history.journal {
            let Fact::CallRepeated { client, call, after_ns, told: Some(told), .. } = &entry.fact else { continue };
            found.subject();
            let waited = Duration::from_nanos(*after_ns);
            // The client's own clock may be fast by a tenth.
            let least = Duration::from_secs(*told).min(self.most) * 9 / 10;
            if waited < least {
                let message = format_args!(
                    "{client} made {call} again at {}, {} after it had been told to wait {told} s",
                    entry.at,
                    Span(waited)
                );
                found.breach(client, entry.at, message);
            }
        }
    }
}

/// A client that was told to wait (Retry-After) comes back within a bound, whatever it was told.
///
/// It is back with any request. A process that ended, and time in which its machine was suspended, do not count, nor does
/// what is left running on a machine whose agent is down, which ends some time and has nothing to ask. It is for clients
/// that always have something to ask, such as those that poll.
#[derive(Clone, Debug)]
pub struct RetryAfterBounded {
    /// How long a client may be silent after it was told to wait. Default: 3 minutes.
    pub bound: Duration,
}

impl Default for RetryAfterBounded {
    fn default() -> Self {
        Self { bound: Duration::from_secs(3 * 60) }
    }
}

impl Rule for RetryAfterBounded {
    const NAME: &'static str = "retry-after-bounded";
    const SUMMARY: &'static str = "No client is silent for long because a server told it to wait.";
    const SUBJECT: &'static str = "client";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let suspensions = Suspensions::of(history);
        let mut waiting: BTreeMap<NodeId, (&Agent, u64, SimTime)> = BTreeMap::new();
        // The agents that run on each machine that was ever seen to run one.
        let mut up: BTreeMap<NodeId, BTreeSet<&Agent>> = BTreeMap::new();
        let look = |found: &mut Findings, node, (client, seconds, since): (&Agent, u64, SimTime), until: SimTime| {
            let silent = suspensions.awake(&[node], since, until);
            if silent > self.bound {
                let message = format_args!(
                    "{client} was told to wait {seconds} s at {since}, and sent nothing for {}; {} are the most",
                    Span(silent),
                    Span(self.bound)
                );
                found.breach(client, since + self.bound, message);
            }
        };
        for entry in history.journal {
            match &entry.fact {
                Fact::ClientToldToWait { client, seconds, .. } => {
                    found.subject();
                    if up.get(&entry.node).is_none_or(|agents| !agents.is_empty()) {
                        waiting.insert(entry.node, (client, *seconds, entry.at));
                    }
                }
                Fact::AgentUp { agent } => drop(up.entry(entry.node).or_default().insert(agent)),
                Fact::ClientAskedAgain { .. } | Fact::AgentDown { .. } => {
                    if let Fact::AgentDown { agent, .. } = &entry.fact {
                        up.entry(entry.node).or_default().remove(agent);
                    }
                    let told = waiting.remove(&entry.node);
                    told.into_iter().for_each(|told| look(found, entry.node, told, entry.at));
                }
                _ => {}
            }
        }
        waiting.into_iter().for_each(|(node, told)| look(found, node, told, history.end));
    }
}

/// No two clients wait equally long before they make a failed call again.
///
/// Clients that fail together and wait equally long come back together, and overload whatever has just come back. One
/// equal pair may be chance; a third one is none. Only waits from a second to a minute count, in which the client did nothing
/// else: others are no pauses.
#[derive(Clone, Debug)]
pub struct WaitsDiffer {
    /// Waits that differ by less than this are equal. Default: 10 microseconds.
    pub closeness: Duration,
    /// So many equal waits, of more than one client, are no chance. Default: 3.
    pub equal: usize,
}

impl Default for WaitsDiffer {
    fn default() -> Self {
        Self { closeness: Duration::from_micros(10), equal: 3 }
    }
}

/// The waits that count: after a shorter one whatever failed is made again at once, and a longer one is more than a pause.
const PAUSES: Range<Duration> = Duration::from_secs(1)..Duration::from_secs(60);

impl Rule for WaitsDiffer {
    const NAME: &'static str = "waits-differ";
    const SUMMARY: &'static str = "Clients whose calls fail do not all wait equally long before they make them again.";
    const SUBJECT: &'static str = "fleet";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut waits: Vec<(Duration, SimTime, &Agent, &str)> = Vec::new();
        for entry in history.journal {
            if let Fact::CallRepeated { client, call, after_ns, idle: true, .. } = &entry.fact {
                let wait = Duration::from_nanos(*after_ns);
                if PAUSES.contains(&wait) {
                    waits.push((wait, entry.at, client, call));
                }
            }
        }
        found.subjects(waits.len());
        waits.sort();
        for close in waits.windows(self.equal.max(2)) {
            let (first, last) = (close[0], close[close.len() - 1]);
            let clients: BTreeSet<&Agent> = close.iter().map(|(_, _, client, _)| *client).collect();
            if last.0 - first.0 < self.closeness && clients.len() > 1 {
                let (_, at, client, call) = close.iter().max_by_key(|(_, at, ..)| *at).expect("a window has waits");
                let message = format_args!(
                    "{client} made {call} again at {at} after a wait of {}, as long as {} others of {} clients",
                    Span(first.0),
                    close.len() - 1,
                    clients.len()
                );
                found.breach("all", *at, message);
            }
        }
    }
}

fn clients<'a>(history: &History<'a>) -> BTreeSet<&'a Agent> {
    let client = |fact: &'a Fact| match fact {
        Fact::ClientLoad { client, .. } => Some(client),
        _ => None,
    };
    history.journal.iter().filter_map(|entry| client(&entry.fact)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn load(client: &str) -> Fact {
        Fact::ClientLoad { client: client.into(), requests: 9, busiest_minute: 0, in_busiest_minute: 9 }
    }

    fn waited(client: &str, seconds: u64) -> Fact {
        Fact::ClientWaited { client: client.into(), server: "pool".into(), millis: seconds * 1_000 }
    }

    fn told(seconds: u64) -> Fact {
        Fact::ClientToldToWait { client: "a".into(), server: "pool".into(), seconds }
    }

    fn back() -> Fact {
        Fact::ClientAskedAgain { client: "a".into() }
    }

    fn again_beside_others(client: &str, after_ms: u64) -> Fact {
        let (call, after_ns) = ("GET pool/x".into(), after_ms * 1_000_000);
        Fact::CallRepeated { client: client.into(), call, after_ns, told: None, idle: false }
    }

    fn again(client: &str, after_ms: u64, told: Option<u64>) -> Fact {
        Fact::CallRepeated {
            client: client.into(),
            call: "GET pool/x".into(),
            after_ns: after_ms * 1_000_000,
            told,
            idle: true,
        }
    }

    fn asleep(from: u64, to: u64) -> Vec<(u64, Fact)> {
        let machine = || "a".into();
        vec![(from, Fact::MachineSuspended { machine: machine() }), (to, Fact::MachineResumed { machine: machine() })]
    }

    #[test]
    fn a_client_may_wait_for_a_while_and_in_its_sleep() {
        let loads = vec![(END_S, load("a")), (END_S, load("b"))];
        holds(&SilenceBounded::default(), 2, [vec![(500, waited("a", 120))], loads.clone()].concat());
        holds(&SilenceBounded::default(), 2, [asleep(200, 420), vec![(500, waited("a", 320))], loads].concat());
    }

    #[test]
    fn a_client_that_waits_in_vain_is_a_breach() {
        let broken = (320, "a", "silence-bounded/client");
        let words = &["a waited for pool", "5 min", "0:08:20", "2 min are the most"];
        breaks(&SilenceBounded::default(), broken, words, vec![(500, waited("a", 300)), (END_S, load("a"))]);
    }

    #[test]
    fn who_is_told_to_wait_waits_within_reason() {
        let facts = vec![
            (10, again("a", 1_000, Some(1))),
            (20, again("a", 14_000, Some(30))),
            (30, again("a", 14_000, Some(u64::MAX))),
            (40, again("a", 0, None)),
        ];
        holds(&RetryAfterMinded::default(), 3, facts);
        let broken = (50, "a", "retry-after-minded/client");
        breaks(
            &RetryAfterMinded::default(),
            broken,
            &["GET pool/x", "11 s", "30 s"],
            vec![(50, again("a", 11_000, Some(30)))],
        );
    }

    #[test]
    fn who_is_told_to_wait_comes_back() {
        let facts = vec![(10, told(86_400)), (180, back()), (300, told(3_600)), (301, down("a")), (9_900, told(1))];
        holds(&RetryAfterBounded::default(), 3, facts);
        holds(&RetryAfterBounded::default(), 1, [vec![(10, told(60))], asleep(20, 900), vec![(901, back())]].concat());
    }

    #[test]
    fn what_an_agent_left_running_may_end_without_a_word() {
        let orphaned = vec![(10, up("a")), (20, down("a")), (25, told(3_600)), (900, up("a"))];
        holds(&RetryAfterBounded::default(), 1, orphaned.clone());
        let broken = (1_080, "a", "retry-after-bounded/client");
        let beside = [vec![(5, up("b"))], orphaned.clone()].concat();
        breaks(&RetryAfterBounded::default(), (205, "a", broken.2), &["0:00:25"], beside);
        breaks(&RetryAfterBounded::default(), broken, &["0:15:00"], [orphaned, vec![(900, told(3_600))]].concat());
    }

    #[test]
    fn who_stays_away_because_it_was_told_to_is_a_breach() {
        let broken = (190, "a", "retry-after-bounded/client");
        for rest in [vec![], vec![(3_610, back())]] {
            let facts = [vec![(10, told(3_600))], rest].concat();
            breaks(&RetryAfterBounded::default(), broken, &["3600 s", "0:00:10", "3 min"], facts);
        }
    }

    #[test]
    fn waits_that_differ_or_are_of_one_client_are_fine() {
        let facts = vec![
            (10, again("a", 30_000, None)),
            (20, again("a", 30_000, None)),
            (30, again("a", 30_000, None)),
            (40, again("b", 30_001, None)),
            (50, again("b", 30_002, None)),
            (60, again("a", 500, None)),
            (70, again("b", 500, None)),
            (80, again("c", 500, None)),
            (90, again_beside_others("a", 5_000)),
            (90, again_beside_others("b", 5_000)),
            (90, again_beside_others("c", 5_000)),
            (160, again("a", 90_000, None)),
            (170, again("b", 90_000, None)),
            (180, again("c", 90_000, None)),
        ];
        holds(&WaitsDiffer::default(), 5, facts);
    }

    #[test]
    fn equal_waits_of_several_clients_are_a_breach() {
        let facts =
            vec![(10, again("a", 30_000, None)), (20, again("b", 30_000, None)), (30, again("a", 30_000, None))];
        holds(&WaitsDiffer { equal: 4, ..WaitsDiffer::default() }, 3, facts.clone());
        let broken = (30, "all", "waits-differ/fleet");
        breaks(&WaitsDiffer::default(), broken, &["0:00:30", "30 s", "2 others of 2 clients"], facts);
    }
}
