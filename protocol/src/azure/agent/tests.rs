//! The agent against a scripted server, in virtual time.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{self, Either};
use http::{Request, Response};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tower::service_fn;
use tower::util::BoxCloneSyncService;
use uuid::Uuid;

use super::*;
use crate::actions::agent::tests::kit::{Files, VirtualClock, key, secs};
use crate::choices::Design;
use crate::clock::Clock;
use crate::distributed_task::agent::{CredentialData, Credentials};
use crate::http::{self as net, Body, Http, TransportError};
use crate::workers::{Worker, WorkerError, Workers};

/// What the server says to a request, which is named by its method and path.
type Script = Arc<Mutex<dyn FnMut(&str) -> Option<Reply> + Send>>;

/// An answer: its status, its kind and its body; or none.
#[derive(Clone, Debug)]
enum Reply {
    Is(u16, &'static str, Vec<u8>),
    Reset,
}

const JSON: &str = "application/json; charset=utf-8";

fn is(status: u16, body: Value) -> Reply {
    Reply::Is(status, JSON, body.to_string().into_bytes())
}

struct NoWorkers;

impl Workers for NoWorkers {
    fn start(&self) -> future::BoxFuture<'static, Result<Box<dyn Worker>, WorkerError>> {
        async { Err(WorkerError::NotStarted) }.boxed()
    }
}

/// A machine with an agent, and what its server was asked.
struct Bench {
    clock: VirtualClock,
    asked: Arc<Mutex<Vec<(Duration, String)>>>,
    script: Script,
    /// How long an answer takes.
    takes: Duration,
}

impl Bench {
    fn new(script: impl FnMut(&str) -> Option<Reply> + Send + 'static) -> Self {
        Self {
            clock: VirtualClock::default(),
            asked: Arc::default(),
            script: Arc::new(Mutex::new(script)),
            takes: Duration::from_millis(100),
        }
    }

    /// The listener's exit code, or nothing when it still runs after `time`.
    fn run(&self, choices: Choices, time: Duration) -> Option<i32> {
        let disk = Files::default();
        configuration().store(&disk, AGENT_FILE).unwrap();
        let machine = Machine {
            clock: Arc::new(self.clock.clone()),
            http: self.http(),
            random: Box::new(ChaCha8Rng::seed_from_u64(1)),
            workers: Arc::new(NoWorkers),
            disk: Arc::new(disk),
        };
        let main = run(machine, choices, Shutdown::never());
        self.clock.run(async {
            match future::select(pin!(main), self.clock.sleep(time)).await {
                Either::Left((code, _)) => Some(code),
                Either::Right(_) => None,
            }
        })
    }

    fn http(&self) -> Http {
        let (clock, asked, script) = (self.clock.clone(), self.asked.clone(), self.script.clone());
        let takes = self.takes;
        BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
            let what = format!("{} {}", request.method(), request.uri().path());
            asked.lock().unwrap().push((clock.now(), what.clone()));
            let reply = (script.lock().unwrap())(&what).unwrap_or_else(|| usual(&what));
            let empty = what.ends_with("/messages") && matches!(reply, Reply::Is(202, ..));
            let held = clock.sleep(if empty { secs(50) } else { takes });
            async move {
                held.await;
                match reply {
                    Reply::Is(status, kind, body) => Ok(Response::builder()
                        .status(status)
                        .header("content-type", kind)
                        .body(net::full(body))
                        .unwrap()),
                    Reply::Reset => Err(TransportError::Reset),
                }
            }
            .boxed()
        }))
    }

    fn times(&self, what: &str) -> Vec<Duration> {
        self.asked.lock().unwrap().iter().filter(|(_, asked)| asked.contains(what)).map(|(at, _)| *at).collect()
    }
}

fn usual(what: &str) -> Reply {
    let json = match what {
        token if token.ends_with("/token") => json!({"access_token": "t", "expires_in": 3000, "token_type": "bearer"}),
        sessions if sessions.starts_with("POST") && sessions.ends_with("/sessions") => {
            json!({"sessionId": Uuid::from_u128(77)})
        }
        flags if flags.contains("/FeatureFlags/") => json!({"name": "", "effectiveState": "Off"}),
        messages if messages.ends_with("/messages") => return Reply::Is(202, JSON, Vec::new()),
        _ => json!({}),
    };
    is(200, json)
}

