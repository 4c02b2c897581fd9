//! A public client reused as it is: the `oauth2` crate logs a device in, by RFC 8628, over the simulated network. It knows
//! nothing of Squall; it is handed a function from request to response and one that sleeps, as it would be anywhere.
//!
//! The device that relies on one flow is caught: when the answer that carries its token is lost, the code is spent and
//! the device stays out. The repaired one begins a new flow.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::extract::State;
use axum::routing::post;
use axum::{Form, Json, Router};
use oauth2::basic::BasicClient;
use oauth2::{
    AuthUrl, ClientId, DeviceAuthorizationUrl, HttpRequest, HttpResponse, StandardDeviceAuthorizationResponse, TokenUrl,
};
use serde_json::{Value, json};
use squall::prelude::*;

/// A user takes this long to enter the code.
const USER: Duration = Duration::from_secs(20);

/// A device logs in again after this long.
const TOKEN_LASTS: Duration = Duration::from_secs(60);

/// The whole adapter: one HTTP request of the public client over the agent's own network.
async fn send(process: Process, request: HttpRequest) -> Result<HttpResponse, TransportError> {
    let answer = process.http().oneshot(request.map(http::full)).await?;
    let (head, body) = answer.into_parts();
    Ok(Response::from_parts(head, http::read(body, 100_000).await?.to_vec()))
}

/// One flow: asks for a code, and polls until the user has entered it.
async fn log_in(process: &Process) -> Result<(), String> {
    let url = |path: &str| format!("http://login/{path}");
    let client = BasicClient::new(ClientId::new(process.node().name().to_owned()))
        .set_auth_uri(AuthUrl::new(url("authorize")).expect("a URL"))
        .set_token_uri(TokenUrl::new(url("token")).expect("a URL"))
        .set_device_authorization_url(DeviceAuthorizationUrl::new(url("device")).expect("a URL"));
    let over_http = |request| send(process.clone(), request);
    let code: StandardDeviceAuthorizationResponse =
        client.exchange_device_code().request_async(&over_http).await.map_err(|error| error.to_string())?;
    let clock = process.clock();
    let sleep = |duration| clock.sleep(duration);
    let token = client.exchange_device_access_token(&code).request_async(&over_http, sleep, None).await;
    token.map(drop).map_err(|error| error.to_string())
}

/// The server: codes by the device that they are for, and when they were given out.
#[derive(Clone)]
struct Login {
    clock: Arc<dyn Clock>,
    codes: Arc<Mutex<BTreeMap<String, Mono>>>,
}

impl Login {
    fn router(self) -> Router {
        Router::new().route("/device", post(device)).route("/token", post(token)).with_state(self)
    }
}

async fn device(State(login): State<Login>, Form(form): Form<BTreeMap<String, String>>) -> Json<Value> {
    let mut codes = login.codes.lock().unwrap_or_else(PoisonError::into_inner);
    let code = format!("{}-{}", form["client_id"], codes.len());
    codes.insert(code.clone(), login.clock.mono());
    let page = "http://login/enter";
    Json(json!({"device_code": code, "user_code": "ABCD", "verification_uri": page, "expires_in": 300, "interval": 5}))
}

async fn token(State(login): State<Login>, Form(form): Form<BTreeMap<String, String>>) -> (StatusCode, Json<Value>) {
    let mut codes = login.codes.lock().unwrap_or_else(PoisonError::into_inner);
    let refused = |error| (StatusCode::BAD_REQUEST, Json(json!({"error": error})));
    match codes.get(&form["device_code"]) {
        None => refused("expired_token"),
        Some(since) if login.clock.mono().since(*since) < USER => refused("authorization_pending"),
        Some(_) => {
            codes.remove(&form["device_code"]);
            (StatusCode::OK, Json(json!({"access_token": "t", "token_type": "bearer"})))
        }
    }
}

/// What the device does when a flow has failed.
#[derive(Clone, Copy, PartialEq)]
enum Failed {
    StaysOut,
    BeginsAnew,
}

async fn device_main(process: Process, failed: Failed) -> i32 {
    loop {
        let logged_in = log_in(&process).await;
        let told = if logged_in.is_ok() { "in" } else { "failed" };
        let (kind, subject) = ("login".to_owned(), process.node().name().to_owned());
        process.ledger().record(Fact::Custom { kind, subject, detail: told.to_owned() });
        match (logged_in, failed) {
            (Ok(()), _) => process.clock().sleep(TOKEN_LASTS).await,
            (Err(_), Failed::BeginsAnew) => process.clock().sleep(Duration::from_secs(30)).await,
            (Err(_), Failed::StaysOut) => return std::future::pending().await,
        }
    }
}

/// An invariant of one's own: after the faults have healed, every device gets in.
fn every_device_gets_in() -> Property {
    let within = Duration::from_secs(1_200);
    Property::eventually("every-device-gets-in", "Every device is logged in.", "device", within, |history, found| {
        let mut out = BTreeMap::new();
        for entry in history.journal {
            let Fact::Custom { kind, subject, detail } = &entry.fact else { continue };
            if kind == "login" {
                out.insert(subject, detail != "in");
            }
        }
        for (device, is_out) in out {
            found.subject();
            if is_out {
                found.breach(device, history.end, format_args!("{device} is still out"));
            }
        }
    })
}

fn checked(failed: Failed) {
    Check::new("devices get in")
        .seeds(60)
        .heal_at(Duration::from_secs(300))
        .lasts(Duration::from_secs(1_800))
        .faults(["drop-reply", "status", "partition", "delay", "kill"])
        .invariant(every_device_gets_in())
        .run(move |world| async move {
            let codes = Arc::<Mutex<BTreeMap<String, Mono>>>::default();
            world.server("login", move |process| Login { clock: process.clock(), codes: codes.clone() }.router());
            for n in 1..=3 {
                world.agent(&format!("device-{n}"), move |process| device_main(process, failed));
            }
        });
}

#[test]
#[should_panic(expected = "every-device-gets-in")]
fn a_device_that_relies_on_one_flow_stays_out() {
    checked(Failed::StaysOut);
}

#[test]
fn a_device_that_begins_anew_gets_in() {
    checked(Failed::BeginsAnew);
}
