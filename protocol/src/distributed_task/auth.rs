//! Access tokens: fetched when there is none, thrown away when the server answers 401, never looked at otherwise.
//!
//! `VssOAuthTokenProvider` and `IssuedTokenProvider` of the VSS client. The life of a token that comes with it is
//! written down and never consulted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use tower::ServiceExt;

use crate::clock;
use crate::http::{self as net, Body};
use crate::jwt::{Algorithm, Signer};
use crate::retry::{self, Attempt, Sent};

use super::client::{self, HttpRetries};
use super::failure::Failure;
use super::http_retry;
use super::line::Line;
use super::wire::{self, ASSERTION_TYPE, GRANT_TYPE, TokenError, TokenRequest, TokenResponse};

/// What the OAuth client gives one fetch of a token, retries and waits included: the default of .NET's `HttpClient`.
pub const TOKEN_TIMEOUT: Duration = Duration::from_secs(100);

/// Life of the assertion that a token is asked for with (`VssOAuthJwtBearerAssertion.cs`).
pub const ASSERTION_LIFE: Duration = Duration::from_secs(300);

/// The largest answer of a token endpoint that is read.
const MAX_TOKEN: usize = 1 << 20;

/// Where a client gets its tokens from.
pub trait Authenticate: Send + Sync {
    /// The token to send; `None` to send the request without one.
    ///
    /// # Errors
    /// The failure that the whole call fails with.
    fn token<'a>(&'a self, line: &'a Line) -> BoxFuture<'a, Result<Option<String>, Failure>>;

    /// The server answered 401 to this token.
    fn refused(&self, token: Option<&str>);
}

/// A token that cannot be had anew: the one in a job's message.
#[derive(Clone, Debug)]
pub struct FixedToken(pub Option<String>);

impl Authenticate for FixedToken {
    fn token<'a>(&'a self, _: &'a Line) -> BoxFuture<'a, Result<Option<String>, Failure>> {
        Box::pin(async { Ok(self.0.clone()) })
    }

    fn refused(&self, _: Option<&str>) {}
}

/// What becomes of a token endpoint's answer that is no OAuth answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenTrouble {
    /// It is swallowed: the request goes out without a token, draws 401 and ends as [`Failure::Unauthorized`]
    /// (`VssOAuthTokenProvider.cs:190-195`).
    SwallowedIntoUnauthorized,
    /// It is reported as what it is, [`Failure::TokenService`].
    Transient,
}

/// An agent's identity at its token endpoint.
#[derive(Clone)]
pub struct Identity {
    /// `clientId`.
    pub client_id: String,
    /// `authorizationUrl`: the token endpoint, and the audience of the assertion.
    pub authorization_url: String,
    /// Signs assertions.
    pub signer: Arc<Signer>,
}

/// Fetches tokens for an identity, on demand.
pub struct TokenProvider {
    identity: Identity,
    trouble: TokenTrouble,
    retries: HttpRetries,
    current: Mutex<Option<String>>,
}

impl TokenProvider {
    /// A provider without a token yet.
    pub fn new(identity: Identity, trouble: TokenTrouble) -> Self {
        Self { identity, trouble, retries: HttpRetries::Vss, current: Mutex::new(None) }
    }

    /// The same provider with another loop of retries than the OAuth client's own.
    pub fn retrying(self, retries: HttpRetries) -> Self {
        Self { retries, ..self }
    }

    /// Throws the token away, so that the next request fetches a new one.
    pub fn forget(&self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Asks the token endpoint whether it still knows the identity (`ValidateCredentialAsync`); an error is what it said.
    ///
    /// # Errors
    /// As a fetch of a token.
    pub async fn validate(&self, line: &Line) -> Result<(), Failure> {
        self.fetch(line).await.map(drop)
    }

    async fn fetch(&self, line: &Line) -> Result<String, Failure> {
        match clock::timeout(&*line.clock, TOKEN_TIMEOUT, self.exchange(line)).await {
            Ok(done) => done,
            Err(clock::Timeout(limit)) => Err(Failure::TimedOut(limit)),
        }
    }

    /// The OAuth client's own loop of retries.
    async fn exchange(&self, line: &Line) -> Result<String, Failure> {
        let mut policy = self.retries.token_policy();
        let ask = || async { line.http.clone().oneshot(self.request(line)).await.map_err(Failure::Transport) };
        let url = &self.identity.authorization_url;
        let tell = |failed: &Attempt<'_>, next| http_retry::tell(&Method::POST, url, failed, next);
        let Sent { last, .. } = retry::send(line, &mut *policy, ask, client::outcome, tell).await;
        read_token(last?).await
    }

    fn request(&self, line: &Line) -> Request<Body> {
        let Identity { client_id, authorization_url, signer } = &self.identity;
        let assertion = line
            .random
            .with(|random| signer.assertion(client_id, authorization_url, line.clock.wall(), ASSERTION_LIFE, random));
        let form = TokenRequest {
            grant_type: GRANT_TYPE.into(),
            client_assertion_type: ASSERTION_TYPE.into(),
            client_assertion: assertion,
        };
        Request::builder()
            .method(Method::POST)
            .uri(authorization_url)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(net::full(serde_urlencoded::to_string(form).expect("a form of texts")))
            .expect("an address from settings")
    }
}

impl Authenticate for TokenProvider {
    fn token<'a>(&'a self, line: &'a Line) -> BoxFuture<'a, Result<Option<String>, Failure>> {
        Box::pin(async move {
            if let Some(token) = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                return Ok(Some(token));
            }
            match self.fetch(line).await {
                Ok(token) => {
                    *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
                    Ok(Some(token))
                }
                Err(Failure::TokenService { status }) if self.trouble == TokenTrouble::SwallowedIntoUnauthorized => {
                    tracing::warn!("Failed to get oauth token: {status}; go on without");
                    Ok(None)
                }
                Err(failure) => {
                    tracing::warn!("{failure}");
                    Err(failure)
                }
            }
        })
    }

    fn refused(&self, token: Option<&str>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_deref() == token {
            *current = None;
        }
    }
}

/// 200, and 400 with JSON, are OAuth answers; anything else is not.
async fn read_token(response: Response<Body>) -> Result<String, Failure> {
    let status = response.status();
    let body = net::read(response.into_body(), MAX_TOKEN).await.map_err(Failure::Transport)?;
    match status {
        StatusCode::OK => match wire::from_slice::<TokenResponse>(&body) {
            Ok(token) => Ok(token.access_token),
            Err(_) => Err(Failure::TokenService { status }),
        },
        StatusCode::BAD_REQUEST => match wire::from_slice::<TokenError>(&body) {
            Ok(TokenError { error, error_description }) => {
                Err(Failure::Token { error, description: error_description })
            }
            Err(_) => Err(Failure::TokenService { status }),
        },
        _ => Err(Failure::TokenService { status }),
    }
}

/// How assertions are signed.
pub fn algorithm(require_fips_cryptography: bool) -> Algorithm {
    if require_fips_cryptography { Algorithm::Ps256 } else { Algorithm::Rs256 }
}
