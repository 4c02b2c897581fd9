//! The token endpoint, and who may call.

use axum::Router;
use axum::extract::State as Store;
use axum::response::Response;
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::StatusCode;
use jiff::Timestamp;
use jiff::tz::Offset;
use rand::RngCore;

use super::Server;
use super::call::{Call, form, json, ok};
use super::failure::Failure;
use super::parameters::Denial;
use super::state::{AgentId, State, Subject};
use crate::distributed_task::wire::{
    ASSERTION_TYPE, GRANT_TYPE, SKEW_MARKER, TokenError, TokenRequest, TokenResponse, token_error,
};
use crate::effect::OnEffect;
use crate::http::path_of;
use crate::jwt::{self, Refused};

/// What the service says of a registration that is gone, and of one that it cannot find for a while
/// (actions/runner#3501, #3526). The type stays empty.
const NOT_FOUND: &str = "Registration was not found or is not medium trust. ClientType: ";

pub(super) fn routes(server: &Server) -> Router<Server> {
    let path = path_of(&server.parameters().addresses.authorization);
    Router::new().route(if path.is_empty() { "/" } else { &path }, post(token))
}

async fn token(Store(server): Store<Server>, call: Call) -> Response {
    let asked = match form::<TokenRequest>(&call) {
        Ok(asked) => asked,
        Err(failure) => {
            let status =
                if failure == Failure::TooLarge { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
            return json(status, &refusal(token_error::INVALID_REQUEST, failure.to_string()));
        }
    };
    match server.with(|state, now| state.grant(&asked, now)) {
        Ok(granted) => ok(&granted),
        Err(refused) => json(StatusCode::BAD_REQUEST, &refused),
    }
}

fn refusal(code: &str, description: impl Into<String>) -> TokenError {
    TokenError { error: code.into(), error_description: description.into() }
}

impl State {
    fn grant(&mut self, asked: &TokenRequest, now: Timestamp) -> Result<TokenResponse, TokenError> {
        if asked.grant_type != GRANT_TYPE {
            return Err(refusal(token_error::UNSUPPORTED_GRANT_TYPE, "The grant type is not supported."));
        }
        let agent = self.identify(&asked.client_assertion, now)?;
        if asked.client_assertion_type != ASSERTION_TYPE {
            return Err(refusal(token_error::INVALID_REQUEST, "The client assertion type is not supported."));
        }
        let life = self.parameters.token_life;
        let token = self.draw_token();
        self.tokens.issue(token.clone(), Subject::Agent(agent), life, now);
        Ok(TokenResponse { access_token: token, expires_in: life.as_secs(), token_type: "bearer".into() })
    }

    /// The agent that signed an assertion.
    fn identify(&self, assertion: &str, now: Timestamp) -> Result<AgentId, TokenError> {
        let invalid = |refused: Refused| refusal(token_error::INVALID_CLIENT, describe(&refused, now));
        let claims = jwt::peek(assertion).map_err(invalid)?;
        let unknown = || refusal(token_error::INVALID_CLIENT, NOT_FOUND);
        let id = claims.sub.parse().ok().and_then(|client| self.by_client.get(&client)).copied().ok_or_else(unknown)?;
        let agent = self.agents.get(&id).ok_or_else(unknown)?;
        let (audience, skew) = (&self.parameters.addresses.authorization, self.parameters.assertion_skew);
        jwt::check(assertion, &agent.public_key, audience, now, skew).map_err(invalid)?;
        if self.tokens.is_refused(&Subject::Agent(id), now) {
            return Err(refusal(self.parameters.refusal.code(), NOT_FOUND));
        }
        Ok(id)
    }

    pub(super) fn draw_token(&mut self) -> String {
        let mut bytes = [0; 32];
        self.random.fill_bytes(&mut bytes);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Whom a call speaks for.
    pub(super) fn caller(&self, call: &Call, now: Timestamp) -> Result<Subject, Failure> {
        let token = call.authorization("bearer").ok_or(Failure::Unauthorized)?;
        self.tokens.subject(token, now).cloned().map_err(|_| Failure::Unauthorized)
    }

    /// The agent that a call to the pool or its broker speaks for, unless they deny it.
    pub(super) fn calling_agent(&self, call: &Call, now: Timestamp) -> Result<AgentId, Failure> {
        let id = self.token_agent(call, now)?;
        if self.denies(id, Denial::AccessDenied, now) {
            return Err(Failure::AccessDenied("Its permissions could not be evaluated."));
        }
        if self.denies(id, Denial::AgentUnknown, now) { Err(Failure::AgentNotFound) } else { Ok(id) }
    }

    /// The agent that a call's token speaks for. The run service asks for no more: its 404 is that of a job, and no kind
    /// of error of its own says that an agent is not known (`RunServiceHttpClient`).
    pub(super) fn token_agent(&self, call: &Call, now: Timestamp) -> Result<AgentId, Failure> {
        match self.caller(call, now)? {
            Subject::Agent(id) if !self.agents.contains_key(&id) => Err(Failure::AgentNotFound),
            Subject::Agent(id) => Ok(id),
            Subject::Attempt(..) => Err(Failure::AccessDenied("The token is that of a job.")),
        }
    }
}

/// Until when an agent is denied, and who hears of each time.
pub(super) struct Denied {
    pub until: Timestamp,
    pub on_effect: OnEffect,
}

impl State {
    fn denies(&self, agent: AgentId, denial: Denial, now: Timestamp) -> bool {
        let denials = self.denials.get(&(agent, denial)).into_iter().flatten();
        let mut denials = denials.filter(|denied| now < denied.until);
        denials.next().inspect(|denied| denied.on_effect.tell()).is_some()
    }
}

/// The wording of the real service, by which clients know a wrong clock.
fn describe(refused: &Refused, now: Timestamp) -> String {
    match refused {
        Refused::NotYet { not_before } => {
            format!("The token is not valid until {}. {SKEW_MARKER} {}.", american(*not_before), american(now))
        }
        Refused::Expired { expired } => {
            format!("The token expired at {}. {SKEW_MARKER} {}.", american(*expired), american(now))
        }
        other => format!("The client assertion is not valid: {other}."),
    }
}

fn american(instant: Timestamp) -> String {
    let civil = Offset::UTC.to_datetime(instant);
    let (month, day, year) = (civil.month(), civil.day(), civil.year());
    format!("{month:02}/{day:02}/{year} {:02}:{:02}:{:02}", civil.hour(), civil.minute(), civil.second())
}
