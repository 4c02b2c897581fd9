//! Calls to the service: retries, and the admin connection that most of them need (SS `client.go`, `common_client.go`).

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Response, StatusCode};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tower::ServiceExt;

use super::Configuration;
use super::failure::{Failure, Trouble};
use crate::arc::choices::{AdminToken, BodyErrors, Choices, HttpRetries, PollTimeout};
use crate::arc::wire::{
    API, API_VERSION, AdminConnection, AdminRequest, Exception, Listed, REMOTE_AUTH, RUNNER_REGISTRATION,
    RegistrationToken, SCALE_SETS, ScaleSet, exception, registration_token_path,
};
use crate::clock::{self, Mono};
use crate::distributed_task::client::{Call, Reply};
use crate::distributed_task::http_retry::{FullJitter, RETRIES};
use crate::http::{self as transport, Body};
use crate::jwt;
use crate::line::Line;
use crate::retry::heed::{Combine, RetryAfter};
use crate::retry::retryable_http::Jitter;
use crate::retry::wait::{Exponential, Wait};
use crate::retry::{self, Attempt, Decision, Outcome, Policy, RetryPolicy, RetryableHttp, Span, mutants, retry_after};

/// What one attempt of a call may take, its body included (SS `common_client.go`).
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// What the repaired listener grants a call: as long as the service holds polls, and some more.
pub const HARDENED_CALL_TIMEOUT: Duration = Duration::from_secs(50 + 25);
/// How long before its end an admin token is renewed, by the local clock (SS `client.go:977`).
pub const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// The largest answer that is read.
const MAX_BODY: usize = 16 << 20;

/// The address of everything, and the token for it.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    url: String,
    token: String,
    until: Timestamp,
}

impl Admin {
    /// A call to a path under the service's address.
    pub(super) fn call(&self, method: Method, path: &str) -> Call {
        let call = Call::new(method, format!("{}/{path}?{API_VERSION}", self.url.trim_end_matches('/')), CALL_TIMEOUT);
        call.header("authorization", format!("Bearer {}", self.token))
    }
}

/// Which of the two policies a call has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Retries {
    Usual,
    /// A refusal is retried, too.
    Registration,
}

/// The client of the service.
pub(super) struct Api {
    pub(super) line: Line,
    pub(super) configuration: Configuration,
    pub(super) choices: Choices,
    admin: Mutex<Option<Admin>>,
    under_way: Mutex<Option<UnderWay>>,
}

/// An attempt that has no answer yet.
struct UnderWay {
    method: Method,
    url: String,
    attempts: u32,
}

/// An answer whose body may not have been read yet.
struct Answered {
    response: Response<Body>,
    sent: Mono,
}

impl Api {
    pub(super) fn new(mut line: Line, configuration: Configuration, choices: Choices) -> Self {
        let spread = match choices.http_retries {
            HttpRetries::FullJitter => Some(retry::SPREAD),
            HttpRetries::ToldAlike => Some(Duration::ZERO),
            _ => None,
        };
        if let Some(spread) = spread {
            line.http = retry::minding(line.http, line.clock.clone(), line.random.clone(), FullJitter::CAP, spread);
        }
        Self { line, configuration, choices, admin: Mutex::new(None), under_way: Mutex::new(None) }
    }

    /// Sends a call until it is answered or the retry handler gives up. An answer may have any status that the handler
    /// does not retry.
    pub(super) async fn send(&self, call: &Call, retries: Retries) -> Result<Reply, Failure> {
        let mut policy = self.policy(retries);
        let mut attempts = 0;
        let attempt = || {
            attempts += 1;
            self.set_under_way(Some(UnderWay { method: call.method.clone(), url: call.url.clone(), attempts }));
            async {
                let answered = self.attempt(call).await;
                self.set_under_way(None);
                answered
            }
        };
        let tell = |failed: &Attempt<'_>, next| tell(call, failed, next);
        let sent = retry::send(&self.line, &mut *policy, attempt, outcome, tell).await;
        let gave_up = |cause| Failure::GaveUp {
            method: call.method.clone(),
            url: call.url.clone(),
            attempts: sent.attempts,
            cause,
        };
        let answered = sent.last.map_err(gave_up)?;
        let (head, body) = answered.response.into_parts();
        if head.status == StatusCode::TOO_MANY_REQUESTS || is_trouble(head.status) {
            return Err(gave_up(Trouble::Status(head.status)));
        }
        let spent = self.line.mono().since(answered.sent);
        let limit = self.limit();
        let left = limit.saturating_sub(spent);
        let read = clock::timeout(&*self.line.clock, left, transport::read(body, MAX_BODY)).await;
        let body = match read {
            Ok(read) => read.map_err(|error| Failure::Body(error.into()))?,
            Err(_) => return Err(Failure::Body(Trouble::TimedOut(limit))),
        };
        Ok(Reply { status: head.status, headers: head.headers, body, sent: sent.at, attempts: sent.attempts })
    }

