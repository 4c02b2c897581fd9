//! The agent: it gets a token, opens a session, works on its lease and renews it, and retries with the policy.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{self, Either};
use http::header::AUTHORIZATION;
use http::{Method, Request, StatusCode};
use squall_protocol::clock::{self, Mono};
use squall_protocol::http as wire;
use squall_protocol::retry::{Caller, GaveUp, OnLease, Tried, retry_after};
use squall_protocol::{Clock, Http, Random};
use squall_sim::World;

use super::fleet::Fleet;
use super::record::Recorder;

/// The largest answer that is read.
const MAX_BODY: usize = 1 << 10;

/// One agent of a fleet.
pub struct Agent {
    /// Its number.
    pub number: u32,
    /// The server's address.
    pub url: String,
    /// Its machine's clock.
    pub clock: Arc<dyn Clock>,
    /// Its way to the server.
    pub http: Http,
    /// What it draws from.
    pub random: Random,
    /// The fleet it belongs to.
    pub fleet: Arc<Fleet>,
    /// Where it is written down what it does.
    pub recorder: Recorder,
    /// Tells true time to the record; the agent itself never asks.
    pub world: World,
    /// Its policy.
    pub caller: Caller,
    /// When it renews for the first time, if that is not a pause after its login.
    pub first_renewal: Option<Mono>,
}

/// What a call came to that the server answered.
enum Answer {
    /// As it should, with this text.
    Served(String),
    /// The token is not accepted.
    Unauthorized,
    /// There is no such session.
    Gone,
}

impl Agent {
    /// Runs for ever.
    pub async fn run(mut self) {
        let mut token = None;
        loop {
            let Some(bearer) = &token else {
                match self.call(Method::POST, "token", None).await {
                    Ok(Answer::Served(text)) => token = Some(text),
                    _ => self.pause().await,
                }
                continue;
            };
            let (bearer, asked) = (bearer.clone(), self.clock.mono());
            match self.call(Method::POST, "session", Some(&bearer)).await {
                Ok(Answer::Served(_)) => {
                    self.recorder.works(self.number);
                    let lease_ends = asked + self.fleet.lease();
                    self.hold(&mut token, lease_ends).await;
                    self.recorder.stops(self.number);
                }
                Ok(Answer::Unauthorized) => token = None,
                Ok(Answer::Gone) | Err(_) => self.pause().await,
            }
        }
    }

    /// Renews the lease until the session is gone.
    async fn hold(&mut self, token: &mut Option<String>, mut lease_ends: Mono) {
        loop {
            if token.is_some() {
                match self.first_renewal.take() {
                    Some(at) => self.clock.sleep(at.since(self.clock.mono())).await,
                    None => self.pause().await,
                }
            }
            let asked = self.clock.mono();
            match self.renewal(token, lease_ends).await {
                Ok(Answer::Served(text)) => {
                    if token.is_none() {
                        *token = Some(text);
                        continue;
                    }
                    lease_ends = asked + self.fleet.lease();
                    self.recorder.works(self.number);
                }
                Ok(Answer::Unauthorized) => *token = None,
                Ok(Answer::Gone) => return,
                Err(_) if token.is_none() => self.pause().await,
                Err(_) => {}
            }
        }
    }

    /// Renews the lease, or gets a new token first. Work stops when the lease ends, if the policy minds that.
    async fn renewal(&mut self, token: &Option<String>, lease_ends: Mono) -> Result<Answer, GaveUp> {
        let (stops, recorder, number) = (self.fleet.policy.on_lease, self.recorder.clone(), self.number);
        let left = lease_ends.since(self.clock.mono());
        let clock = self.clock.clone();
        let call = async {
            match token {
                Some(bearer) => self.call(Method::PUT, "session", Some(bearer)).await,
                None => self.call(Method::POST, "token", None).await,
            }
        };
        match stops {
            OnLease::SleepsThrough => call.await,
            OnLease::Stops => match future::select(pin!(call), clock.sleep(left)).await {
                Either::Left((done, _)) => done,
                Either::Right(((), call)) => {
                    recorder.stops(number);
                    call.await
                }
            },
        }
    }

    async fn pause(&self) {
        self.clock.sleep(self.fleet.poll()).await;
    }

    async fn call(&mut self, method: Method, path: &str, bearer: Option<&str>) -> Result<Answer, GaveUp> {
        let url = format!("{}/{path}/{}", self.url, self.number);
        let bearer = bearer.map(|token| format!("Bearer {token}"));
        let Self { clock, http, random, fleet, recorder, caller, world, number, .. } = self;
        let began = world.now();
        let attempt = |_| {
            recorder.sent(began, fleet.deadline());
            attempt(clock.clone(), http.clone(), request(&method, &url, bearer.as_deref()), fleet.timeout())
        };
        let ended = caller.call(&**clock, random, attempt).await;
        recorder.refused(*number, caller.policy().refused());
        let ended = ended.map(|ended| ended.value);
        if let Ok(Answer::Served(_)) = ended {
            recorder.answered(*number);
        }
        ended
    }
}

fn request(method: &Method, url: &str, bearer: Option<&str>) -> Request<wire::Body> {
    let mut request = Request::builder().method(method).uri(url);
    if let Some(bearer) = bearer {
        request = request.header(AUTHORIZATION, bearer);
    }
    request.body(wire::empty()).expect("an address of the laboratory")
}

async fn attempt(
    clock: Arc<dyn Clock>,
    mut http: Http,
    request: Request<wire::Body>,
    timeout: Duration,
) -> Result<Answer, Tried> {
    let exchange = async {
        let (head, body) = tower::Service::call(&mut http, request).await?.into_parts();
        Ok((head, wire::read(body, MAX_BODY).await?))
    };
    let answered = clock::timeout(&*clock, timeout, exchange).await.map_err(|_| Tried::TimedOut)?;
    let (head, body) = answered.map_err(Tried::Transport)?;
    match head.status {
        status if status.is_success() => Ok(Answer::Served(String::from_utf8_lossy(&body).into_owned())),
        StatusCode::UNAUTHORIZED => Ok(Answer::Unauthorized),
        StatusCode::NOT_FOUND => Ok(Answer::Gone),
        status => Err(Tried::Status { status, retry_after: retry_after(&head.headers, clock.wall()) }),
    }
}
