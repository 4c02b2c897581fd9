//! The GitHub API: registration tokens and admin connections.

use std::time::Duration;

use axum::Router;
use axum::extract::State as Store;
use axum::response::Response;
use axum::routing::post;
use http::StatusCode;
use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use super::Server;
use super::failure::{Failure, Part, answer, json as reply};
use super::state::{State, Subject};
use crate::arc::wire::{API, AdminConnection, AdminRequest, REMOTE_AUTH, RUNNER_REGISTRATION, RegistrationToken};
use crate::call::{BadBody, Call};
use crate::deadlines::after;
use crate::effect::OnEffect;
use crate::facts::Fact;
use crate::http::path_of;

pub(super) fn routes(server: &Server) -> Router<Server> {
    // The API is at the root of the host, wherever the organisation's address is.
    let config = path_of(&server.0.parameters.addresses.config);
    let token = format!("{API}/orgs{config}/actions/runners/registration-token");
    Router::new()
        .route(&token, post(registration_token))
        .route(&format!("{API}{RUNNER_REGISTRATION}"), post(admin_connection))
}

async fn registration_token(Store(server): Store<Server>, call: Call) -> Response {
    let granted = server.with(|state, now| {
        let credential = call.authorization("bearer").ok_or(Failure::BadCredentials)?.to_owned();
        state.check_credential(&credential, now)?;
        let token = state.draw_uuid().simple().to_string().to_uppercase();
        let life = state.parameters.registration_token_life;
        state.tokens.issue(token.clone(), Subject::Registration(credential), life, now);
        Ok(RegistrationToken { token, expires_at: Some(after(now, life)) })
    });
    answer(Part::Api, granted.map(|token| reply(StatusCode::CREATED, &token)))
}

async fn admin_connection(Store(server): Store<Server>, call: Call) -> Response {
    let granted = server.with(|state, now| {
        let token = call.authorization(REMOTE_AUTH).ok_or(Failure::BadCredentials)?;
        let Ok(Subject::Registration(credential)) = state.tokens.subject(token, now).cloned() else {
            return Err(Failure::BadCredentials);
        };
        let asked: AdminRequest = call.json()?;
        if asked.runner_event != "register" {
            return Err(BadBody::WrongShape(format!("unknown runner_event {}", asked.runner_event)).into());
        }
        let url = state.parameters.addresses.service.clone();
        let token = state.admin_token(credential, now);
        Ok(AdminConnection { url: Some(url), token: Some(token) })
    });
    answer(Part::Api, granted.map(|connection| reply(StatusCode::OK, &connection)))
}

impl State {
    fn check_credential(&self, credential: &str, now: Timestamp) -> Result<(), Failure> {
        let owner = self.credentials.get(credential).ok_or(Failure::BadCredentials)?;
        match self.tokens.is_refused(&Subject::Registration(credential.to_owned()), now) {
            true => {
                self.record(Fact::CredentialsRefused { agent: owner.clone() });
                Err(Failure::BadCredentials)
            }
            false => Ok(()),
        }
    }

    /// A JSON web token, which its client reads its end from. The service knows it by its text.
    fn admin_token(&mut self, credential: String, now: Timestamp) -> String {
        let life = self.parameters.admin_token_life;
        let claims = json!({
            "iss": "https://token.actions.githubusercontent.com",
            "aud": self.parameters.addresses.service,
            "jti": self.draw_uuid(),
            "nbf": now.as_second(),
            "exp": now.as_second().saturating_add_unsigned(life.as_secs()),
        });
        // Nobody checks the signature: only the service itself could.
        let key = EncodingKey::from_secret(self.draw_uuid().as_bytes());
        let token = jsonwebtoken::encode(&Header::default(), &claims, &key).expect("any secret signs");
        self.tokens.issue(token.clone(), Subject::Admin(credential), life, now);
        token
    }

    /// For so long the API refuses a credential.
    pub(super) fn refuse(&mut self, credential: &str, lasting: Duration, now: Timestamp, on_effect: OnEffect) {
        self.tokens.refuse(Subject::Registration(credential.to_owned()), now, after(now, lasting), on_effect);
    }

    /// Is the call one of an administrator of scale sets?
    pub(super) fn administrator(&self, call: &Call, now: Timestamp) -> Result<(), Failure> {
        let token = call.authorization("bearer").ok_or(Failure::Unauthorized)?;
        match self.tokens.subject(token, now) {
            Ok(Subject::Admin(_)) => Ok(()),
            _ => Err(Failure::Unauthorized),
        }
    }
}
