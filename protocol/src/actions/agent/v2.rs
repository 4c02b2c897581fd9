//! What is V2's own: polls at the broker, acknowledging, and acquiring a job before it can start.

use std::time::Duration;

use uuid::Uuid;

use crate::actions::choices::{AcquireReplay, EphemeralSkip};
use crate::actions::wire::{AcquireJobRequest, RunnerJobRequestRef};
use crate::clock;
use crate::distributed_task::agent::{Origin, body, decrypted};
use crate::distributed_task::failure::{Failure, key};
use crate::distributed_task::line::Line;
use crate::distributed_task::retry_request::retry_request;
use crate::distributed_task::wire::{JobMessage, TaskAgentMessage};
use crate::random;

use super::intake::Intake;
use super::runner::Runner;
use super::session::Session;

/// What acknowledging may take (`Runner.cs`).
pub const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(5);
/// First wait and longest wait of the throttler of skipped jobs (`ErrorThrottler.cs`).
pub const SKIP_WAIT: Duration = Duration::from_secs(1);
/// See [`SKIP_WAIT`].
pub const LONGEST_SKIP_WAIT: Duration = Duration::from_secs(60);

/// Polls the broker, with the runner's own retries.
pub(super) async fn message(
    runner: &Runner,
    session: &Session,
    base: &str,
    status: &'static str,
) -> Result<Option<TaskAgentMessage>, Failure> {
    let id = session.id.ok_or(Failure::NullReference)?;
    let (broker, status) = (runner.retried_broker(base), runner.poll_status(status));
    let message = retry_request(&runner.line, is_retriable_poll, || broker.message(id, &status)).await?;
    message.map(|message| decrypted(message, session.key.as_ref())).transpose()
}

fn is_retriable_poll(failure: &Failure) -> bool {
    let final_ones = [
        key::ACCESS_DENIED,
        key::RUNNER_VERSION_TOO_OLD,
        key::RUNNER_NOT_FOUND,
        key::HOSTED_RUNNER_DEPROVISIONED,
        key::SESSION_EXPIRED,
    ];
    *failure != Failure::Unauthorized && !failure.is_any(&final_ones)
}

/// What came of a job's reference.
#[derive(Debug)]
pub(super) enum Taken {
    /// The job was handed to the dispatcher.
    Dispatched,
    /// It is not ours, or could not be had.
    Skipped,
    /// There is nothing left to do for this runner.
    Done,
}

/// What an acquisition has to remember.
#[derive(Default)]
pub(super) struct Acquisitions {
    skips: Throttler,
    /// Keys by message: the same job must not be acquired twice under two keys, nor run twice under one.
    keys: std::collections::BTreeMap<String, (Uuid, Acquired)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Acquired {
    NotYet,
    Ours,
}

impl Intake {
    /// Acquires a job and hands it to the dispatcher.
    ///
    /// # Errors
    /// [`Failure::NullReference`] when the answer was a success without a job: upstream steps on it.
    pub(super) async fn take_v2_job(&mut self, message: &TaskAgentMessage) -> Result<Taken, Failure> {
        let reference: RunnerJobRequestRef = body(message)?;
        if reference.should_acknowledge && self.acknowledge(&reference).await == Acknowledged::Refused {
            return Ok(Taken::Done);
        }
        let idempotency = match self.runner.choices.acquire_replay {
            AcquireReplay::Blind => None,
            AcquireReplay::Keyed => match self.acquisitions.key(&reference.runner_request_id, &self.runner.line) {
                (_, Acquired::Ours) => return Ok(Taken::Skipped),
                (key, Acquired::NotYet) => Some(key),
            },
        };
        match self.acquire(&reference, idempotency).await {
            Ok(Some(job)) => {
                self.acquisitions.is_ours(&reference.runner_request_id);
                self.acquisitions.skips = Throttler::default();
                self.dispatcher.run(job, Origin::RunService(reference.run_service_url));
                Ok(Taken::Dispatched)
            }
            Ok(None) => Err(Failure::NullReference),
            Err(failure) if is_lost_to_us(&failure) => {
                tracing::info!("Skipping message Job. {failure}");
                let refused =
                    failure.is_any(&[key::ORCHESTRATION_JOB_NOT_FOUND, key::ORCHESTRATION_JOB_ALREADY_ACQUIRED]);
                if refused
                    && self.runner.settings.ephemeral
                    && self.runner.choices.ephemeral_skip == EphemeralSkip::Exits
                {
                    return Ok(Taken::Done);
                }
                self.acquisitions.skips.wait(&self.runner.line).await;
                Ok(Taken::Skipped)
            }
            Err(failure) => {
                tracing::warn!("Caught exception from acquiring job message: {failure}");
                Ok(Taken::Skipped)
            }
        }
    }