fn configuration() -> Configuration {
    let settings = json!({
        "agentId": 7, "agentName": "agent-7", "poolId": 1, "serverUrl": "http://server", "locationUrl": "http://sps",
    });
    let data = CredentialData {
        client_id: Uuid::from_u128(5).to_string(),
        authorization_url: "http://server/token".into(),
        require_fips_cryptography: String::new(),
    };
    Configuration {
        settings: serde_json::from_value(settings).unwrap(),
        credentials: Credentials { scheme: "OAuth".into(), data },
        key: key(),
    }
}

fn put_back(field: &str) -> Choices {
    Choices::named(&format!("azure.{field}")).unwrap()
}

fn exception(status: u16, key: &str) -> Reply {
    is(status, json!({"$id": "1", "message": key, "typeKey": key}))
}

fn conflicts(what: &str) -> Option<Reply> {
    (what.starts_with("POST") && what.ends_with("/sessions"))
        .then(|| exception(409, "TaskAgentSessionConflictException"))
}

#[test]
fn the_eighth_conflict_is_the_end_of_the_real_agent_only() {
    let bench = Bench::new(conflicts);
    assert_eq!(bench.run(Choices::upstream(), secs(3_600)), Some(exit::TERMINATED_ERROR));
    let creations = bench.times("/sessions");
    assert_eq!(creations.len(), 8);
    // The flag for progressive back-off is not known before the first session: 30 s each.
    assert!(creations.windows(2).all(|pair| (secs(30)..secs(31)).contains(&(pair[1] - pair[0]))), "{creations:?}");
    assert_eq!(Bench::new(conflicts).run(Choices::hardened(), secs(3_600)), None);
}

#[test]
fn refused_tokens_are_asked_for_for_ever() {
    let refuse = |what: &str| {
        what.ends_with("/token").then(|| is(400, json!({"error": "invalid_client", "error_description": ""})))
    };
    for choices in [Choices::upstream(), Choices::hardened()] {
        assert_eq!(Bench::new(refuse).run(choices, secs(6 * 3_600)), None);
    }
}

#[test]
fn empty_polls_are_followed_by_the_chain_of_net_s_generator() {
    let bench = Bench::new(|_| None);
    assert_eq!(bench.run(put_back("empty-poll"), secs(300)), None);
    let polls = bench.times("/messages");
    let gaps: Vec<u128> = polls.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(gaps[..4], [62_262, 62_054, 55_409, 60_247]);
    let steady = Bench::new(|_| None);
    steady.run(Choices::hardened(), secs(300));
    assert!(steady.times("/messages").windows(2).all(|pair| pair[1] - pair[0] == secs(50)));
}

#[test]
fn the_second_poller_comes_every_eighty_seconds() {
    let bench = Bench::new(|_| None);
    bench.run(put_back("keep-alive"), secs(1_000));
    let polls = bench.times("/messages").len();
    let without = Bench::new(|_| None);
    without.run(Choices::hardened(), secs(1_000));
    assert_eq!(polls - without.times("/messages").len(), 13);
}

#[test]
fn progressive_waits_grow_while_polls_fail() {
    let bench = Bench::new(|what| match what {
        flags if flags.contains("/FeatureFlags/") => Some(is(200, json!({"name": "", "effectiveState": "On"}))),
        polls if polls.ends_with("/messages") => Some(exception(404, "")),
        _ => None,
    });
    bench.run(put_back("poll-backoff"), secs(700));
    let polls = bench.times("/messages");
    let gaps: Vec<u64> = polls.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    for (gap, wait) in gaps.iter().zip([3, 6, 12, 24, 48, 96, 192]) {
        assert!((wait..wait + 50).contains(gap), "{gaps:?}");
    }
}

#[test]
fn a_message_that_comes_after_a_failed_update_is_not_thrown_away() {
    let job = |number: u128| {
        let body = json!({"jobId": Uuid::from_u128(number), "requestId": number as i64, "plan": {"version": 12}});
        is(200, json!({"messageId": number as i64, "messageType": "PipelineAgentJobRequest", "body": body.to_string()}))
    };
    let update = is(
        200,
        json!({"messageId": 1, "messageType": "AgentRefresh", "body": json!({"agentId": 7, "targetVersion": "0"}).to_string()}),
    );
    let mut polls = 0;
    let bench = Bench::new(move |what| match what {
        package if package.contains("/packages/") => Some(is(404, json!({}))),
        polled if polled.starts_with("GET") && polled.ends_with("/messages") => {
            polls += 1;
            match polls {
                1 => Some(update.clone()),
                2 => Some(job(2)),
                _ => None,
            }
        }
        _ => None,
    });
    bench.run(Choices::hardened(), secs(100));
    assert!(!bench.times("PATCH /_apis/distributedtask/pools/1/jobrequests/2").is_empty());
}

