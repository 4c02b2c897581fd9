//! Counts requests: a few additions for each, and a few facts at the end of the run.

use squall_protocol::Fact;

use crate::time::SimTime;
use crate::trace::NodeId;

/// How many requests each node sent, and all of them together in each minute.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    nodes: Vec<NodeLoad>,
    refused: Vec<NodeLoad>,
    minutes: Vec<MinuteLoad>,
}

#[derive(Clone, Copy, Debug, Default)]
struct NodeLoad {
    requests: u64,
    /// That of the last request, counted from 1.
    second: u64,
    minute: u32,
    in_minute: u32,
    busiest_minute: u32,
    in_busiest_minute: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct MinuteLoad {
    requests: u32,
    second: u64,
    clients_in_second: u32,
    clients_in_busiest_second: u32,
}

impl Meter {
    /// Counts a request of `from`.
    pub(crate) fn seen(&mut self, from: NodeId, now: SimTime) {
        let (second, minute) = (now.as_millis() / 1_000 + 1, minute(now));
        let node = place(&mut self.nodes, from.0 as usize);
        node.seen(minute);
        let first_in_second = std::mem::replace(&mut node.second, second) != second;
        place(&mut self.minutes, minute as usize).seen(second, u32::from(first_in_second));
    }

    /// Counts a request of `from` that was answered 401.
    pub(crate) fn refused(&mut self, from: NodeId, now: SimTime) {
        place(&mut self.refused, from.0 as usize).seen(minute(now));
    }

    /// What was counted: a fact for each node and for each minute that had a request.
    pub(crate) fn facts(&self, names: &[String]) -> Vec<Fact> {
        let clients =
            self.nodes.iter().zip(names).filter(|(load, _)| load.requests > 0).map(|(load, name)| Fact::ClientLoad {
                client: name.into(),
                requests: load.requests,
                busiest_minute: load.busiest_minute,
                in_busiest_minute: load.in_busiest_minute,
            });
        let refused = self.refused.iter().zip(names).filter(|(load, _)| load.requests > 0).map(|(load, name)| {
            Fact::ClientRefused {
                client: name.into(),
                refused: load.requests,
                worst_minute: load.busiest_minute,
                in_worst_minute: load.in_busiest_minute,
            }
        });
        let minutes = self.minutes.iter().zip(0..).filter(|(load, _)| load.requests > 0).map(|(load, minute)| {
            let MinuteLoad { requests, clients_in_busiest_second, .. } = *load;
            Fact::MinuteLoad { minute, requests, clients_in_busiest_second }
        });
        clients.chain(refused).chain(minutes).collect()
    }
}

impl NodeLoad {
    fn seen(&mut self, minute: u32) {
        if self.minute != minute {
            (self.minute, self.in_minute) = (minute, 0);
        }
        self.requests += 1;
        self.in_minute += 1;
        if self.in_minute > self.in_busiest_minute {
            (self.busiest_minute, self.in_busiest_minute) = (minute, self.in_minute);
        }
    }
}

impl MinuteLoad {
    fn seen(&mut self, second: u64, new_clients: u32) {
        if self.second != second {
            (self.second, self.clients_in_second) = (second, 0);
        }
        self.requests += 1;
        self.clients_in_second += new_clients;
        self.clients_in_busiest_second = self.clients_in_busiest_second.max(self.clients_in_second);
    }
}

fn minute(now: SimTime) -> u32 {
    u32::try_from(now.as_millis() / 60_000).unwrap_or(u32::MAX)
}

fn place<T: Clone + Default>(all: &mut Vec<T>, index: usize) -> &mut T {
    if all.len() <= index {
        all.resize(index + 1, T::default());
    }
    &mut all[index]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use squall_protocol::http::empty;
    use squall_protocol::supervise::Always;
    use tower::ServiceExt;

    use super::*;
    use crate::process::Process;
    use crate::trace::Keep;

    #[test]
    fn busiest_minutes_and_seconds_are_kept() {
        let mut meter = Meter::default();
        for (node, millis) in [(1, 0), (1, 500), (2, 999), (1, 61_000), (1, 62_000), (1, 63_000), (2, 63_500)] {
            meter.seen(NodeId(node), SimTime::from_millis(millis));
        }
        meter.refused(NodeId(2), SimTime::from_millis(63_600));
        let names = ["world", "agent-1", "agent-2"].map(String::from);
        let expected = [
            Fact::ClientLoad { client: "agent-1".into(), requests: 5, busiest_minute: 1, in_busiest_minute: 3 },
            Fact::ClientLoad { client: "agent-2".into(), requests: 2, busiest_minute: 0, in_busiest_minute: 1 },
            Fact::ClientRefused { client: "agent-2".into(), refused: 1, worst_minute: 1, in_worst_minute: 1 },
            Fact::MinuteLoad { minute: 0, requests: 3, clients_in_busiest_second: 2 },
            Fact::MinuteLoad { minute: 1, requests: 4, clients_in_busiest_second: 2 },
        ];
        assert_eq!(meter.facts(&names), expected);
    }

    /// Sends so many requests to a host that nobody serves, and waits to be stopped.
    async fn ask(process: Process, requests: usize) -> i32 {
        for _ in 0..requests {
            let request = http::Request::get("http://nobody:80/").body(empty()).expect("a valid request");
            assert!(process.http().oneshot(request).await.is_err());
        }
        process.shutdown().requested().await;
        0
    }

    #[test]
    fn a_world_tells_its_load_and_who_was_asked_to_stop() {
        let ended = crate::run(7, Keep::Digest, SimTime::from_secs(30), |world| {
            let policy = || Always { delay: Duration::from_secs(1) };
            let service = world.node("agent-1").service("listener", "agent-1", policy, |process| ask(process, 3));
            let later = world.clone();
            world.spawn("stop", async move {
                later.sleep(Duration::from_secs(20)).await;
                service.stop(Duration::from_secs(5));
            });
        });
        let of_load = |fact: &Fact| !matches!(fact, Fact::CallRepeated { .. });
        let facts: Vec<_> = ended.journal.into_iter().map(|entry| entry.fact).filter(of_load).collect();
        let agent = || "agent-1".into();
        let expected = [
            Fact::AgentUp { agent: agent() },
            Fact::AgentStopRequested { agent: agent() },
            Fact::AgentDown { agent: agent(), code: Some(0) },
            Fact::ClientLoad { client: agent(), requests: 3, busiest_minute: 0, in_busiest_minute: 3 },
            Fact::MinuteLoad { minute: 0, requests: 3, clients_in_busiest_second: 1 },
        ];
        assert_eq!(facts, expected);
    }
}
