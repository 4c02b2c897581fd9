//! Trying again: one call of curl, or one job of the repaired download.

use std::sync::Arc;

use super::Failure;
use super::patience::patience;
use crate::clock::{Clock, Mono};
use crate::flox::choices::Transfer;
use crate::random::Random;
use crate::retry::{Decision, Policy, RetryPolicy, Tries, presets};

/// The attempts of one call.
pub(super) struct Retries {
    transfer: Transfer,
    policy: Box<dyn RetryPolicy>,
    tries: Tries,
    /// How many there may be, where that is limited.
    retries: Option<u32>,
    clock: Arc<dyn Clock>,
}

impl Retries {
    /// For the transfer of a file, in a job that began then.
    pub(super) fn of_file(transfer: Transfer, began: Mono, clock: Arc<dyn Clock>) -> Self {
        let preset = |name| presets::find(name).expect("it is one of the presets").policy;
        let policy = match transfer {
            Transfer::CurlRetryAllErrors => preset("curl-all-errors"),
            Transfer::CurlRetry => preset("curl"),
            Transfer::CurlOnce | Transfer::CurlWithoutFail => Policy { retries: Some(0), ..preset("curl") },
            Transfer::ToolCache => preset("tool-cache"),
            Transfer::Patient => patience(),
        };
        Self { transfer, retries: policy.retries, policy: policy.start(), tries: Tries::since(began), clock }
    }

    /// For what is asked beside it. Versions with tool-cache ask by a plain curl.
    pub(super) fn of_text(transfer: Transfer, began: Mono, clock: Arc<dyn Clock>) -> Self {
        let transfer = if transfer == Transfer::ToolCache { Transfer::CurlOnce } else { transfer };
        Self::of_file(transfer, began, clock)
    }

    /// Something got through: what fails from now on is another failure.
    pub(super) fn progress(&mut self) {
        self.policy.succeeded(self.tries.made());
    }

    /// Waits until the next attempt.
    ///
    /// # Errors
    /// The failure, when there is to be none.
    pub(super) async fn after(&mut self, failure: Failure, random: &mut Random) -> Result<(), Failure> {
        let (attempt, next) = self.tries.failed(&mut *self.policy, failure.outcome(), self.clock.mono(), random);
        match next {
            Decision::GiveUp => Err(failure),
            Decision::Retry(wait) => {
                let problem = match self.transfer {
                    Transfer::CurlRetryAllErrors => "Problem (retrying all errors)".to_owned(),
                    _ => format!("Problem: {failure}"),
                };
                // As curl counts: this one is among those that are left.
                let left = self.retries.map(|retries| (retries + 1).saturating_sub(attempt.number));
                let left = left.map(|left| format!(" {left} retries left."));
                tracing::warn!("{problem}. Will retry in {} seconds.{}", wait.as_secs(), left.unwrap_or_default());
                self.clock.sleep(wait).await;
                Ok(())
            }
        }
    }
}
