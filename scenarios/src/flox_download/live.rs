//! The servers on a real port.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Json, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::FutureExt;
use futures_util::future;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use squall_protocol::flox::server::{
    self, Archive, CacheService, CutOff, Parameters, Publisher, Ranges, Validator, incident,
};
use squall_protocol::flox::wire::{AS_JSON, BY_DIGEST, DIGEST_ENDING, ResetCode, TRACK};

use super::{FloxDownload, NAME};
use crate::serve::{Admin, NoSetting, Offer, Serve, Wanted, entropy};

/// How often a piece of an answer goes out on a real port.
const PACE: Duration = Duration::from_millis(10);

/// What can be set, and what it takes.
const SETTINGS: [(&str, &str); 8] = [
    ("size", "a number of bytes from 1 to 1000000000"),
    ("rate", "a number of bytes a second from 100 to 1000000000"),
    ("http2-cut-off-ms", "a number of milliseconds, or never"),
    ("http1-cut-off-ms", "a number of milliseconds, or never"),
    (
        "http2-reset",
        "the name of a code by which streams are reset: NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, \
         SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, \
         ENHANCE_YOUR_CALM, INADEQUATE_SECURITY or HTTP_1_1_REQUIRED",
    ),
    ("ranges", "honoured or ignored"),
    ("validator", "strong, weak or absent"),
    ("status", "a status from 400 to 599, with which every request is answered then"),
];

impl Serve for FloxDownload {
    fn name(&self) -> &'static str {
        NAME
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &SETTINGS
    }

    fn offer(&self, wanted: Wanted) -> Result<Offer, NoSetting> {
        if wanted.jobs > 0 {
            return Err(NoSetting::NoJobs);
        }
        let parameters = self.parameters(&wanted)?;
        let status = wanted.settings.get(self, "status", |value| number(value, 400..=599))?;
        let (origin, rate) = (wanted.origin, parameters.rate_bytes_per_s);
        let admin = Admin::at(&origin, &mut entropy());
        let publisher = Publisher::new(parameters, wanted.clock.clone(), wanted.ledger.clone());
        let archive = Archive::of(publisher.clone(), rate, wanted.clock, wanted.ledger);
        let credentials = credentials(&origin, &publisher);
        let router = match status.and_then(|status| StatusCode::from_u16(status as u16).ok()) {
            Some(status) => Router::new().fallback(move || future::ready(server::page(status))),
            None => server::on_one_host(&publisher, &archive, &CacheService::default()),
        };
        let administered = Administered { publisher, token: admin.token.clone() };
        let administration = Router::new().route("/squall/admin/publish", post(publish)).with_state(administered);
        Ok(Offer {
            router: router.merge(administration),
            background: future::pending().boxed(),
            admin,
            credentials,
            // What clients did with the file is not seen from here.
            invariants: Vec::new(),
        })
    }
}

impl FloxDownload {
    fn parameters(&self, wanted: &Wanted) -> Result<Parameters, NoSetting> {
        let settings = &wanted.settings;
        let usual = Parameters { pace: PACE, ..Parameters::default() };
        let size = settings.get(self, "size", |value| number(value, 1..=1_000_000_000))?;
        let rate = settings.get(self, "rate", |value| number(value, 100..=1_000_000_000))?;
        let http2 = settings.get(self, "http2-cut-off-ms", cut_off)?;
        let http1 = settings.get(self, "http1-cut-off-ms", cut_off)?;
        let reset = settings.get(self, "http2-reset", |value| value.parse::<ResetCode>().ok())?;
        let ranges = settings.get(self, "ranges", |value| match value {
            "honoured" => Some(Ranges::Honoured),
            "ignored" => Some(Ranges::Ignored),
            _ => None,
        })?;
        let validator = settings.get(self, "validator", |value| match value {
            "strong" => Some(Validator::Strong),
            "weak" => Some(Validator::Weak),
            "absent" => Some(Validator::Absent),
            _ => None,
        })?;
        Ok(Parameters {
            size_bytes: size.unwrap_or(incident::SIZE_BYTES),
            rate_bytes_per_s: rate.unwrap_or(incident::RATE_BYTES_PER_S),
            http2_cut_off: http2.unwrap_or(usual.http2_cut_off),
            http1_cut_off: http1.unwrap_or(usual.http1_cut_off),
            http2_reset: reset.unwrap_or_default(),
            ranges: ranges.unwrap_or(usual.ranges),
            validator: validator.unwrap_or(usual.validator),
            ..usual
        })
    }
}

fn number(text: &str, accepted: std::ops::RangeInclusive<u64>) -> Option<u64> {
    text.parse().ok().filter(|number| accepted.contains(number))
}

fn cut_off(text: &str) -> Option<CutOff> {
    match text {
        "never" => Some(CutOff::Never),
        millis => millis.parse().ok().map(|millis| CutOff::After(Duration::from_millis(millis))),
    }
}

/// Where a client finds everything.
fn credentials(origin: &str, publisher: &Publisher) -> serde_json::Value {
    let Parameters { versions, size_bytes, .. } = publisher.parameters();
    let version = versions.last().cloned().unwrap_or_default();
    let digest = publisher.published(&version).pop().map(|digest| digest.to_string());
    let file = format!("{origin}{TRACK}{}", publisher.file_of(&version));
    json!({
        "version": version,
        "size_bytes": size_bytes,
        "sha256": digest,
        "digest_url": format!("{file}{DIGEST_ENDING}"),
        "file_url": file,
        "versions_url": format!("{origin}{TRACK}?{AS_JSON}"),
        "archive_url": digest.map(|digest| format!("{origin}{BY_DIGEST}{digest}")),
        "cache_url": origin,
    })
}

#[derive(Clone)]
struct Administered {
    publisher: Publisher,
    token: String,
}

#[derive(Deserialize)]
struct Publish {
    version: String,
}

/// `POST publish` with `{"version"}`: puts new content up under its name.
async fn publish(State(it): State<Administered>, headers: HeaderMap, body: Bytes) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if bearer != Some(&it.token) {
        return refused(StatusCode::UNAUTHORIZED, "the token of the administration is missing, or another one".into());
    }
    let Publish { version } = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(why) => return refused(StatusCode::BAD_REQUEST, format!("it takes {{\"version\": \"...\"}}: {why}")),
    };
    let known = &it.publisher.parameters().versions;
    if !known.contains(&version) {
        let why = format!("there is no version {version:?}; there are {}", known.join(", "));
        return refused(StatusCode::BAD_REQUEST, why);
    }
    Json(json!({ "sha256": it.publisher.publish(&version).to_string() })).into_response()
}

fn refused(status: StatusCode, message: String) -> Response {
    (status, Json(json!({ "message": message }))).into_response()
}
