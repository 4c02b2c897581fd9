//! The token endpoint: a form with a signed assertion in, an access token or an error out.

use serde::{Deserialize, Serialize};

/// The grant that agents ask for.
pub const GRANT_TYPE: &str = "client_credentials";

/// The kind of assertion that agents send (RFC 7523).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The text by which clients recognise an answer about a wrong clock.
pub const SKEW_MARKER: &str = "Current server time is";

/// Values of `error`.
pub mod token_error {
    /// The assertion is not acceptable; the server says so about wrong clocks, too.
    pub const INVALID_CLIENT: &str = "invalid_client";
    /// Something is missing or malformed.
    pub const INVALID_REQUEST: &str = "invalid_request";
    /// Another grant was asked for.
    pub const UNSUPPORTED_GRANT_TYPE: &str = "unsupported_grant_type";
    /// The registration cannot be found, or not now.
    pub const UNAUTHORIZED_CLIENT: &str = "unauthorized_client";
    /// The server's own fault.
    pub const SERVER_ERROR: &str = "server_error";
}

/// The form.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenRequest {
    /// [`GRANT_TYPE`].
    pub grant_type: String,
    /// [`ASSERTION_TYPE`].
    pub client_assertion_type: String,
    /// The JWT.
    pub client_assertion: String,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenResponse {
    /// To be sent as `Authorization: Bearer`.
    pub access_token: String,
    /// Its life in seconds. Real agents write it down and never look at it.
    #[serde(default)]
    pub expires_in: u64,
    /// "access_token" or "bearer".
    #[serde(default)]
    pub token_type: String,
}

/// A refusal; its status is 400.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenError {
    /// One of [`token_error`], or something else.
    pub error: String,
    /// For humans; but see [`SKEW_MARKER`].
    #[serde(default)]
    pub error_description: String,
}
