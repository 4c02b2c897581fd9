//! Agents, their sessions and the messages they are sent.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::time;

/// What `status` says in a poll.
pub mod status {
    /// Ready for work.
    pub const ONLINE: &str = "Online";
    /// A job is running.
    pub const BUSY: &str = "Busy";
    /// About to end.
    pub const OFFLINE: &str = "Offline";
}

/// Values of [`TaskAgentMessage::message_type`].
pub mod message_type {
    /// V1: the whole job.
    pub const PIPELINE_AGENT_JOB_REQUEST: &str = "PipelineAgentJobRequest";
    /// V2: where the job can be acquired.
    pub const RUNNER_JOB_REQUEST: &str = "RunnerJobRequest";
    /// Stop a job.
    pub const JOB_CANCELLATION: &str = "JobCancellation";
    /// Something for the running job, forwarded to its worker (Azure).
    pub const JOB_METADATA_UPDATE: &str = "JobMetadataUpdate";
    /// Update yourself (V1).
    pub const AGENT_REFRESH: &str = "AgentRefresh";
    /// Update yourself (V2).
    pub const RUNNER_REFRESH: &str = "RunnerRefresh";
    /// Fetch your settings again.
    pub const RUNNER_REFRESH_CONFIG: &str = "RunnerRefreshConfig";
    /// Drop your access token.
    pub const FORCE_TOKEN_REFRESH: &str = "ForceTokenRefresh";
    /// Poll the broker from now on.
    pub const BROKER_MIGRATION: &str = "BrokerMigration";
}

/// Names of [`TaskAgent::properties`].
pub mod property {
    /// The agent speaks V2.
    pub const USE_V2_FLOW: &str = "UseV2Flow";
    /// The base URL of the broker.
    pub const SERVER_URL_V2: &str = "ServerUrlV2";
    /// Assertions are signed PS256.
    pub const REQUIRE_FIPS_CRYPTOGRAPHY: &str = "RequireFipsCryptography";
}

/// A property with the .NET type of its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Property {
    /// `System.Boolean`, `System.String`, ...
    #[serde(rename = "$type")]
    pub kind: String,
    /// The value.
    #[serde(rename = "$value")]
    pub value: serde_json::Value,
}

impl Property {
    /// A truth value.
    pub fn boolean(value: bool) -> Self {
        Self { kind: "System.Boolean".into(), value: value.into() }
    }

    /// A text.
    pub fn string(value: impl Into<String>) -> Self {
        Self { kind: "System.String".into(), value: value.into().into() }
    }
}

/// The public half of an agent's key; both numbers are big-endian base64.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the two numbers of an RSA key")]
pub struct AgentPublicKey {
    pub exponent: String,
    pub modulus: String,
}

/// How an agent proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentAuthorization {
    /// The token endpoint.
    #[serde(skip_serializing_if = "Option::is_none", alias = "authorizationURL")]
    pub authorization_url: Option<String>,
    /// Its name there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Uuid>,
    /// The key its assertions are checked with, and session keys encrypted under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<AgentPublicKey>,
}

/// A label that jobs can ask for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct AgentLabel {
    pub id: i64,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// An agent, whole or as a reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskAgent {
    /// Its number in the pool's server.
    pub id: i64,
    /// Its name in the pool.
    pub name: String,
    /// The software's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// For humans.
    #[serde(skip_serializing_if = "Option::is_none", rename = "osDescription")]
    pub os_description: Option<String>,
    /// May it be given work?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// "online" or "offline"; clients may send it as a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<serde_json::Value>,
    /// Jobs at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallelism: Option<i64>,
    /// It takes one job and is forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<bool>,
    /// It does not want to be updated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_update: Option<bool>,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<AgentLabel>>,
    /// How it proves who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<AgentAuthorization>,
    /// See [`property`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<BTreeMap<String, Property>>,
    /// What the machine can do (Azure).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_capabilities: Option<BTreeMap<String, String>>,
}

/// The AES key of a session's messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EncryptionKey {
    /// Is `value` encrypted under the agent's public key (RSA-OAEP)?
    pub encrypted: bool,
    /// Base64.
    pub value: String,
}

