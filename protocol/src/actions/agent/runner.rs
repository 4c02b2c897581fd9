//! What every part of a runner's process shares.

use std::sync::Arc;

use http::StatusCode;

use crate::actions::choices::{BodyTimeout, Choices, HttpRetry, NestedRetries, TokenTrouble};
use crate::disk::Disk;
use crate::distributed_task::auth::{self, Authenticate, FixedToken, Identity, TokenProvider};
use crate::distributed_task::client::{BodyReading, Client, HttpRetries, Pipeline};
use crate::distributed_task::failure::{Failure, key};
use crate::distributed_task::line::{Line, SharedRandom};
use crate::distributed_task::task_server::{PollStatus, SendTimeouts, TaskServer};
use crate::distributed_task::wire::JobMessage;
use crate::jwt::Signer;
use crate::signal::Tasks;
use crate::workers::Workers;

use super::Machine;
use super::broker::Broker;
use super::run_service::RunService;
use super::settings::{Configuration, Settings};

/// Rounds of authentication of a VSS connection (`VssHttpMessageHandler.cs`).
const VSS_AUTH_ROUNDS: u32 = 3;
/// Rounds of authentication of a raw connection: one refresh (`RawHttpMessageHandler.cs:184-196`).
const RAW_AUTH_ROUNDS: u32 = 2;

/// What the runner says about itself in polls.
const VERSION: &str = "2.336.0";
const OS: &str = "Linux";
const ARCHITECTURE: &str = "X64";

/// A configured runner on its machine.
pub(super) struct Runner {
    pub line: Line,
    pub disk: Arc<dyn Disk>,
    pub workers: Arc<dyn Workers>,
    pub choices: Choices,
    pub settings: Settings,
    pub signer: Arc<Signer>,
    pub fips: bool,
    pub tokens: Arc<TokenProvider>,
    pub server: TaskServer,
    pub tasks: Tasks,
}

impl Runner {
    pub fn new(machine: Machine, choices: Choices, configuration: Configuration) -> Self {
        let Configuration { settings, credentials, key } = configuration;
        let line = Line { clock: machine.clock, http: machine.http, random: SharedRandom::new(machine.random) };
        let fips = credentials.data.is_fips();
        let signer = Arc::new(Signer::new(key, auth::algorithm(fips)));
        let identity = Identity {
            client_id: credentials.data.client_id,
            authorization_url: credentials.data.authorization_url,
            signer: signer.clone(),
        };
        let tokens = Arc::new(TokenProvider::new(identity, token_trouble(&choices)));
        let vss = Client::new(line.clone(), tokens.clone(), vss_pipeline(&choices));
        let server = TaskServer::new(vss, &settings.server_url, settings.pool_id, SendTimeouts::RUNNER);
        let (disk, workers, tasks) = (machine.disk, machine.workers, Tasks::new());
        Self { line, disk, workers, choices, settings, signer, fips, tokens, server, tasks }
    }

    /// The broker at `base`, with the runner's own token.
    pub fn broker(&self, base: &str) -> Broker {
        Broker::new(self.raw(self.tokens.clone(), Layer::Alone), base, self.choices.not_json)
    }

    /// The broker, for calls that are retried above.
    pub fn retried_broker(&self, base: &str) -> Broker {
        Broker::new(self.raw(self.tokens.clone(), Layer::Retried), base, self.choices.not_json)
    }

    /// A run service with the runner's own token, for calls that are retried above.
    pub fn run_service(&self, base: &str) -> RunService {
        RunService::new(self.raw(self.tokens.clone(), Layer::Retried), base, self.choices.not_json)
    }

    /// The run service of a job, with the job's own token, for calls that are retried above.
    pub fn run_service_of(&self, job: &JobMessage, url: &str) -> RunService {
        run_service_of(&self.line, &self.choices, job, url)
    }

