//! What is V2's own: polls at the broker, acknowledging, and acquiring a job before it can start.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use uuid::Uuid;

use crate::actions::choices::{AcquireReplay, EphemeralSkip, SkippedJob};
use crate::actions::wire::{AcquireJobRequest, RunnerJobRequestRef};
use crate::clock::{self, Mono};
use crate::distributed_task::agent::{Origin, body, decrypted};
use crate::distributed_task::failure::{Failure, key};
use crate::distributed_task::line::{Line, seconds};
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

/// How long the repaired runner goes on asking for a job when nothing says whose it is: as long as a lease lasts.
pub const ACQUIRE_PATIENCE: Duration = Duration::from_secs(600);
/// How long it waits between two such calls. Polling goes on meanwhile.
const ACQUIRE_PAUSE: Range<Duration> = seconds(15..30);

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
    keys: BTreeMap<String, Attempts>,
    /// Jobs that may be ours although no answer said so.
    unsettled: Vec<Unsettled>,
}

#[derive(Clone, Copy)]
struct Attempts {
    key: Uuid,
    acquired: Acquired,
    /// Until when the job is asked for again.
    until: Mono,
    /// How often it has been asked for: because no answer came, or because its reference came again.
    number: u32,
}

struct Unsettled {
    message: TaskAgentMessage,
    next: Mono,
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
        let idempotency = match self.runner.choices.acquire_replay {
            AcquireReplay::Blind => None,
            AcquireReplay::Keyed => {
                let attempts = self.acquisitions.begin(&reference.runner_request_id, &self.runner.line);
                if attempts.acquired == Acquired::Ours {
                    return Ok(Taken::Skipped);
                }
                Some(attempts)
            }
        };
        // A job that is asked for again, or whose reference comes again, may be ours by now: then the broker waits for no
        // acknowledgement.
        let first = idempotency.is_none_or(|attempts| attempts.number == 1);
        if first && reference.should_acknowledge && self.acknowledge(&reference).await == Acknowledged::Refused {
            return Ok(Taken::Done);
        }
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
                if self.runner.choices.skipped_job == SkippedJob::BlocksPolls {
                    self.acquisitions.skips.wait(&self.runner.line).await;
                }
                Ok(Taken::Skipped)
            }
            Err(failure) => {
                tracing::warn!("Caught exception from acquiring job message: {failure}");
                if let Some(attempts) = idempotency {
                    self.acquisitions.ask_again(message, attempts, &self.runner.line);
                }
                Ok(Taken::Skipped)
            }
        }
    }

    async fn acquire(
        &self,
        reference: &RunnerJobRequestRef,
        attempts: Option<Attempts>,
    ) -> Result<Option<JobMessage>, Failure> {
        let service = self.runner.run_service(&reference.run_service_url);
        let request = AcquireJobRequest {
            job_message_id: reference.runner_request_id.clone(),
            stream_id: None,
            runner_os: Some("Linux".to_owned()),
            billing_owner_id: reference.billing_owner_id.clone(),
        };
        let key = attempts.map(|attempts| attempts.key);
        let acquired = match attempts {
            Some(Attempts { number: 2.., .. }) => service.acquire(&request, key).await?,
            _ => {
                retry_request(&self.runner.line, |failure| !is_lost_to_us(failure), || service.acquire(&request, key))
                    .await?
            }
        };
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
    fn begin(&mut self, request: &str, line: &Line) -> Attempts {
        let attempts = self.keys.entry(request.to_owned()).or_insert_with(|| Attempts {
            key: line.random.guid(),
            acquired: Acquired::NotYet,
            until: line.mono() + ACQUIRE_PATIENCE,
            number: 0,
        });
        attempts.number += 1;
        *attempts
    }

    fn is_ours(&mut self, request: &str) {
        if let Some(attempts) = self.keys.get_mut(request) {
            attempts.acquired = Acquired::Ours;
        }
    }

    /// No answer says whose the job is. The server may think that it is ours, and wait for us.
    fn ask_again(&mut self, message: &TaskAgentMessage, attempts: Attempts, line: &Line) {
        let next = line.mono() + line.random.uniform(ACQUIRE_PAUSE);
        if next < attempts.until && self.unsettled.iter().all(|known| known.message.body != message.body) {
            self.unsettled.push(Unsettled { message: message.clone(), next });
        }
    }

    /// Ends when it is time to ask for a job again.
    pub async fn due(&self, line: &Line) {
        match self.unsettled.iter().map(|unsettled| unsettled.next).min() {
            Some(next) => line.clock.sleep(next.since(line.mono())).await,
            None => std::future::pending().await,
        }
    }

    /// A job that is to be asked for again by now.
    pub fn take_due(&mut self, now: Mono) -> Option<TaskAgentMessage> {
        let due = self.unsettled.iter().position(|unsettled| unsettled.next <= now)?;
        Some(self.unsettled.remove(due).message)
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