/// Where to poll from now on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerMigration {
    /// The base URL of the broker.
    pub broker_base_url: String,
}

/// A session, in both directions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskAgentSession {
    /// Given by the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Uuid>,
    /// Who holds it: a machine, and for the GitHub runner its process.
    pub owner_name: String,
    /// The agent.
    pub agent: TaskAgent,
    /// RSA-OAEP with SHA-256 in place of SHA-1.
    pub use_fips_encryption: bool,
    /// The key of the messages, when they are to be encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<EncryptionKey>,
    /// Sends the client to V2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_migration_message: Option<BrokerMigration>,
}

/// A message to an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskAgentMessage {
    /// Grows within an agent's queue.
    pub message_id: i64,
    /// See [`message_type`].
    pub message_type: String,
    /// The initialisation vector of an encrypted body, base64; `None` or empty: the body is plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iv: Option<String>,
    /// The content: JSON, or base64 of encrypted JSON.
    pub body: String,
}

impl TaskAgentMessage {
    /// Sends its receiver to the broker; nobody deletes it.
    pub fn migration(to: &BrokerMigration) -> Self {
        let body = serde_json::to_string(to).expect("wire types are plain JSON");
        Self { message_type: message_type::BROKER_MIGRATION.into(), body, ..Self::default() }
    }
}

/// The body of a [`message_type::JOB_CANCELLATION`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobCancelMessage {
    /// Which job.
    pub job_id: Uuid,
    /// How long it may take to end by itself.
    #[serde(with = "time::span")]
    pub timeout: Duration,
}

/// The body of a [`message_type::AGENT_REFRESH`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentRefreshMessage {
    /// Which agent.
    pub agent_id: i64,
    /// The version that it is to become.
    pub target_version: String,
}

/// A list with its length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrappedList<T> {
    /// How many.
    #[serde(default)]
    pub count: usize,
    /// The items.
    pub value: Vec<T>,
}

impl<T> From<Vec<T>> for WrappedList<T> {
    fn from(value: Vec<T>) -> Self {
        Self { count: value.len(), value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_client_s_session_is_read() {
        let sent = br#"{"EncryptionKey":{"Encrypted":false,"Value":""},"OwnerName":"RUNNER","Agent":{"Authorization":
            {"AuthorizationURL":"http://t/token","ClientID":"6f9619ff-8b86-d011-b42d-00cf4fc964ff","PublicKey":
            {"Exponent":"AQAB","Modulus":"AA=="}},"Labels":[{"ID":0,"Name":"x","Type":"user"}],"MaxParallelism":1,
            "ID":7,"Name":"a","Version":"3","OSDescription":"o","CreatedOn":""},"UseFipsEncryption":false}"#;
        let session: TaskAgentSession = super::super::from_slice(sent).unwrap();
        assert_eq!((session.agent.id, session.agent.name.as_str()), (7, "a"));
        let authorization = session.agent.authorization.unwrap();
        assert_eq!(authorization.authorization_url.as_deref(), Some("http://t/token"));
        assert_eq!(authorization.public_key.unwrap().exponent, "AQAB");
    }

    #[test]
    fn a_cancellation_has_a_dotnet_span() {
        let message = JobCancelMessage { job_id: Uuid::from_u128(1), timeout: Duration::from_secs(300) };
        let json = serde_json::json!({"jobId": "00000000-0000-0000-0000-000000000001", "timeout": "00:05:00"});
        assert_eq!(serde_json::to_value(&message).unwrap(), json);
        assert_eq!(super::super::from_value::<JobCancelMessage>(json).unwrap(), message);
    }

    #[test]
    fn a_plain_message_has_no_iv() {
        let message = TaskAgentMessage { message_id: 1, message_type: "x".into(), iv: None, body: "{}".into() };
        let json = serde_json::json!({"messageId": 1, "messageType": "x", "body": "{}"});
        assert_eq!(serde_json::to_value(message).unwrap(), json);
    }
}
