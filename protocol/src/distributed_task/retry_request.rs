//! `RunnerService.RetryRequest`: the runner's own retries around the retries of the HTTP handler.

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use super::failure::Failure;
use super::line::{Line, seconds};

/// Attempts of `RetryRequest` (`RunnerService.cs`).
pub const ATTEMPTS: u32 = 5;
/// Pause between them, drawn anew each time (`RunnerService.cs`).
pub const PAUSE: Range<Duration> = seconds(5..15);

/// Makes up to [`ATTEMPTS`] attempts of a call, [`PAUSE`] apart, as long as `retriable` says so of the failure.
///
/// # Errors
/// The failure of the last attempt.
pub async fn retry_request<T, F>(
    line: &Line,
    retriable: impl Fn(&Failure) -> bool,
    mut call: impl FnMut() -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    for _ in 1..ATTEMPTS {
        match call().await {
            Err(failure) if retriable(&failure) => {
                let wait = line.random.uniform(PAUSE);
                tracing::warn!("{failure}; back off {} s before next retry", wait.as_secs_f32());
                line.clock.sleep(wait).await;
            }
            done => return done,
        }
    }
    call().await
}
