//! Errors of a service: a status and a JSON body that names a .NET exception.

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// Whose names the exceptions have; the two differ in nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// `GitHub.DistributedTask.WebApi`.
    #[default]
    GitHub,
    /// `Microsoft.TeamFoundation.DistributedTask.WebApi`.
    Azure,
}

/// The exceptions that a distributed-task server raises. A client builds its own exception from the type key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the exceptions")]
pub enum Exception {
    TaskAgentSessionConflict,
    TaskAgentSessionExpired,
    TaskAgentNotFound,
    TaskAgentPoolNotFound,
    TaskAgentJobNotFound,
    TaskAgentJobTokenExpired,
    TaskAgentAccessTokenExpired,
    TaskOrchestrationPlanNotFound,
    TaskOrchestrationPlanTerminated,
    TaskOrchestrationPlanSecurity,
    TaskOrchestrationJobNotFound,
    TimelineNotFound,
    TaskOrchestrationPlanLogNotFound,
    AccessDenied,
    ArgumentNull,
    ArgumentOutOfRange,
    Format,
    JsonReader,
    JsonSerialization,
    RequestTooLong,
    NoSuchRoute,
    NoSuchMethod,
    UnauthorizedRequest,
}

/// In which library an exception lives.
enum Home {
    DistributedTask,
    Common,
    System,
    Json,
    Web,
    Framework,
}

impl Exception {
    const ALL: [Exception; 23] = [
        Self::TaskAgentSessionConflict,
        Self::TaskAgentSessionExpired,
        Self::TaskAgentNotFound,
        Self::TaskAgentPoolNotFound,
        Self::TaskAgentJobNotFound,
        Self::TaskAgentJobTokenExpired,
        Self::TaskAgentAccessTokenExpired,
        Self::TaskOrchestrationPlanNotFound,
        Self::TaskOrchestrationPlanTerminated,
        Self::TaskOrchestrationPlanSecurity,
        Self::TaskOrchestrationJobNotFound,
        Self::TimelineNotFound,
        Self::TaskOrchestrationPlanLogNotFound,
        Self::AccessDenied,
        Self::ArgumentNull,
        Self::ArgumentOutOfRange,
        Self::Format,
        Self::JsonReader,
        Self::JsonSerialization,
        Self::RequestTooLong,
        Self::NoSuchRoute,
        Self::NoSuchMethod,
        Self::UnauthorizedRequest,
    ];

