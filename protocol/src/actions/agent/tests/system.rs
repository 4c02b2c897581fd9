//! The runner against the project's own server.

use std::sync::{Arc, Mutex};

use axum::body::Body as AxumBody;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tower::ServiceExt;
use tower::service_fn;
use tower::util::BoxCloneSyncService;

use super::kit::*;
use crate::actions::agent::{Configuration, CredentialData, Credentials, Settings};
use crate::actions::choices::Choices;
use crate::actions::server::{
    Addresses, Encryption, Flow, JobSpec, Lifetime, Parameters, Registered, Registration, Server,
};
use crate::actions::supervisor::exit;
use crate::facts::{Fact, Ledger, Outcome};
use crate::http::{Body, Http, TransportError};
use crate::random::Random;

#[derive(Clone, Default)]
struct Facts(Arc<Mutex<Vec<Fact>>>);

impl Ledger for Facts {
    fn record(&self, fact: Fact) {
        self.0.lock().unwrap().push(fact);
    }
}

fn over(server: &Server) -> Http {
    let router = server.router();
    BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
        let router = router.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = crate::http::read(body, 1 << 20).await?;
            let answer = router.oneshot(Request::from_parts(head, AxumBody::from(body))).await.unwrap();
            let (head, body) = answer.into_parts();
            let body = body.map_err(|error| TransportError::Protocol(error.to_string())).boxed_unsync();
            Ok(Response::from_parts(head, body))
        }
        .boxed()
    }))
}

fn configuration(registered: Registered, flow: Flow) -> Configuration {
    Configuration {
        settings: Settings {
            agent_id: registered.agent_id,
            agent_name: "runner-1".into(),
            pool_id: registered.pool_id,
            pool_name: "Default".into(),
            ephemeral: false,
            disable_update: true,
            server_url: registered.tenant_url,
            git_hub_url: String::new(),
            work_folder: "_work".into(),
            use_v2_flow: flow == Flow::V2,
            server_url_v2: registered.server_url_v2,
            location_url: None,
            skip_session_recover: false,
        },
        credentials: Credentials {
            scheme: "OAuth".into(),
            data: CredentialData {
                client_id: registered.client_id.to_string(),
                authorization_url: registered.authorization_url,
                require_fips_cryptography: if flow == Flow::V2 { "True" } else { "False" }.into(),
            },
        },
        key: key(),
    }
}

/// A server and a runner that belong together.
fn system(choices: Choices, flow: Flow, encryption: Encryption) -> (Bench, Server, Facts) {
    let bench = Bench::new(choices.clone(), |_| None);
    let facts = Facts::default();
    let random = Box::new(ChaCha8Rng::seed_from_u64(11)) as Random;
    let clock = Arc::new(bench.clock.clone());
    let server =
        Server::new(Parameters::new(Addresses::on(BASE)), choices.policy(), clock, Arc::new(facts.clone()), random);
    let registration = Registration {
        name: "runner-1".into(),
        pool: 1,
        flow,
        encryption,
        lifetime: Lifetime::Persistent,
        public_key: key().public(),
    };
    let registered = server.register(registration);
    let housekeeping = server.clone();
    bench.clock.start(async move { match housekeeping.housekeeping().await {} });
    let bench = bench.with_server(over(&server), &configuration(registered, flow));
    (bench, server, facts)
}

fn reports(facts: &Facts) -> Vec<(Outcome, bool)> {
    let facts = facts.0.lock().unwrap();
    let reports = facts.iter().filter_map(|fact| match fact {
        Fact::JobReported { outcome, accepted, .. } => Some((*outcome, *accepted)),
        _ => None,
    });
    reports.collect()
}

#[test]
fn jobs_run_and_are_reported_in_both_flows() {
    for choices in [Choices::upstream(), Choices::hardened()] {
        for flow in [Flow::V1, Flow::V2] {
            for encryption in [Encryption::Plain, Encryption::KeyInClear, Encryption::KeyUnderRsa] {
                let (bench, server, facts) = system(choices.clone(), flow, encryption);
                server.queue_job(JobSpec::named("a"));
                server.queue_job(JobSpec::named("b"));
                assert_eq!(bench.run_until(secs(300), bench.shutdown_at(secs(250))), Some(exit::SUCCESS));
                assert_eq!(reports(&facts), [(Outcome::Succeeded, true); 2], "{flow:?} {encryption:?}");
                let closed = facts.0.lock().unwrap().iter().any(|fact| matches!(fact, Fact::SessionClosed { .. }));
                assert!(closed, "the session is deleted at the end");
            }
        }
    }
}

