//! The server: tokens, sessions on a lease, and so much admission and no more.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use squall_protocol::Clock;
use squall_sim::fault::Phase;
use squall_sim::{SimTime, World};

use super::fleet::{FRONTS, Fleet, LOGIN_COST};
use super::record::Recorder;
use super::trial::{SLOW, TOKENS_EXPIRE};

/// One of the server's machines: its queue and the store that all share.
#[derive(Clone)]
pub struct Front {
    shared: Arc<Shared>,
    queue: Arc<Mutex<SimTime>>,
    clock: Arc<dyn Clock>,
}

struct Shared {
    world: World,
    recorder: Recorder,
    lease: Duration,
    queue_max: Duration,
    retry_after_s: Option<u64>,
    /// What a renewal takes on one machine when all is well.
    renewal: Duration,
    /// How much of its work the server does.
    speed_percent: AtomicU32,
    /// Grows when all tokens become invalid.
    token_generation: AtomicU64,
}

/// The server's machines, with these clocks.
pub fn fronts(world: &World, fleet: &Fleet, recorder: &Recorder, clocks: Vec<Arc<dyn Clock>>) -> Vec<Front> {
    let renewal_ns = 1_000_000_000_000 * u64::from(FRONTS) / fleet.capacity_milli_per_s();
    let shared = Arc::new(Shared {
        world: world.clone(),
        recorder: recorder.clone(),
        lease: fleet.lease(),
        queue_max: Duration::from_millis(fleet.queue_ms),
        retry_after_s: fleet.retry_after_s,
        renewal: Duration::from_nanos(renewal_ns),
        speed_percent: AtomicU32::new(100),
        token_generation: AtomicU64::new(0),
    });
    shared.carry_out_faults();
    let front = |clock| Front { shared: shared.clone(), queue: Arc::default(), clock };
    clocks.into_iter().map(front).collect()
}

impl Shared {
    fn carry_out_faults(self: &Arc<Self>) {
        let shared = self.clone();
        self.world.on_system_fault(SLOW, move |fault| {
            let percent = match fault.phase {
                Phase::Begins => u32::try_from(fault.amount).unwrap_or(1).clamp(1, 100),
                Phase::Ends => 100,
            };
            shared.speed_percent.store(percent, Ordering::Relaxed);
            shared.world.effects().count(fault.id);
        });
        let shared = self.clone();
        self.world.on_system_fault(TOKENS_EXPIRE, move |fault| {
            if fault.phase == Phase::Begins {
                shared.token_generation.fetch_add(1, Ordering::Relaxed);
                shared.world.effects().count(fault.id);
            }
        });
    }

    fn token(&self, agent: u32) -> String {
        format!("{agent}.{}", self.token_generation.load(Ordering::Relaxed))
    }
}

impl Front {
    /// Its handler.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/token/{agent}", post(token))
            .route("/session/{agent}", post(open).put(renew))
            .with_state(self.clone())
    }

    /// A machine that starts has nothing queued.
    pub fn restarts(&self) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = SimTime::ZERO;
    }

    /// Waits for its turn.
    ///
    /// # Errors
    /// 503 for who would wait too long.
    async fn admit(&self, renewals: u32) -> Result<(), Response> {
        let shared = &self.shared;
        let work = shared.renewal * renewals * 100 / shared.speed_percent.load(Ordering::Relaxed);
        let turn = {
            let mut free_at = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let now = shared.world.now();
            let wait = free_at.since(now);
            if wait > shared.queue_max {
                None
            } else {
                *free_at = now + wait + work;
                Some(wait + work)
            }
        };
        let Some(turn) = turn else { return Err(self.busy()) };
        self.clock.sleep(turn).await;
        Ok(())
    }

    fn busy(&self) -> Response {
        let mut response = StatusCode::SERVICE_UNAVAILABLE.into_response();
        if let Some(seconds) = self.shared.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }

    fn knows(&self, agent: u32, headers: &HeaderMap) -> bool {
        let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        sent.and_then(|value| value.strip_prefix("Bearer ")) == Some(&self.shared.token(agent))
    }

    fn lease(&self, agent: u32) {
        self.shared.recorder.leased(agent, self.shared.world.now() + self.shared.lease);
    }
}

async fn token(State(front): State<Front>, Path(agent): Path<u32>) -> Result<String, Response> {
    front.admit(1).await?;
    Ok(front.shared.token(agent))
}

async fn open(State(front): State<Front>, Path(agent): Path<u32>, headers: HeaderMap) -> Result<StatusCode, Response> {
    front.admit(LOGIN_COST).await?;
    if !front.knows(agent, &headers) {
        return Ok(StatusCode::UNAUTHORIZED);
    }
    front.lease(agent);
    Ok(StatusCode::CREATED)
}

async fn renew(State(front): State<Front>, Path(agent): Path<u32>, headers: HeaderMap) -> Result<StatusCode, Response> {
    front.admit(1).await?;
    if !front.knows(agent, &headers) {
        return Ok(StatusCode::UNAUTHORIZED);
    }
    if !front.shared.recorder.holds_lease(agent) {
        return Ok(StatusCode::NOT_FOUND);
    }
    front.lease(agent);
    Ok(StatusCode::OK)
}
