//! Whether to go on after trouble that the retry handler did not get over.

use std::time::Duration;

use super::api::Api;
use super::failure::Failure;
use crate::arc::choices::{BodyErrors, Outage};

/// The longest pause before the second attempt of the repaired listener, and before any later one.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];

/// Makes the pauses between attempts at one thing longer and longer, with full jitter.
pub(super) struct Patience<'a> {
    api: &'a Api,
    longest: Duration,
}

impl<'a> Patience<'a> {
    pub(super) fn new(api: &'a Api) -> Self {
        Self { api, longest: PAUSES[0] }
    }

    /// Waits for another attempt.
    ///
    /// # Errors
    /// The failure, when it is none to be outlasted.
    pub(super) async fn with(&mut self, failure: Failure) -> Result<(), Failure> {
        let outlasts = match failure {
            Failure::GaveUp { .. } => self.api.choices.outage == Outage::Outlasts,
            Failure::Body(_) | Failure::Unreadable(_) => self.api.choices.body_errors == BodyErrors::Retried,
            _ => false,
        };
        if !outlasts {
            return Err(failure);
        }
        tracing::warn!("{failure}");
        self.wait().await;
        Ok(())
    }

    /// Ends when it is time for another attempt.
    pub(super) async fn wait(&mut self) {
        self.api.line.sleep_uniform(Duration::ZERO..self.longest).await;
        self.longest = (self.longest * 2).min(PAUSES[1]);
    }
}
