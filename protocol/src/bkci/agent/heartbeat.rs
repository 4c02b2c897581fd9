//! A worker's heartbeats: what they bring, and when their failing ends the worker.

use std::time::Duration;

use futures_util::{FutureExt, select_biased};

use super::gateway::{CallFailure, Method};
use super::retries;
use super::worker::Process;
use crate::bkci::choices::{WorkerAttempt, WorkerFence};
use crate::bkci::wire::{Answer, HeartBeatInfo, code, path};
use crate::retry;

/// Before the first heartbeat.
pub const FIRST_HEARTBEAT: Duration = Duration::from_secs(10);
/// Between two heartbeats.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);
/// So many failures in a row end the worker.
pub const HEARTBEAT_FAILURES: u32 = 12;

/// The repaired design: so long after the last heartbeat that was answered the worker ends. The server's lease is
/// 10 min; what is left is for clocks that are slow by a quarter.
pub const FENCE_AFTER: Duration = Duration::from_secs(7 * 60);
/// The repaired design: how long one heartbeat may take.
const BEAT_TIMEOUT: Duration = Duration::from_secs(10);

impl Process {
    /// Sends heartbeats, and ends when the worker has to.
    pub(super) async fn beat_until_fenced(&self) {
        match self.choices.worker_fence {
            WorkerFence::TwelveFailures => self.beat_until_failures().await,
            WorkerFence::BeforeTheLease => self.beat_under_lease().await,
        }
    }

    async fn beat_until_failures(&self) {
        self.line().clock.sleep(FIRST_HEARTBEAT).await;
        let mut failures = 0;
        while failures < HEARTBEAT_FAILURES {
            match self.beat_with_retries().await {
                Ok(info) => {
                    failures = 0;
                    self.heed(&info);
                }
                Err(failure) if self.is_over(&failure) => return,
                Err(failure) => {
                    failures += 1;
                    tracing::warn!("heartbeat failed {failures} times: {failure}");
                }
            }
            self.line().clock.sleep(HEARTBEAT_EVERY).await;
        }
    }

    async fn beat_with_retries(&self) -> Result<HeartBeatInfo, CallFailure> {
        let attempt = || self.beat(retries::WORKER_TIMEOUT);
        retry::send(self.line(), &mut retries::Beats, attempt, retries::unanswered, |_, _| ()).await.last
    }

    async fn beat_under_lease(&self) {
        let mut heard = self.started_at.get();
        let mut pause = FIRST_HEARTBEAT;
        loop {
            let left = (heard + FENCE_AFTER).since(self.line().mono());
            let sent = async {
                self.line().clock.sleep(pause).await;
                (self.line().mono(), self.beat(BEAT_TIMEOUT).await)
            };
            select_biased! {
                // First of all, so that a process that was frozen does not go on before it looks at the clock.
                () = self.line().clock.sleep(left).fuse() => return,
                (at, answer) = sent.fuse() => match answer {
                    Ok(info) => {
                        heard = at;
                        self.heed(&info);
                    }
                    Err(failure) if self.is_over(&failure) => return,
                    Err(failure) => tracing::warn!("heartbeat failed: {failure}"),
                }
            }
            pause = HEARTBEAT_EVERY;
        }
    }

    async fn beat(&self, limit: Duration) -> Result<HeartBeatInfo, CallFailure> {
        let answer = self.call_once(Method::POST, path::HEARTBEAT, None::<&()>, limit).await?;
        Ok(answer.parse::<Answer<HeartBeatInfo>>()?.into_result()?.unwrap_or_default())
    }

    fn heed(&self, info: &HeartBeatInfo) {
        if info.cancel_task_ids.as_ref().is_some_and(|tasks| !tasks.is_empty()) {
            self.cancelled.set(true);
        }
    }

    /// Does the server say that this worker has nothing to do any more?
    fn is_over(&self, failure: &CallFailure) -> bool {
        self.choices.worker_attempt == WorkerAttempt::Checked
            && matches!(failure, CallFailure::Refused { status: code::BUILD_ENDED, .. })
    }
}
