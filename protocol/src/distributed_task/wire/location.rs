//! How a client that knows one base URL finds the rest: resources have ids, and the server tells their URLs.

use serde::{Deserialize, Serialize};
use uuid::{Uuid, uuid};

/// A resource of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// By this a client asks for it.
    pub id: Uuid,
    /// Fills `{area}`.
    pub area: &'static str,
    /// Fills `{resource}`.
    pub resource: &'static str,
    /// Its path below the base URL. A parameter without a value disappears with its slash.
    pub template: &'static str,
    /// The newest version.
    pub max_version: &'static str,
    /// The newest version that is no preview.
    pub released_version: &'static str,
    /// The revision of the newest version.
    pub resource_version: i32,
}

impl Location {
    /// The path below the base URL, with a leading slash.
    pub fn path(&self, parameters: &[(&str, &str)]) -> String {
        fill(self.template, self.area, self.resource, parameters)
    }
}

/// A template with its parameters filled in, with a leading slash.
///
/// `{area}` and `{resource}` are filled from the arguments of the same name.
pub fn fill(template: &str, area: &str, resource: &str, parameters: &[(&str, &str)]) -> String {
    let segments = template.split('/').filter_map(|segment| {
        let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            return Some(segment);
        };
        match name {
            "area" => Some(area),
            "resource" => Some(resource),
            _ => parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| *value),
        }
    });
    segments.filter(|segment| !segment.is_empty()).fold(String::new(), |path, segment| path + "/" + segment)
}

/// The resources by name. Ids, parameters and versions are those of the clients' source; the templates are the
/// server's own to choose, and these are the usual ones.
pub mod locations {
    use super::*;

    const fn location(
        id: Uuid,
        area: &'static str,
        resource: &'static str,
        template: &'static str,
        (max_version, resource_version): (&'static str, i32),
    ) -> Location {
        Location { id, area, resource, template, max_version, released_version: "1.0", resource_version }
    }

    const TASK: &str = "distributedtask";

    /// Pools of agents.
    pub const POOLS: Location = location(
        uuid!("a8c47e17-4d56-4a56-92bb-de7ea7dc65be"),
        TASK,
        "pools",
        "_apis/{area}/{resource}/{poolId}",
        ("5.1", 1),
    );
    /// Agents of a pool.
    pub const AGENTS: Location = location(
        uuid!("e298ef32-5878-4cab-993c-043836571f42"),
        TASK,
        "agents",
        "_apis/{area}/pools/{poolId}/{resource}/{agentId}",
        ("6.0", 2),
    );
    /// Sessions of agents.
    pub const SESSIONS: Location = location(
        uuid!("134e239e-2df3-4794-a6f6-24f1f19ec8dc"),
        TASK,
        "sessions",
        "_apis/{area}/pools/{poolId}/{resource}/{sessionId}",
        ("5.1", 1),
    );
    /// Messages to agents.
    pub const MESSAGES: Location = location(
        uuid!("c3a054f6-7a8a-49c0-944e-3a8e5d7adfd7"),
        TASK,
        "messages",
        "_apis/{area}/pools/{poolId}/{resource}/{messageId}",
        ("6.0", 1),
    );
    /// The pool's requests for jobs.
    pub const JOB_REQUESTS: Location = location(
        uuid!("fc825784-c92a-4299-9221-998a02d1b54f"),
        TASK,
        "jobrequests",
        "_apis/{area}/pools/{poolId}/{resource}/{requestId}",
        ("5.1", 1),
    );
    /// A job by the id of its message.
    pub const RUN_MESSAGES: Location = location(
        uuid!("25adab70-1379-4186-be8e-b643061ebe3a"),
        "runner",
        "messages",
        "_apis/{area}/{resource}/{messageId}",
        ("6.0", 1),
    );
    /// Events of a plan.
    pub const PLAN_EVENTS: Location = location(
        uuid!("557624af-b29e-4c20-8ab0-0399d2204f3f"),
        TASK,
        "events",
        "{scopeIdentifier}/_apis/{area}/hubs/{hubName}/plans/{planId}/{resource}",
        ("2.0", 1),
    );
    /// Records of a timeline.
    pub const TIMELINE_RECORDS: Location = location(
        uuid!("8893bc5b-35b2-4be7-83cb-99e683551db4"),
        TASK,
        "records",
        "{scopeIdentifier}/_apis/{area}/hubs/{hubName}/plans/{planId}/timelines/{timelineId}/{resource}",
        ("5.1", 1),
    );
    /// The console of a record.
    pub const FEED: Location = location(
        uuid!("858983e4-19bd-4c5e-864c-507b59b58b12"),
        TASK,
        "feed",
        "{scopeIdentifier}/_apis/{area}/hubs/{hubName}/plans/{planId}/timelines/{timelineId}/records/{recordId}/{resource}",
        ("5.1", 1),
    );
    /// Logs of a plan.
    pub const LOGS: Location = location(
        uuid!("46f5667d-263a-4684-91b1-dff7fdcf64e2"),
        TASK,
        "logs",
        "{scopeIdentifier}/_apis/{area}/hubs/{hubName}/plans/{planId}/{resource}/{logId}",
        ("5.1", 1),
    );
    /// The other way to find resources.
    pub const CONNECTION_DATA: Location = location(
        uuid!("00d9565f-ed9c-4a06-9a50-00e7896ccab4"),
        "Location",
        "ConnectionData",
        "_apis/{resource}",
        ("1.0", 1),
    );
}

/// All of [`locations`].
pub const LOCATIONS: [Location; 11] = [
    locations::POOLS,
    locations::AGENTS,
    locations::SESSIONS,
    locations::MESSAGES,
    locations::JOB_REQUESTS,
    locations::RUN_MESSAGES,
    locations::PLAN_EVENTS,
    locations::TIMELINE_RECORDS,
    locations::FEED,
    locations::LOGS,
    locations::CONNECTION_DATA,
];

/// One resource in the answer to OPTIONS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct ResourceLocation {
    pub id: Uuid,
    pub area: String,
    pub resource_name: String,
    pub route_template: String,
    pub resource_version: i32,
    pub min_version: String,
    pub max_version: String,
    pub released_version: String,
}

