//! The lighter transport: a request is a call of the server's handler, after the latency of a link.
//!
//! The handler stands behind the same gateway as on the network, so what gateways do to exchanges happens here as well.
//! What is left out is bytes: connections, segments and their loss. A machine whose service is down refuses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use http::{Request, Response};
use http_body_util::BodyExt;
use squall_protocol::{Body, Clock, Http, Random, TransportError, random};
use squall_sim::Service;
use squall_sim::gateway::{ConnectionControl, GatewayLayer};
use squall_sim::net::LinkProfile;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

/// The way from one agent to its server.
struct Link {
    server: Service,
    handler: GatewayAndRouter,
    caller: ConnectionControl,
    clock: Arc<dyn Clock>,
    random: Mutex<Random>,
    profile: LinkProfile,
}

type GatewayAndRouter = squall_sim::gateway::Gateway<Router>;

/// A client of one server, for the agent of this name.
pub fn http(
    agent: &str,
    server: &Service,
    gateway: &GatewayLayer,
    router: Router,
    clock: Arc<dyn Clock>,
    draws: Random,
) -> Http {
    let link = Arc::new(Link {
        server: server.clone(),
        handler: gateway.layer(router),
        caller: ConnectionControl::new(agent),
        clock,
        random: Mutex::new(draws),
        profile: LinkProfile::default(),
    });
    BoxCloneSyncService::new(service_fn(move |request| {
        let link = link.clone();
        async move { link.exchange(request).await }
    }))
}

impl Link {
    async fn exchange(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        self.clock.sleep(self.latency()).await;
        if !self.server.is_running() {
            self.clock.sleep(self.latency()).await;
            return Err(TransportError::Refused);
        }
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(self.caller.clone());
        let answer = self.handler.clone().oneshot(request).await;
        let survived = self.server.is_running();
        self.clock.sleep(self.latency()).await;
        match answer {
            Ok(response) if survived => Ok(response.map(plain)),
            Ok(_) => Err(TransportError::Reset),
            Err(_) => Err(TransportError::ClosedEarly),
        }
    }

    fn latency(&self) -> Duration {
        let mut draws = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        random::uniform(&mut **draws, self.profile.latency.clone())
    }
}

/// A body of the server as a body of the client.
fn plain(body: axum::body::Body) -> Body {
    body.map_err(|_| TransportError::ClosedEarly).boxed_unsync()
}