    fn set_under_way(&self, attempt: Option<UnderWay>) {
        *self.under_way.lock().unwrap_or_else(PoisonError::into_inner) = attempt;
    }

    /// What the end of the process makes of the call that it finds under way.
    pub(super) fn cancelled(&self) -> Failure {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(UnderWay { method, url, attempts }) = under_way else { return Failure::Cancelled };
        let cause = Trouble::Cancelled;
        tell_failed(&method, &url, &cause);
        Failure::GaveUp { method, url, attempts, cause }
    }

    async fn attempt(&self, call: &Call) -> Result<Answered, Trouble> {
        let sent = self.line.mono();
        let work = async {
            let response = self.line.http.clone().oneshot(call.request(None)?).await?;
            match self.choices.body_errors {
                BodyErrors::Fatal => Ok(response),
                BodyErrors::Retried => {
                    let (head, body) = response.into_parts();
                    let body = transport::read(body, MAX_BODY).await?;
                    Ok(Response::from_parts(head, transport::full(body)))
                }
            }
        };
        match clock::timeout(&*self.line.clock, self.limit(), work).await {
            Ok(response) => response.map(|response| Answered { response, sent }),
            Err(clock::Timeout(limit)) => Err(Trouble::TimedOut(limit)),
        }
    }

    /// What one attempt of a call may take.
    fn limit(&self) -> Duration {
        match self.choices.poll_timeout {
            PollTimeout::AsEveryCall => CALL_TIMEOUT,
            PollTimeout::AsServiceHolds => HARDENED_CALL_TIMEOUT,
        }
    }

    fn policy(&self, retries: Retries) -> Box<dyn RetryPolicy> {
        let real = match retries {
            Retries::Usual => RetryableHttp::scaleset(),
            Retries::Registration => RetryableHttp::registration(),
        };
        match self.choices.http_retries {
            HttpRetries::GoRetryable => Box::new(real),
            HttpRetries::NanosecondJitter => Box::new(real.with_jitter(Jitter::Nanoseconds)),
            HttpRetries::FullJitter => Box::new(FullJitter::ordinary()),
            HttpRetries::ClonedGenerator => mutants::policy("mutant-cloned-generator").start(),
            HttpRetries::ToldAlike => told_alike().start(),
        }
    }

    /// A call with the admin token, whose answer has the status that is expected.
    pub(super) async fn admin_call(
        &self,
        expected: StatusCode,
        build: impl Fn(&Admin) -> Call,
    ) -> Result<Reply, Failure> {
        let answered = self.send(&build(&self.admin().await?), Retries::Usual).await?;
        if answered.status == StatusCode::UNAUTHORIZED && self.choices.admin_token == AdminToken::AlsoWhenRefused {
            self.forget_admin();
            let again = self.send(&build(&self.admin().await?), Retries::Usual).await?;
            return expect(again, expected);
        }
        expect(answered, expected)
    }

    /// The admin connection, a new one if the local clock says that the old one is about to end (`updateTokenIfNeeded`).
    pub(super) async fn admin(&self) -> Result<Admin, Failure> {
        let known = self.lock().clone();
        if let Some(admin) = known.filter(|admin| self.line.clock.wall() + RENEW_BEFORE <= admin.until) {
            return Ok(admin);
        }
        tracing::info!("refreshing token githubConfigUrl={}", self.configuration.config_url);
        let granted = self.registration_token().await?;
        let connection = self.admin_connection(&granted).await?;
        let (Some(url), Some(token)) = (connection.url, connection.token) else {
            return Err(Failure::Unreadable("actions service admin connection missing url or token".into()));
        };
        let until = jwt::expiry(&token).map_err(|error| Failure::Unreadable(error.to_string()))?;
        let admin = Admin { url, token, until };
        *self.lock() = Some(admin.clone());
        Ok(admin)
    }

    async fn registration_token(&self) -> Result<RegistrationToken, Failure> {
        let (origin, organization) = self.configuration.place();
        let url = format!("{origin}{API}{}", registration_token_path(organization));
        let bearer = format!("Bearer {}", self.configuration.credential);
        let call = Call::new(Method::POST, url, CALL_TIMEOUT).header("authorization", bearer);
        let answered = self.send(&call, Retries::Usual).await?;
        if answered.status == StatusCode::UNAUTHORIZED {
            return Err(Failure::Credentials(String::from_utf8_lossy(&answered.body).into_owned()));
        }
        decode(&expect(answered, StatusCode::CREATED)?)
    }

