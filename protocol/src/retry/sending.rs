//! Sending a call again and again, as its policy says.

use jiff::Timestamp;

use super::{Attempt, Decision, Outcome, RetryPolicy, Tries};
use crate::clock::Mono;
use crate::line::Line;

/// What a call came to in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent<T> {
    /// The last attempt's result.
    pub last: T,
    /// When that attempt was sent.
    pub at: Mono,
    /// How many attempts were made, that one included.
    pub attempts: u32,
}

/// Makes attempts until `outcome` finds no trouble in one, or `policy` gives up.
///
/// `outcome` says what of an attempt the policy is to look at, seen from the machine's wall time; `None` for what is no
/// business of retries. `tell` hears of each attempt that failed and of what comes next, so that a client can log it in
/// its own words.
pub async fn send<T, F>(
    line: &Line,
    policy: &mut dyn RetryPolicy,
    mut attempt: impl FnMut() -> F,
    outcome: impl for<'a> Fn(&'a T, Timestamp) -> Option<Outcome<'a>>,
    tell: impl Fn(&Attempt<'_>, Decision),
) -> Sent<T>
where
    F: Future<Output = T>,
{
    let mut tries = Tries::since(line.mono());
    loop {
        let at = line.mono();
        let last = attempt().await;
        let now = line.mono();
        let next = match outcome(&last, line.clock.wall()) {
            Some(outcome) => {
                let (failed, next) = line.random.with(|random| tries.failed(policy, outcome, now, random));
                tell(&failed, next);
                next
            }
            None => {
                tries.succeeded(policy, now);
                Decision::GiveUp
            }
        };
        match next {
            Decision::Retry(wait) => line.clock.sleep(wait).await,
            Decision::GiveUp => return Sent { last, at, attempts: tries.made() },
        }
    }
}
