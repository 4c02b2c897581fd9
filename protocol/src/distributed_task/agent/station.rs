//! What every part of an agent's process shares.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::StatusCode;

use crate::disk::Disk;
use crate::distributed_task::auth::{self, Authenticate, FixedToken, Identity, TokenProvider};
use crate::distributed_task::client::{BodyReading, Client, Pipeline};
use crate::distributed_task::failure::{Failure, key};
use crate::distributed_task::line::Line;
use crate::distributed_task::task_server::{SendTimeouts, TaskServer, Unread};
use crate::distributed_task::wire::JobMessage;
use crate::jwt::Signer;
use crate::signal::Tasks;
use crate::workers::Workers;

use super::conduct::{BodyTimeout, Conduct, Layer, NotJson};
use super::run_service::RunService;
use super::settings::{Configuration, Settings};
use super::{Machine, kill};

/// Rounds of authentication of a VSS connection (`VssHttpMessageHandler.cs`).
const VSS_AUTH_ROUNDS: u32 = 3;
/// Rounds of authentication of a raw connection: one refresh (`RawHttpMessageHandler.cs:184-196`).
const RAW_AUTH_ROUNDS: u32 = 2;

/// A configured agent on its machine.
pub struct Station {
    /// The machine's clock, network and generator.
    pub line: Line,
    /// The machine's disk.
    pub disk: Arc<dyn Disk>,
    /// Starts workers.
    pub workers: Arc<dyn Workers>,
    /// How it goes about what both systems have.
    pub conduct: Conduct,
    /// What is its system's own.
    pub profile: Profile,
    /// What it is registered as.
    pub settings: Settings,
    /// Signs its assertions.
    pub signer: Arc<Signer>,
    /// PS256 and SHA-256 in place of RS256 and SHA-1?
    pub fips: bool,
    /// Its tokens.
    pub tokens: Arc<TokenProvider>,
    /// Its server.
    pub server: TaskServer,
    /// What goes on beside its main line.
    pub tasks: Tasks,
}

/// Where the agents of the two systems differ by nature, not by choice.
#[derive(Clone)]
pub struct Profile {
    /// Send time-outs of its connections.
    pub timeouts: SendTimeouts,
    /// When a worker that was told to cancel its job is killed.
    pub kill: kill::Timer,
    /// What stands between the first renewal of a job and the start of its worker.
    pub preparation: Arc<dyn Preparation>,
}

/// What an agent does about a job that is its own by then, before it starts a worker.
pub trait Preparation: Send + Sync {
    /// Prepares.
    ///
    /// # Errors
    /// What nobody catches: the job's execution ends by it as by an exception.
    fn prepare<'a>(&'a self, station: &'a Station, job: &'a JobMessage) -> BoxFuture<'a, Result<(), Failure>>;
}

/// Nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoPreparation;

impl Preparation for NoPreparation {
    fn prepare<'a>(&'a self, _: &'a Station, _: &'a JobMessage) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
}

impl Station {
    /// The agent that is configured on a machine.
    pub fn new(machine: Machine, conduct: Conduct, profile: Profile, configuration: Configuration) -> Self {
        let Configuration { settings, credentials, key } = configuration;
        let line = conduct.line(machine.clock, machine.http, machine.random);
        let fips = credentials.data.is_fips();
        let signer = Arc::new(Signer::new(key, auth::algorithm(fips)));
        let identity = Identity {
            client_id: credentials.data.client_id,
            authorization_url: credentials.data.authorization_url,
            signer: signer.clone(),
        };
        let tokens =
            Arc::new(TokenProvider::new(identity, conduct.token_trouble).retrying(conduct.http_retries(Layer::Alone)));
        let vss = Client::new(line.clone(), tokens.clone(), vss_pipeline(&conduct));
        let server =
            TaskServer::new(vss, &settings.server_url, settings.pool_id, profile.timeouts).unread(unread(&conduct));
        let (disk, workers, tasks) = (machine.disk, machine.workers, Tasks::new());
        Self { line, disk, workers, conduct, profile, settings, signer, fips, tokens, server, tasks }
    }

    /// A client of a VSS service with the agent's own token.
    pub fn vss(&self) -> Client {
        Client::new(self.line.clone(), self.tokens.clone(), vss_pipeline(&self.conduct))
    }

    /// A client of a V2 service with the agent's own token.
    pub fn raw(&self, layer: Layer) -> Client {
        Client::new(self.line.clone(), self.tokens.clone(), raw_pipeline(&self.conduct, layer))
    }

    /// The run service of a job, with the job's own token, for calls that are retried above.
    pub fn run_service_of(&self, job: &JobMessage, url: &str) -> RunService {
        run_service_of(&self.line, &self.conduct, job, url)
    }
}

/// The run service of a job, with the job's own token, for calls that are retried above.
pub(super) fn run_service_of(line: &Line, conduct: &Conduct, job: &JobMessage, url: &str) -> RunService {
    let client = Client::new(line.clone(), token_of(job), raw_pipeline(conduct, Layer::Retried));
    RunService::new(client, url, conduct.not_json)
}

/// The V1 server of a job, with the job's own token.
pub(super) fn task_server_of(line: &Line, conduct: &Conduct, job: &JobMessage) -> TaskServer {
    let client = Client::new(line.clone(), token_of(job), vss_pipeline(conduct));
    TaskServer::new(client, system_url(job).unwrap_or_default(), 0, SendTimeouts::RUNNER).unread(unread(conduct))
}

/// A job's own token.
pub fn token_of(job: &JobMessage) -> Arc<dyn Authenticate> {
    Arc::new(FixedToken(job.access_token().map(str::to_owned)))
}

/// The address of the server, as the job's message has it.
pub fn system_url(job: &JobMessage) -> Option<&str> {
    let mut endpoints = job.resources.endpoints.iter();
    let system = endpoints.find(|endpoint| endpoint.name == JobMessage::SYSTEM_CONNECTION)?;
    Some(system.url.as_str()).filter(|url| !url.is_empty())
}

/// A failure that the server's own code stands behind, and that another attempt would not change.
pub fn is_not_found(failure: &Failure) -> bool {
    failure.is_any(&[key::AGENT_NOT_FOUND, key::POOL_NOT_FOUND, key::RUNNER_NOT_FOUND])
}

/// The server refuses this caller, for now or for good.
pub fn is_refusal(failure: &Failure) -> bool {
    matches!(failure, Failure::Unauthorized)
        || failure.is_any(&[key::ACCESS_DENIED, key::RUNNER_VERSION_TOO_OLD, key::TOKEN_EXPIRED])
        || failure.status() == Some(StatusCode::FORBIDDEN)
}

fn unread(conduct: &Conduct) -> Unread {
    match conduct.not_json {
        NotJson::NullResult => Unread::Succeeds,
        NotJson::Error => Unread::MustBeJson,
    }
}

/// The pipeline of a VSS connection.
pub fn vss_pipeline(conduct: &Conduct) -> Pipeline {
    Pipeline {
        auth_rounds: VSS_AUTH_ROUNDS,
        body: BodyReading::WithinSendTimeout,
        retries: conduct.http_retries(Layer::Alone),
    }
}

fn raw_pipeline(conduct: &Conduct, layer: Layer) -> Pipeline {
    let body = match conduct.body_timeout {
        BodyTimeout::None => BodyReading::Unbounded,
        BodyTimeout::Bounded => BodyReading::WithinSendTimeout,
    };
    Pipeline { auth_rounds: RAW_AUTH_ROUNDS, body, retries: conduct.http_retries(layer) }
}