    async fn acquire(&self, reference: &RunnerJobRequestRef, key: Option<Uuid>) -> Result<Option<JobMessage>, Failure> {
        let service = self.runner.run_service(&reference.run_service_url);
        let request = AcquireJobRequest {
            job_message_id: reference.runner_request_id.clone(),
            stream_id: None,
            runner_os: Some("Linux".to_owned()),
            billing_owner_id: reference.billing_owner_id.clone(),
        };
        let acquired =
            retry_request(&self.runner.line, |failure| !is_lost_to_us(failure), || service.acquire(&request, key))
                .await?;
        Ok(acquired.map(|(job, _)| job))
    }

    /// Best effort: all that counts is a broker that says nobody waits for an ephemeral runner's answer.
    async fn acknowledge(&self, reference: &RunnerJobRequestRef) -> Acknowledged {
        let Some(session) = self.session.get() else { return Acknowledged::OrNot };
        let (Some(base), Some(id)) = (&session.broker, session.id) else { return Acknowledged::OrNot };
        let (broker, status) = (self.runner.broker(base), self.runner.poll_status(self.dispatcher.status().get()));
        let call = broker.acknowledge(id, &status, &reference.runner_request_id);
        match clock::timeout(&*self.runner.line.clock, ACKNOWLEDGE_TIMEOUT, call).await {
            Ok(Err(failure)) if failure.is(key::ACKNOWLEDGE_JOB_NOT_FOUND) && self.runner.settings.ephemeral => {
                Acknowledged::Refused
            }
            Ok(Err(failure)) => {
                tracing::warn!("Unable to acknowledge job: {failure}");
                Acknowledged::OrNot
            }
            _ => Acknowledged::OrNot,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Acknowledged {
    OrNot,
    Refused,
}

impl Acquisitions {
    fn key(&mut self, request: &str, line: &Line) -> (Uuid, Acquired) {
        *self.keys.entry(request.to_owned()).or_insert_with(|| (line.random.guid(), Acquired::NotYet))
    }

    fn is_ours(&mut self, request: &str) {
        if let Some((_, acquired)) = self.keys.get_mut(request) {
            *acquired = Acquired::Ours;
        }
    }
}

/// 404, 409 and 422: another attempt would not change that.
fn is_lost_to_us(failure: &Failure) -> bool {
    failure.is_any(&[
        key::ORCHESTRATION_JOB_NOT_FOUND,
        key::ORCHESTRATION_JOB_ALREADY_ACQUIRED,
        key::ORCHESTRATION_JOB_UNPROCESSABLE,
    ])
}

/// `ErrorThrottler`: nothing after the first skip, then 1 s and about twice as long each time, up to a minute. Polling
/// waits as well.
#[derive(Default)]
struct Throttler {
    skips: u32,
}

impl Throttler {
    async fn wait(&mut self, line: &Line) {
        self.skips = self.skips.saturating_add(1);
        let Some(steps) = self.skips.checked_sub(2) else { return };
        let spread = line.random.with(|random| random::uniform(random, SKIP_WAIT * 8 / 10..SKIP_WAIT * 12 / 10));
        let factor = 1u32.checked_shl(steps).map_or(u32::MAX, |power| power - 1);
        let wait = SKIP_WAIT.saturating_add(spread.saturating_mul(factor)).min(LONGEST_SKIP_WAIT);
        line.clock.sleep(wait).await;
    }
}