    pub fn poll_status(&self, status: &'static str) -> PollStatus {
        PollStatus {
            status: Some(status),
            version: VERSION,
            os: OS,
            architecture: ARCHITECTURE,
            disable_update: self.settings.disable_update,
        }
    }

    /// The software's version.
    pub fn version(&self) -> &'static str {
        VERSION
    }

    fn raw(&self, auth: Arc<dyn Authenticate>, layer: Layer) -> Client {
        Client::new(self.line.clone(), auth, raw_pipeline(&self.choices, layer))
    }
}

/// Is there a layer of retries above the client's own?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    Alone,
    Retried,
}

/// The run service of a job, with the job's own token, for calls that are retried above.
pub(super) fn run_service_of(line: &Line, choices: &Choices, job: &JobMessage, url: &str) -> RunService {
    let token = Arc::new(FixedToken(job.access_token().map(str::to_owned)));
    let client = Client::new(line.clone(), token, raw_pipeline(choices, Layer::Retried));
    RunService::new(client, url, choices.not_json)
}

/// The V1 server of a job, with the job's own token.
pub(super) fn task_server_of(line: &Line, choices: &Choices, job: &JobMessage) -> TaskServer {
    let token = Arc::new(FixedToken(job.access_token().map(str::to_owned)));
    let client = Client::new(line.clone(), token, vss_pipeline(choices));
    TaskServer::new(client, system_url(job).unwrap_or_default(), 0, SendTimeouts::RUNNER)
}

/// The address of the server, as the job's message has it.
pub(super) fn system_url(job: &JobMessage) -> Option<&str> {
    let mut endpoints = job.resources.endpoints.iter();
    let system = endpoints.find(|endpoint| endpoint.name == JobMessage::SYSTEM_CONNECTION)?;
    Some(system.url.as_str()).filter(|url| !url.is_empty())
}

/// A failure that the server's own code stands behind, and that another attempt would not change.
pub(super) fn is_not_found(failure: &Failure) -> bool {
    failure.is_any(&[key::AGENT_NOT_FOUND, key::POOL_NOT_FOUND, key::RUNNER_NOT_FOUND])
}

/// The server refuses this caller, for now or for good.
pub(super) fn is_refusal(failure: &Failure) -> bool {
    matches!(failure, Failure::Unauthorized)
        || failure.is_any(&[key::ACCESS_DENIED, key::RUNNER_VERSION_TOO_OLD, key::TOKEN_EXPIRED])
        || failure.status() == Some(StatusCode::FORBIDDEN)
}

fn token_trouble(choices: &Choices) -> auth::TokenTrouble {
    match choices.token_trouble {
        TokenTrouble::SwallowedIntoUnauthorized => auth::TokenTrouble::SwallowedIntoUnauthorized,
        TokenTrouble::Transient => auth::TokenTrouble::Transient,
    }
}

fn vss_pipeline(choices: &Choices) -> Pipeline {
    Pipeline {
        auth_rounds: VSS_AUTH_ROUNDS,
        body: BodyReading::WithinSendTimeout,
        retries: http_retries(choices, Layer::Alone),
    }
}

fn raw_pipeline(choices: &Choices, layer: Layer) -> Pipeline {
    let body = match choices.body_timeout {
        BodyTimeout::None => BodyReading::Unbounded,
        BodyTimeout::Bounded => BodyReading::WithinSendTimeout,
    };
    Pipeline { auth_rounds: RAW_AUTH_ROUNDS, body, retries: http_retries(choices, layer) }
}

fn http_retries(choices: &Choices, layer: Layer) -> HttpRetries {
    match (choices.nested_retries, layer, choices.http_retries) {
        (NestedRetries::OneLayer, Layer::Retried, _) => HttpRetries::Single,
        (_, _, HttpRetry::Vss) => HttpRetries::Vss,
        (_, _, HttpRetry::FullJitter) => HttpRetries::FullJitter,
    }
}
