//! Look-ups at the second host: whoever makes a connection asks there where its service is (`Location.GetConnectionData`).

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;

use crate::azure::choices::{Choices, CircuitBreaker, LookUpCache, LookUpDeadline};
use crate::azure::wire::CONNECTION_DATA;
use crate::clock::{self, Mono};
use crate::distributed_task::client::{Call, Client};
use crate::distributed_task::failure::Failure;
use crate::distributed_task::line::Line;
use crate::distributed_task::task_server::{read, successful};
use crate::distributed_task::wire::ConnectionData;

/// What the repaired agent gives a look-up, and what is sent after it, with all attempts.
pub const LOOK_UP_DEADLINE: Duration = Duration::from_secs(10);
/// How long the repaired agent leaves a second host alone that was out of reach.
pub const BREAKER_OPEN: Duration = Duration::from_secs(300);

/// Send time-out of one attempt (`VSTS_HTTP_TIMEOUT`).
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(100);

/// The second host, seen by one process.
pub(super) struct Locations {
    /// Its base URL; without one, everything is where it is expected.
    url: Option<String>,
    deadline: LookUpDeadline,
    cache: LookUpCache,
    pub breaker: CircuitBreaker,
    known: Mutex<Known>,
}

/// What the process remembers of it.
#[derive(Default)]
struct Known {
    found: bool,
    shut_until: Option<Mono>,
}

impl Locations {
    pub fn new(url: Option<&str>, choices: &Choices) -> Self {
        Self {
            url: url.map(|url| url.trim_end_matches('/').to_owned()),
            deadline: choices.look_up_deadline,
            cache: choices.look_up_cache,
            breaker: choices.circuit_breaker,
            known: Mutex::default(),
        }
    }

    /// What making a connection costs.
    ///
    /// # Errors
    /// [`Failure`], after as many attempts as the client makes.
    pub async fn look_up(&self, client: &Client) -> Result<(), Failure> {
        let Some(url) = &self.url else { return Ok(()) };
        if self.known().found && self.cache == LookUpCache::PerProcess {
            return Ok(());
        }
        let call = Call::new(Method::GET, format!("{url}/{CONNECTION_DATA}"), SEND_TIMEOUT);
        let asked = async { read::<ConnectionData>(&successful(client.send(&call).await?)?) };
        self.in_time(client.line(), asked).await?;
        self.known().found = true;
        Ok(())
    }

    /// Best-effort work, within what it may take. Its failure keeps the next one away for a while.
    ///
    /// # Errors
    /// That of the work; [`Failure::TimedOut`]; [`Failure::InvalidOperation`] while there is to be none.
    pub async fn in_time<T>(&self, line: &Line, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        if self.known().shut_until.is_some_and(|until| line.mono() < until) {
            return Err(Failure::InvalidOperation("the service was out of reach a moment ago".into()));
        }
        let done = match self.deadline {
            LookUpDeadline::None => work.await,
            LookUpDeadline::Bounded => match clock::timeout(&*line.clock, LOOK_UP_DEADLINE, work).await {
                Ok(done) => done,
                Err(clock::Timeout(limit)) => Err(Failure::TimedOut(limit)),
            },
        };
        if done.is_err() && self.breaker == CircuitBreaker::OpensOnFailure {
            self.known().shut_until = Some(line.mono() + BREAKER_OPEN);
        }
        done
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