impl From<&Location> for ResourceLocation {
    fn from(location: &Location) -> Self {
        Self {
            id: location.id,
            area: location.area.into(),
            resource_name: location.resource.into(),
            route_template: location.template.into(),
            resource_version: location.resource_version,
            min_version: "1.0".into(),
            max_version: location.max_version.into(),
            released_version: location.released_version.into(),
        }
    }
}

/// The answer to `OPTIONS {base}/_apis/`.
pub type ResourceLocations = super::message::WrappedList<ResourceLocation>;

/// The answer to `GET {base}/_apis/connectionData`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct ConnectionData {
    pub instance_id: Uuid,
    pub authenticated_user: Identity,
    pub authorized_user: Identity,
    pub location_service_data: LocationServiceData,
}

/// Who is asking.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct Identity {
    pub id: Uuid,
    pub provider_display_name: String,
    pub is_active: bool,
}

/// Where the services are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct LocationServiceData {
    pub service_owner: Uuid,
    pub client_cache_fresh: bool,
    pub last_change_id: i64,
    pub last_change_id64: i64,
    pub service_definitions: Vec<ServiceDefinition>,
}

/// One resource in [`LocationServiceData`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceDefinition {
    /// The area.
    pub service_type: String,
    /// The resource's id.
    pub identifier: Uuid,
    /// The resource's name.
    pub display_name: String,
    /// What the path is relative to: "context" for resources.
    pub relative_to_setting: String,
    /// The template.
    pub relative_path: String,
    /// The revision of the newest version.
    pub resource_version: i32,
    /// The oldest version.
    pub min_version: String,
    /// The newest version.
    pub max_version: String,
    /// Who serves it.
    pub service_owner: Uuid,
}

impl From<&Location> for ServiceDefinition {
    fn from(location: &Location) -> Self {
        Self {
            service_type: location.area.into(),
            identifier: location.id,
            display_name: location.resource.into(),
            relative_to_setting: "context".into(),
            relative_path: format!("/{}", location.template),
            resource_version: location.resource_version,
            min_version: "1.0".into(),
            max_version: location.max_version.into(),
            service_owner: Uuid::nil(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_without_a_value_disappear_with_their_slash() {
        let pool = [("poolId", "3")];
        assert_eq!(locations::SESSIONS.path(&pool), "/_apis/distributedtask/pools/3/sessions");
        assert_eq!(
            locations::MESSAGES.path(&[("poolId", "3"), ("messageId", "9")]),
            "/_apis/distributedtask/pools/3/messages/9"
        );
        assert_eq!(locations::CONNECTION_DATA.path(&[]), "/_apis/ConnectionData");
        assert_eq!(
            locations::PLAN_EVENTS.path(&[("scopeIdentifier", "s"), ("hubName", "h"), ("planId", "p")]),
            "/s/_apis/distributedtask/hubs/h/plans/p/events"
        );
    }

    #[test]
    fn a_definition_has_the_names_that_clients_read() {
        let definition = serde_json::to_value(ServiceDefinition::from(&locations::SESSIONS)).unwrap();
        assert_eq!(definition["identifier"], "134e239e-2df3-4794-a6f6-24f1f19ec8dc");
        assert_eq!(definition["serviceType"], "distributedtask");
        assert_eq!(definition["relativeToSetting"], "context");
        assert_eq!(definition["relativePath"], "/_apis/{area}/pools/{poolId}/{resource}/{sessionId}");
        let resource = serde_json::to_value(ResourceLocation::from(&locations::SESSIONS)).unwrap();
        assert_eq!(resource["resourceName"], "sessions");
        assert_eq!(resource["routeTemplate"], "_apis/{area}/pools/{poolId}/{resource}/{sessionId}");
    }
}