#[test]
fn a_message_that_comes_twice_before_its_job_is_known_to_be_anothers_is_left_for_the_next_attempt() {
    let body = json!({"jobId": Uuid::from_u128(5), "requestId": 5, "plan": {"version": 12}});
    let job = is(200, json!({"messageId": 5, "messageType": "PipelineAgentJobRequest", "body": body.to_string()}));
    let (mut polls, mut renewals) = (0, 0);
    let bench = Bench::new(move |what| match what {
        polled if polled.starts_with("GET") && polled.ends_with("/messages") => {
            polls += 1;
            (polls <= 2).then(|| job.clone())
        }
        renewed if renewed.starts_with("PATCH") && renewed.contains("/jobrequests/") => {
            renewals += 1;
            let trouble = exception(503, "");
            Some(if renewals == 1 { trouble } else { exception(409, "TaskAgentJobTokenExpiredException") })
        }
        _ => None,
    });
    bench.run(Choices::hardened(), secs(100));
    assert_eq!(bench.times("PATCH").len(), 2, "one fails, and one tells");
    assert!(bench.times("DELETE").is_empty(), "its number may bring the next attempt");
}

#[test]
fn failed_look_ups_of_flags_do_not_keep_the_repaired_agent_from_its_work() {
    let dead = |what: &str| what.contains("connectionData").then_some(Reply::Reset);
    for choices in [Choices::hardened(), Choices::upstream()] {
        let bench = Bench::new(dead);
        assert_eq!(bench.run(choices, secs(200)), None);
        assert!(bench.times("/messages").len() > 1);
    }
}

/// Answers of every shape, one for each request.
fn answers() -> impl Strategy<Value = Vec<Reply>> {
    let body = prop_oneof![
        Just(b"null".to_vec()),
        Just(b"{".to_vec()),
        Just(b"[]".to_vec()),
        Just(br#"{"sessionId":7,"messageId":"x","typeKey":3,"access_token":[],"effectiveState":1}"#.to_vec()),
        Just(br#"{"sessionId":null,"messageType":"PipelineAgentJobRequest","body":"{"}"#.to_vec()),
        Just(br#"{"messageId":1,"messageType":"AgentRefresh","body":"{\"targetVersion\":\"9\"}"}"#.to_vec()),
        Just(br#"{"messageId":2,"messageType":"PipelineAgentJobRequest","body":"{}"}"#.to_vec()),
        Just(br#"{"access_token":"t","expires_in":1,"token_type":"bearer"}"#.to_vec()),
        Just(br#"{"sessionId":"00000000-0000-0000-0000-000000000001"}"#.to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    let status = prop_oneof![3 => Just(200u16), 1 => Just(202u16), 1 => Just(400u16), 1 => Just(404u16), 1 => Just(409u16), 1 => Just(503u16)];
    let kind = prop_oneof![4 => Just(JSON), 1 => Just("text/html")];
    let reply = prop_oneof![
        8 => (status, kind, body).prop_map(|(status, kind, body)| Reply::Is(status, kind, body)),
        1 => Just(Reply::Reset),
    ];
    proptest::collection::vec(reply, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever a server says, the agent neither panics nor hammers it.
    #[test]
    fn garbage_is_an_error_like_any_other(answers in answers(), upstream: bool) {
        let mut next = 0;
        let mut bench = Bench::new(move |_| {
            next += 1;
            Some(answers[next % answers.len()].clone())
        });
        bench.takes = secs(1);
        let choices = if upstream { Choices::upstream() } else { Choices::hardened() };
        bench.run(choices, secs(3_600));
        let mut by_minute: BTreeMap<u64, usize> = BTreeMap::new();
        for (at, _) in &*bench.asked.lock().unwrap() {
            *by_minute.entry(at.as_secs() / 60).or_default() += 1;
        }
        let most = by_minute.values().max().copied().unwrap_or_default();
        prop_assert!(most <= 1_000, "{most} requests in one minute");
    }
}
