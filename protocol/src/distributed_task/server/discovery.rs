//! How clients find the services: both ways, and neither asks who they are.

use axum::Router;
use axum::extract::State as Store;
use axum::response::Response;
use axum::routing::{get, options};
use http::{Method, Uri};
use uuid::{Uuid, uuid};

use super::Server;
use super::call::ok;
use super::failure::Failure;
use crate::distributed_task::wire::{
    ConnectionData, Identity, LOCATIONS, Location, LocationServiceData, ResourceLocation, ResourceLocations,
    ServiceDefinition,
};
use crate::http::path_of;

/// Names the server among its like.
const INSTANCE: Uuid = uuid!("5a0c6e1e-3a4e-4d5b-9b53-6b5a3d1c7f10");

pub(crate) fn routes(server: &Server) -> Router<Server> {
    let tenant = path_of(&server.parameters().addresses.tenant);
    Router::new()
        .route(&format!("{tenant}/_apis"), options(locations))
        .route(&format!("{tenant}/_apis/"), options(locations))
        .route(&format!("{tenant}/_apis/connectionData"), get(connection_data))
        .route(&format!("{tenant}/_apis/ConnectionData"), get(connection_data))
}

async fn locations() -> Response {
    let locations: Vec<ResourceLocation> = LOCATIONS.iter().map(ResourceLocation::from).collect();
    ok(&ResourceLocations::from(locations))
}

pub(crate) async fn connection_data() -> Response {
    let user = Identity { id: Uuid::nil(), provider_display_name: "Anonymous".into(), is_active: true };
    ok(&ConnectionData {
        instance_id: INSTANCE,
        authenticated_user: user.clone(),
        authorized_user: user,
        location_service_data: LocationServiceData {
            service_owner: INSTANCE,
            client_cache_fresh: false,
            last_change_id: 1,
            last_change_id64: 1,
            service_definitions: LOCATIONS.iter().map(ServiceDefinition::from).collect(),
        },
    })
}

pub(crate) async fn no_route(Store(server): Store<Server>, uri: Uri) -> Response {
    Failure::NoRoute(uri.path().into()).answer(server.vss())
}

pub(crate) async fn no_method(Store(server): Store<Server>, method: Method) -> Response {
    Failure::NoMethod(method.to_string()).answer(server.vss())
}

/// The path of one thing of a resource, as the router writes it.
pub(crate) fn item(server: &Server, location: &Location) -> String {
    let tenant = path_of(&server.parameters().addresses.tenant);
    let template = location.template.replace("{area}", location.area).replace("{resource}", location.resource);
    format!("{tenant}/{template}")
}

/// The path of all things of a resource.
pub(crate) fn collection(server: &Server, location: &Location) -> String {
    let item = item(server, location);
    item.rsplit_once('/').map_or_else(|| item.clone(), |(all, _)| all.to_owned())
}
