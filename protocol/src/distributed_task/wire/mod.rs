//! Paths, headers and JSON of the distributed-task protocol, exactly as they are on the wire.
//!
//! Clients match names without regard to case, and so does [`from_slice`]. What a client may leave out has a default.

mod any_case;
mod error;
mod job;
mod location;
mod message;
mod oauth;
mod plan;
pub mod time;
pub mod v2;

pub use any_case::{from_slice, from_value};
pub use error::{Dialect, Exception, ServiceError};
pub use job::{
    Authorization, Endpoint, JobMessage, JobResources, PlanReference, TaskAgentJobRequest, TaskResult,
    TimelineReference, VariableValue, lock_token, token_number,
};
pub use location::{
    ConnectionData, Identity, LOCATIONS, Location, LocationServiceData, ResourceLocation, ResourceLocations,
    ServiceDefinition, fill, locations,
};
pub use message::{
    AgentAuthorization, AgentLabel, AgentPublicKey, AgentRefreshMessage, BrokerMigration, EncryptionKey,
    JobCancelMessage, Property, TaskAgent, TaskAgentMessage, TaskAgentSession, WrappedList, message_type, property,
    status,
};
pub use oauth::{ASSERTION_TYPE, GRANT_TYPE, SKEW_MARKER, TokenError, TokenRequest, TokenResponse, token_error};
pub use plan::{FeedLines, JobEvent, JobMetadata, TaskLog, TaskLogReference, TimelineRecord, event};

/// The header by which a repaired client names one creation, however often it is sent. No real client sends it.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The query member that carries the token of a lease; the real clients send the zero GUID and say it is unused.
pub const LOCK_TOKEN: &str = "lockToken";
