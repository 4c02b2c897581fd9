//! Random walks of two agents: whatever they do and in whatever order, the store keeps its promises.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Queue,
    Cancel(usize),
    Create(usize),
    Delete(usize),
    Poll(usize),
    Acquire(usize),
    Renew(usize),
    Complete(usize, &'static str),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let agent = 0usize..2;
    let result = proptest::sample::select(vec!["succeeded", "failed"]);
    let step = prop_oneof![
        Just(Step::Queue),
        (0usize..4).prop_map(Step::Cancel),
        agent.clone().prop_map(Step::Create),
        agent.clone().prop_map(Step::Delete),
        agent.clone().prop_map(Step::Poll),
        agent.clone().prop_map(Step::Acquire),
        agent.clone().prop_map(Step::Renew),
        (agent, result).prop_map(|(agent, result)| Step::Complete(agent, result)),
        proptest::sample::select(vec![1, 50, 120, 300, 600]).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..40)
}

/// What an agent remembers; it may be long out of date.
#[derive(Default)]
struct Memory {
    session: Uuid,
    reference: Value,
    names: Value,
    token: String,
}

async fn act(bench: &Bench, members: &[Member; 2], memories: &mut [Memory; 2], step: &Step, jobs: &mut usize) {
    match step {
        Step::Queue => {
            *jobs += 1;
            bench.queue(&format!("j{jobs}"));
        }
        Step::Cancel(job) => drop(bench.server.cancel_job(&format!("j{job}"))),
        Step::Wait(seconds) => bench.clock.advance(*seconds),
        Step::Create(agent) => {
            let (member, memory) = (&members[*agent], &mut memories[*agent]);
            let answer = bench.post("/broker/session", &member.token, session_of(member, "host")).await;
            if answer.status == StatusCode::OK {
                memory.session = answer.json()["sessionId"].as_str().unwrap().parse().unwrap();
            }
        }
        Step::Delete(agent) => {
            let path = format!("/broker/session?sessionId={}", memories[*agent].session);
            bench.delete(&path, &members[*agent].token).await;
        }
        Step::Poll(agent) => {
            let (member, memory) = (&members[*agent], &mut memories[*agent]);
            let path = format!("/broker/message?sessionId={}&status=Online", memory.session);
            let (answer, ()) = futures_util::join!(bench.get(&path, &member.token), async { bench.clock.advance(50) });
            if answer.status == StatusCode::OK {
                memory.reference = serde_json::from_str(answer.json()["body"].as_str().unwrap()).unwrap();
            }
        }
        Step::Acquire(agent) => {
            let memory = &mut memories[*agent];
            let answer = bench.acquire(&members[*agent], &memory.reference).await;
            if answer.status == StatusCode::OK {
                let job = answer.json();
                let parameters = &job["resources"]["endpoints"][0]["authorization"]["parameters"];
                memory.token = parameters["AccessToken"].as_str().unwrap().into();
                memory.names = json!({
                    "planId": job["plan"]["planId"], "jobId": job["jobId"], "lockToken": job["lockToken"],
                });
            }
        }
        Step::Renew(agent) => {
            let memory = &memories[*agent];
            bench.post("/run/renewjob", &memory.token, memory.names.clone()).await;
        }
        Step::Complete(agent, result) => {
            let memory = &memories[*agent];
            let mut body = memory.names.clone();
            if body.is_object() {
                body["conclusion"] = (*result).into();
            }
            bench.post("/run/completejob", &memory.token, body).await;
        }
    }
}

/// Reads the journal and checks what holds for every server.
fn judge(facts: &[Fact], fenced: bool) -> Result<(), TestCaseError> {
    let (mut sessions, mut leases, mut attempts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let (mut closed, mut results) = (BTreeSet::new(), BTreeMap::new());
    for fact in facts {
        match fact {
            Fact::SessionOpened { agent, session } => {
                prop_assert_eq!(sessions.insert(agent.clone(), session.clone()), None, "two live sessions");
            }
            Fact::SessionClosed { agent, session, .. } => {
                prop_assert_eq!(sessions.remove(agent), Some(session.clone()));
            }
            Fact::SessionRefreshed { session } => {
                prop_assert!(sessions.values().any(|live| live == session), "a dead session was refreshed");
            }
            Fact::JobOffered { job, attempt, agent } => {
                prop_assert!(sessions.contains_key(agent), "an agent without a session was offered a job");
                prop_assert!(!closed.contains(job) && !leases.contains_key(job));
                let before = attempts.insert(job.clone(), *attempt).unwrap_or(0);
                prop_assert_eq!(before + 1, *attempt, "attempts count one by one");
            }
            Fact::LeaseGranted { job, attempt, .. } => {
                prop_assert_eq!(attempts.get(job), Some(attempt));
                prop_assert_eq!(leases.insert(job.clone(), *attempt), None, "two leases");
            }
            Fact::LeaseRenewed { job, attempt, .. } => prop_assert_eq!(leases.get(job), Some(attempt)),
            Fact::LeaseReleased { job, .. } | Fact::LeaseExpired { job, .. } => {
                prop_assert!(leases.remove(job).is_some(), "a lease ended that nobody had");
            }
            Fact::JobGivenUp { job, .. } => prop_assert!(closed.insert(job.clone()), "given up twice"),
            Fact::JobReported { job, outcome, accepted: true, attempt } => {
                closed.insert(job.clone());
                if fenced {
                    prop_assert_eq!(attempts.get(job), Some(attempt), "an earlier attempt was accepted");
                    prop_assert_eq!(results.entry(job.clone()).or_insert(*outcome), outcome, "a result changed");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn walk(policy: Policy, expiry: OnLeaseExpiry, steps: &[Step]) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (facts, phases) = runtime.block_on(async {
        let bench = Bench::new(policy, |parameters| {
            parameters.on_lease_expiry = expiry;
            parameters.token_life = Duration::from_secs(1_000_000);
        });
        let flow = (Flow::V2, Encryption::Plain);
        let members = [bench.member("a", flow.0, flow.1).await, bench.member("b", flow.0, flow.1).await];
        let (mut memories, mut jobs) = ([Memory::default(), Memory::default()], 0);
        for step in steps {
            act(&bench, &members, &mut memories, step, &mut jobs).await;
        }
        // Left alone, everything that can end ends.
        bench.clock.advance(10_000);
        let phases: Vec<&str> = bench.server.snapshot().jobs.iter().map(|job| job.phase).collect();
        (bench.facts.0.lock().unwrap().clone(), phases)
    });
    prop_assert!(phases.iter().all(|phase| matches!(*phase, "queued" | "closed")), "{phases:?}");
    judge(&facts, policy.fencing == crate::lease::Fencing::Checked)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_store_keeps_its_promises(hardened in any::<bool>(), requeue in any::<bool>(), steps in steps()) {
        let policy = if hardened { Policy::hardened() } else { Policy::upstream() };
        walk(policy, if requeue { OnLeaseExpiry::Requeue } else { OnLeaseExpiry::FailJob }, &steps)?;
    }
}

#[test]
fn the_judge_sees_a_second_session() {
    let opened = |session: &str| Fact::SessionOpened { session: session.into(), agent: "a".into() };
    assert!(judge(&[opened("1")], true).is_ok());
    assert!(judge(&[opened("1"), opened("2")], true).is_err());
}