#[test]
fn a_job_is_cancelled_in_both_flows() {
    for flow in [Flow::V1, Flow::V2] {
        let (bench, server, facts) = system(Choices::hardened(), flow, Encryption::KeyUnderRsa);
        let bench = bench.jobs(Jobs::lasting(secs(3_000)));
        server.queue_job(JobSpec::named("a"));
        let (clock, cancelling) = (bench.clock.clone(), server.clone());
        bench.clock.start(async move {
            crate::clock::Clock::sleep(&clock, secs(100)).await;
            cancelling.cancel_job("a").unwrap();
        });
        assert_eq!(bench.run(secs(200)), None);
        assert_eq!(reports(&facts), [(Outcome::Cancelled, true)]);
        assert_eq!(bench.ran()[0].exit, Some(crate::supervise::Exit::Code(103)));
        assert!((secs(100)..secs(160)).contains(&bench.ran()[0].to.unwrap()));
    }
}

#[test]
fn a_lost_runner_comes_back_within_the_life_of_its_session_and_goes_on() {
    let come_back = |choices: Choices| {
        let (bench, server, _) = system(choices, Flow::V2, Encryption::Plain);
        assert_eq!(bench.run(secs(60)), None);
        let code = bench.run(secs(600));
        bench.go_on(secs(100));
        (code, server.snapshot().agents[0].online)
    };
    assert_eq!(come_back(Choices::upstream()), (Some(exit::SESSION_CONFLICT), false));
    assert_eq!(come_back(Choices::hardened()), (None, true));
}

#[test]
fn an_expired_session_is_replaced() {
    for flow in [Flow::V1, Flow::V2] {
        let (bench, server, facts) = system(Choices::hardened(), flow, Encryption::Plain);
        assert_eq!(bench.run(secs(20)), None);
        bench.go_on(secs(400));
        server.queue_job(JobSpec::named("a"));
        assert_eq!(bench.run(secs(200)), None);
        assert_eq!(reports(&facts), [(Outcome::Succeeded, true)]);
    }
}

/// The same server over a bad network: until `heal_at`, a request in four meets some fault.
fn badly(http: Http, clock: VirtualClock, seed: u64, heal_at: std::time::Duration) -> Http {
    let random = Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed)));
    BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
        let (http, clock, random) = (http.clone(), clock.clone(), random.clone());
        async move {
            let (kind, wait) = {
                let mut random = random.lock().unwrap();
                (random.next_u32() % 32, u64::from(random.next_u32() % 200))
            };
            let kind = if clock.now() < heal_at { kind } else { u32::MAX };
            let status = |status: u16| Ok(Response::builder().status(status).body(crate::http::empty()).unwrap());
            match kind {
                0 => return status(503),
                1 => return status(500),
                2 => return status(401),
                3 => return Err(TransportError::Reset),
                4 => return Err(TransportError::Refused),
                5 => crate::clock::Clock::sleep(&clock, secs(wait)).await,
                _ => {}
            }
            let answer = http.oneshot(request).await;
            match kind {
                6 => status(504),
                7 => Err(TransportError::ClosedEarly),
                8 => {
                    crate::clock::Clock::sleep(&clock, secs(wait)).await;
                    answer
                }
                _ => answer,
            }
        }
        .boxed()
    }))
}

#[test]
fn the_repaired_runner_ends_every_job_once_over_a_bad_network() {
    for (seed, flow) in (0..40).map(|seed| (seed, if seed % 2 == 0 { Flow::V1 } else { Flow::V2 })) {
        let (mut bench, server, facts) = system(Choices::hardened(), flow, Encryption::Plain);
        bench.seed = seed;
        let bench =
            bench.jobs(Jobs::lasting(secs(seed * 7 % 190))).over(|http, clock| badly(http, clock, seed, secs(1_500)));
        for job in 0..6 {
            server.queue_job(JobSpec::named(format!("job-{job}")));
        }
        for restart in [300, 340, 900] {
            assert_eq!(bench.run(secs(restart)), None, "seed {seed}: the repaired runner never ends by itself");
        }
        assert_eq!(bench.run(secs(2_500)), None, "seed {seed}");
        let snapshot = server.snapshot();
        assert!(snapshot.agents[0].online, "seed {seed}");
        let ran = bench.ran();
        assert!(ran.windows(2).all(|pair| pair[0].to.is_some_and(|to| to <= pair[1].from)), "seed {seed}: {ran:?}");
        assert!(snapshot.jobs.iter().all(|job| job.phase == "closed"), "seed {seed}: {:#?}", snapshot.jobs);
        let refused: Vec<_> = reports(&facts).into_iter().filter(|(_, accepted)| !accepted).collect();
        assert!(refused.is_empty(), "seed {seed}: {refused:?}");
    }
}