    /// The name by which clients know it.
    pub const fn type_key(self) -> &'static str {
        self.row().0
    }

    /// The status it is sent with: the exception map of the server's hub controllers, where it lists the exception.
    pub const fn status(self) -> StatusCode {
        self.row().1
    }

    const fn row(self) -> (&'static str, StatusCode, Home) {
        use Home::{Common, DistributedTask, Framework, Json, System, Web};
        use StatusCode as S;
        match self {
            Self::TaskAgentSessionConflict => ("TaskAgentSessionConflictException", S::CONFLICT, DistributedTask),
            Self::TaskAgentSessionExpired => ("TaskAgentSessionExpiredException", S::BAD_REQUEST, DistributedTask),
            Self::TaskAgentNotFound => ("TaskAgentNotFoundException", S::NOT_FOUND, DistributedTask),
            Self::TaskAgentPoolNotFound => ("TaskAgentPoolNotFoundException", S::NOT_FOUND, DistributedTask),
            Self::TaskAgentJobNotFound => ("TaskAgentJobNotFoundException", S::NOT_FOUND, DistributedTask),
            Self::TaskAgentJobTokenExpired => ("TaskAgentJobTokenExpiredException", S::CONFLICT, DistributedTask),
            Self::TaskAgentAccessTokenExpired => {
                ("TaskAgentAccessTokenExpiredException", S::UNAUTHORIZED, DistributedTask)
            }
            Self::TaskOrchestrationPlanNotFound => {
                ("TaskOrchestrationPlanNotFoundException", S::NOT_FOUND, DistributedTask)
            }
            Self::TaskOrchestrationPlanTerminated => {
                ("TaskOrchestrationPlanTerminatedException", S::BAD_REQUEST, DistributedTask)
            }
            Self::TaskOrchestrationPlanSecurity => {
                ("TaskOrchestrationPlanSecurityException", S::FORBIDDEN, DistributedTask)
            }
            Self::TaskOrchestrationJobNotFound => {
                ("TaskOrchestrationJobNotFoundException", S::NOT_FOUND, DistributedTask)
            }
            Self::TimelineNotFound => ("TimelineNotFoundException", S::NOT_FOUND, DistributedTask),
            Self::TaskOrchestrationPlanLogNotFound => {
                ("TaskOrchestrationPlanLogNotFoundException", S::NOT_FOUND, DistributedTask)
            }
            Self::AccessDenied => ("AccessDeniedException", S::FORBIDDEN, Common),
            Self::ArgumentNull => ("ArgumentNullException", S::BAD_REQUEST, System),
            Self::ArgumentOutOfRange => ("ArgumentOutOfRangeException", S::BAD_REQUEST, System),
            Self::Format => ("FormatException", S::BAD_REQUEST, System),
            Self::JsonReader => ("JsonReaderException", S::BAD_REQUEST, Json),
            Self::JsonSerialization => ("JsonSerializationException", S::BAD_REQUEST, Json),
            Self::RequestTooLong => ("HttpException", S::PAYLOAD_TOO_LARGE, Web),
            Self::NoSuchRoute => ("HttpException", S::NOT_FOUND, Web),
            Self::NoSuchMethod => ("HttpException", S::METHOD_NOT_ALLOWED, Web),
            Self::UnauthorizedRequest => ("UnauthorizedRequestException", S::UNAUTHORIZED, Framework),
        }
    }

    fn type_name(self, dialect: Dialect) -> String {
        let (key, _, home) = self.row();
        let (namespace, assembly) = match (home, dialect) {
            (Home::DistributedTask, Dialect::GitHub) => {
                ("GitHub.DistributedTask.WebApi", "GitHub.DistributedTask.WebApi")
            }
            (Home::DistributedTask, Dialect::Azure) => {
                ("Microsoft.TeamFoundation.DistributedTask.WebApi", "Microsoft.TeamFoundation.DistributedTask.WebApi")
            }
            (Home::Common, Dialect::GitHub) => ("GitHub.Services.Common", "GitHub.Services.Common"),
            (Home::Common, Dialect::Azure) => {
                ("Microsoft.VisualStudio.Services.Common", "Microsoft.VisualStudio.Services.Common")
            }
            (Home::System, _) => ("System", "mscorlib"),
            (Home::Json, _) => ("Newtonsoft.Json", "Newtonsoft.Json"),
            (Home::Framework, _) => {
                ("Microsoft.TeamFoundation.Framework.Server", "Microsoft.TeamFoundation.Framework.Server")
            }
            (Home::Web, _) => ("System.Web", "System.Web"),
        };
        format!("{namespace}.{key}, {assembly}")
    }

    /// Exceptions of the services themselves have this event id, those of the platform have zero.
    const fn event_id(self) -> i32 {
        match self.row().2 {
            Home::DistributedTask | Home::Common | Home::Framework => 3_000,
            Home::System | Home::Json | Home::Web => 0,
        }
    }
}

/// The body of an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceError {
    /// Newtonsoft's mark of the object, always "1".
    #[serde(rename = "$id")]
    pub id: String,
    /// What caused it.
    pub inner_exception: Option<Box<ServiceError>>,
    /// For humans; clients show it.
    pub message: String,
    /// Namespace, class and assembly.
    pub type_name: String,
    /// The class alone; from it a client builds its exception.
    pub type_key: String,
    /// Always zero.
    pub error_code: i32,
    /// 3000 for the service's own exceptions.
    pub event_id: i32,
}

impl ServiceError {
    /// The body of `exception`.
    pub fn new(exception: Exception, dialect: Dialect, message: impl Into<String>) -> Self {
        Self {
            id: "1".into(),
            inner_exception: None,
            message: message.into(),
            type_name: exception.type_name(dialect),
            type_key: exception.type_key().into(),
            error_code: 0,
            event_id: exception.event_id(),
        }
    }

    /// The exception whose type key it carries; `None` for one that is not known here.
    pub fn exception(&self) -> Option<Exception> {
        Exception::ALL.into_iter().find(|exception| exception.type_key() == self.type_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_that_of_the_real_service() {
        let error = ServiceError::new(Exception::TaskAgentSessionConflict, Dialect::GitHub, "taken");
        assert_eq!(
            serde_json::to_value(&error).unwrap(),
            serde_json::json!({
                "$id": "1", "innerException": null, "message": "taken",
                "typeName": "GitHub.DistributedTask.WebApi.TaskAgentSessionConflictException, GitHub.DistributedTask.WebApi",
                "typeKey": "TaskAgentSessionConflictException", "errorCode": 0, "eventId": 3000,
            })
        );
        assert_eq!(error.exception(), Some(Exception::TaskAgentSessionConflict));
        assert_eq!(Exception::TaskAgentSessionConflict.status(), StatusCode::CONFLICT);
    }

    #[test]
    fn every_type_key_is_found_again() {
        for exception in Exception::ALL {
            let error = ServiceError::new(exception, Dialect::Azure, "");
            assert_eq!(error.exception().unwrap().type_key(), exception.type_key());
        }
        assert_eq!(ServiceError::default().exception(), None);
    }
}
