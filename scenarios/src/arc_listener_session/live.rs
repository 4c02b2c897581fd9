//! The service on a real port.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use futures_util::FutureExt;
use futures_util::stream;
use http::Method;
use serde_json::json;
use squall_protocol::arc::server::{Addresses, Assignment, Parameters, Policy, Server};
use squall_protocol::session::OnConflict;
use squall_sim::invariant::Invariant;
use squall_sim::invariant::jobs::ReportedResultStays;
use squall_sim::invariant::sessions::{NotLockedOut, OneLiveSession};

use super::{ArcListenerSession, NAME, regained};
use crate::serve::{Admin, NoSetting, Offer, Serve, Wanted, entropy};

/// The scale set that is registered from the start.
const SET: &str = "arc-runner-set-1";
/// The personal access token that is known.
const CREDENTIAL: &str = "ghp_squall";

/// What can be set, and what it takes.
const SETTINGS: [(&str, &str); 7] = [
    ("session-life", SECONDS),
    ("admin-token-life", SECONDS),
    ("queue-token-life", SECONDS),
    ("queue-token-lag", "a number of seconds from 0 to 60"),
    ("poll-hold", SECONDS),
    ("assignment", "acquired or automatic"),
    ("lost-session-answers", "how many creations of sessions are carried out and not answered, from 0 to 100"),
];
const SECONDS: &str = "a number of seconds from 1 to 86400";

impl Serve for ArcListenerSession {
    fn name(&self) -> &'static str {
        NAME
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &SETTINGS
    }

    fn offer(&self, wanted: Wanted) -> Result<Offer, NoSetting> {
        let mut random = entropy();
        let admin = Admin::at(&wanted.origin, &mut random);
        let mut parameters = self.parameters(&wanted)?;
        let lost = wanted.settings.get(self, "lost-session-answers", |value| number(value, 0, 100))?;
        parameters.admin_token = Some(admin.token.clone());
        let (config_url, invariants) = (parameters.addresses.config.clone(), invariants(&parameters));
        let policy = Policy { on_conflict: OnConflict::Refuse };
        let server = Server::new(parameters, policy, wanted.clock, wanted.ledger, random);
        server.allow(CREDENTIAL, SET);
        let scale_set_id = server.register(SET);
        for n in 1..=wanted.jobs {
            server.queue_job(&format!("job-{n}"), SET);
        }
        Ok(Offer {
            router: losing(lost.unwrap_or_default(), server.router()),
            background: async move { server.housekeeping().await }.boxed(),
            admin,
            credentials: json!({
                "config_url": config_url,
                "token": CREDENTIAL,
                "scale_set_id": scale_set_id,
                "scale_set_name": SET,
            }),
            invariants,
        })
    }
}

impl ArcListenerSession {
    fn parameters(&self, wanted: &Wanted) -> Result<Parameters, NoSetting> {
        let mut parameters = Parameters::new(Addresses::on(&wanted.origin));
        let seconds = |name, least, most| {
            let read = |value: &str| number(value, least, most).map(Duration::from_secs);
            wanted.settings.get(self, name, read)
        };
        let fields = [
            ("session-life", 1, 86_400, &mut parameters.session_life),
            ("admin-token-life", 1, 86_400, &mut parameters.admin_token_life),
            ("queue-token-life", 1, 86_400, &mut parameters.queue_token_life),
            ("queue-token-lag", 0, 60, &mut parameters.queue_token_lag),
            ("poll-hold", 1, 86_400, &mut parameters.poll_hold),
        ];
        for (name, least, most, field) in fields {
            if let Some(value) = seconds(name, least, most)? {
                *field = value;
            }
        }
        let assignment = wanted.settings.get(self, "assignment", |value| match value {
            "acquired" => Some(Assignment::Acquired),
            "automatic" => Some(Assignment::Automatic),
            _ => None,
        })?;
        parameters.assignment = assignment.unwrap_or(parameters.assignment);
        Ok(parameters)
    }
}

fn number(text: &str, least: u64, most: u64) -> Option<u64> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}

/// The router, which carries out the first creations of sessions and does not answer them.
fn losing(answers: u64, router: axum::Router) -> axum::Router {
    let left = Arc::new(AtomicU64::new(answers));
    router.layer(from_fn(move |request: Request, next: Next| {
        let left = left.clone();
        async move {
            let creates = request.method() == Method::POST && request.uri().path().ends_with("/sessions");
            let answer = next.run(request).await;
            let lose = |left: u64| left.checked_sub(1);
            match creates && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lose).is_ok() {
                true => cut_off(),
                false => answer,
            }
        }
    }))
}

/// An answer that ends its connection before anything of it is sent: its body fails at once.
fn cut_off() -> Response {
    let failure: Result<&'static [u8], io::Error> = Err(io::ErrorKind::ConnectionReset.into());
    Response::new(Body::from_stream(stream::iter([failure])))
}

/// What can be told from what the service saw alone.
fn invariants(service: &Parameters) -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(OneLiveSession::default()),
        Box::new(ReportedResultStays),
        Box::new(NotLockedOut { bound: regained(service) }),
    ]
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn only_so_many_creations_are_not_answered() {
        let created = || async { "created" };
        let router = axum::Router::new().route("/x/sessions", axum::routing::post(created).get(created));
        let router = losing(1, router);
        for (method, answered) in [("GET", true), ("POST", false), ("POST", true)] {
            let request = Request::builder().method(method).uri("/x/sessions").body(Body::empty()).expect("plain");
            let Ok(answer) = router.clone().oneshot(request).await;
            assert_eq!(axum::body::to_bytes(answer.into_body(), 100).await.is_ok(), answered, "{method}");
        }
    }
}