    async fn admin_connection(&self, granted: &RegistrationToken) -> Result<AdminConnection, Failure> {
        let url = format!("{}{API}{RUNNER_REGISTRATION}", self.configuration.place().0);
        let asked = AdminRequest { url: self.configuration.config_url.clone(), runner_event: "register".to_owned() };
        let call = Call::new(Method::POST, url, CALL_TIMEOUT)
            .json(&asked)
            .header("authorization", format!("{REMOTE_AUTH} {}", granted.token));
        decode(&expect(self.send(&call, Retries::Registration).await?, StatusCode::OK)?)
    }

    /// The number of the scale set of the configured name, which is registered if there is none.
    pub(super) async fn register_set(&self) -> Result<i64, Failure> {
        let name = &self.configuration.scale_set;
        if let Some(known) = self.known_set(name).await? {
            return Ok(known);
        }
        let asked = ScaleSet { name: name.clone(), runner_group_id: 1, ..ScaleSet::default() };
        match self.admin_call(StatusCode::OK, |admin| admin.call(Method::POST, SCALE_SETS).json(&asked)).await {
            Ok(made) => decode::<ScaleSet>(&made).map(|set| set.id),
            // The answer to an earlier attempt was lost.
            Err(exists) if exists.is(exception::SCALE_SET_EXISTS) => self.known_set(name).await?.ok_or(exists),
            Err(failure) => Err(failure),
        }
    }

    async fn known_set(&self, name: &str) -> Result<Option<i64>, Failure> {
        let found = self
            .admin_call(StatusCode::OK, |admin| {
                let mut call = admin.call(Method::GET, SCALE_SETS);
                call.url.push_str(&format!("&runnerGroupId=1&name={name}"));
                call
            })
            .await?;
        let known: Listed<ScaleSet> = decode(&found)?;
        Ok(known.value.into_iter().find(|set| set.name == name).map(|set| set.id))
    }

    fn forget_admin(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Admin>> {
        self.admin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer of this status, or the error that it tells of.
pub(super) fn expect(answered: Reply, expected: StatusCode) -> Result<Reply, Failure> {
    if answered.status == expected {
        return Ok(answered);
    }
    // Not the service's own word: a page of whatever is in between.
    if answered.status.is_success() {
        return Err(Failure::Unreadable(format!("unexpected status code {}", answered.status)));
    }
    let told: Exception = serde_json::from_slice(&answered.body).unwrap_or_default();
    Err(Failure::Refused { status: answered.status, exception: told.type_name, message: told.message })
}

/// The body of an answer. A byte order mark at its beginning is passed over (`trimByteOrderMark`).
pub(super) fn decode<T: DeserializeOwned>(answered: &Reply) -> Result<T, Failure> {
    let body = answered.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answered.body);
    serde_json::from_slice(body).map_err(|error| Failure::Unreadable(error.to_string()))
}

/// What the retry handler looks at.
fn outcome<'a>(attempt: &'a Result<Answered, Trouble>, now: Timestamp) -> Option<Outcome<'a>> {
    match attempt {
        Ok(Answered { response, .. }) if response.status().is_success() => None,
        Ok(Answered { response, .. }) => {
            let status = response.status();
            Some(Outcome::Status { status, retry_after: retry_after(response.headers(), now) })
        }
        Err(Trouble::Transport(error)) => Some(Outcome::Transport(error)),
        Err(Trouble::TimedOut(_)) => Some(Outcome::TimedOut),
        // What cannot be sent cannot be sent again either (`baseRetryPolicy` of go-retryablehttp).
        Err(Trouble::Status(_) | Trouble::Unsendable(_) | Trouble::Cancelled) => None,
    }
}

/// As [`FullJitter`], but for nothing that is drawn once the server has said how long.
fn told_alike() -> Policy {
    let wait = Exponential::doubling(Span::secs(5), Span(FullJitter::CAP)).jittered(retry::wait::Jitter::Full);
    Policy {
        retries: Some(RETRIES),
        retry_after: RetryAfter { combine: Combine::Instead, cap: Some(Span(FullJitter::CAP)), spread: Span::ZERO },
        ..Policy::of(Wait::Exponential(wait))
    }
}

/// Logs a failed attempt as the real client does.
fn tell(call: &Call, failed: &Attempt<'_>, next: Decision) {
    let Call { method, url, .. } = call;
    let answered = match &failed.outcome {
        Outcome::Status { status, .. } => format!(" (status: {})", status.as_u16()),
        why @ (Outcome::Transport(_) | Outcome::TimedOut) => {
            tell_failed(method, url, why);
            String::new()
        }
    };
    if let Decision::Retry(wait) = next {
        tracing::info!("retrying request {method} {url}{answered} timeout={}s", wait.as_secs_f32());
    }
}

/// Logs an attempt that got no answer. Up to 0.13.1 the line was labelled a `Retryable client error`, whatever came of it.
fn tell_failed(method: &Method, url: &str, why: &impl fmt::Display) {
    tracing::error!("Retryable client error: request failed error=\"{why}\" method={method} url={url}");
}

fn is_trouble(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}
