//! The services beside the distributed task.

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Store;
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;

use super::{LATEST_VERSION, Parameters, ProgressiveBackoff};
use crate::azure::wire::{
    CONNECTION_DATA_PATH, CUSTOMER_INTELLIGENCE, CustomerIntelligenceEvent, FEATURE_FLAGS, FeatureFlag, PACKAGES, flag,
};
use crate::distributed_task::server::call::{Call, bare, ok, read, receipted};
use crate::distributed_task::server::failure::Failure;
use crate::distributed_task::server::{Server, answer, discovery};
use crate::facts::Fact;
use crate::http::path_of;

pub(super) fn routes(parameters: &Arc<Parameters>) -> Router<Server> {
    let (tenant, location) = (path_of(&parameters.tasks.addresses.tenant), path_of(&parameters.location));
    let flags = parameters.clone();
    Router::new()
        .route(&format!("{location}/{CONNECTION_DATA_PATH}"), get(connection_data))
        .route(
            &format!("{tenant}/{FEATURE_FLAGS}/{{name}}"),
            get(move |server: Store<Server>, call: Call| feature_flag(server, call, flags)),
        )
        .route(&format!("{tenant}/{CUSTOMER_INTELLIGENCE}"), post(events))
        .route(&format!("{tenant}/{PACKAGES}/{{version}}"), get(package))
}

/// Where a service is. Who knows it need not ask again.
async fn connection_data(Store(server): Store<Server>, call: Call) -> Response {
    let receipt = server
        .attempt_of(&call)
        .map(|(job, attempt)| Fact::LookUpAnswered { job, attempt, what: CONNECTION_DATA_PATH.to_owned() }.into());
    receipted(discovery::connection_data().await, receipt)
}

async fn feature_flag(Store(server): Store<Server>, call: Call, parameters: Arc<Parameters>) -> Response {
    let found = server.authenticate(&call).map(|()| {
        let name = call.parameter("name");
        let on = name == flag::PROGRESSIVE_BACKOFF && parameters.progressive_backoff == ProgressiveBackoff::On;
        ok(&FeatureFlag::new(name, on))
    });
    answer(server.vss(), found)
}

/// Events are read and forgotten.
async fn events(Store(server): Store<Server>, call: Call) -> Response {
    let read = server.authenticate(&call).and_then(|()| read::<Vec<CustomerIntelligenceEvent>>(&call, "events"));
    answer(server.vss(), read.map(|_| bare(StatusCode::NO_CONTENT)))
}

async fn package(Store(server): Store<Server>, call: Call) -> Response {
    let found = server.authenticate(&call).and_then(|()| match call.parameter("version") {
        LATEST_VERSION => {
            Ok(ok(&serde_json::json!({"type": "agent", "platform": "linux-x64", "version": LATEST_VERSION})))
        }
        other => Err(Failure::NoRoute(format!("{PACKAGES}/{other}"))),
    });
    answer(server.vss(), found)
}
