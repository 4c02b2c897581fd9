//! What a client needs of its machine: a clock, the network and a generator, shared by everything inside one process.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::RngCore;
use uuid::Uuid;

use crate::clock::{Clock, Mono};
use crate::http::Http;
use crate::random::{self, Random};

/// The generator of one process, drawn from by all that goes on in it at the same time.
#[derive(Clone)]
pub struct SharedRandom(Arc<Mutex<Random>>);

impl SharedRandom {
    /// Shares a generator.
    pub fn new(random: Random) -> Self {
        Self(Arc::new(Mutex::new(random)))
    }

    /// A duration from a half-open range.
    pub fn uniform(&self, range: Range<Duration>) -> Duration {
        self.with(|random| random::uniform(random, range))
    }

    /// A GUID from drawn bytes.
    pub fn guid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.with(|random| random.fill_bytes(&mut bytes));
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// Lends the generator. It must not be asked for again meanwhile.
    pub fn with<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A machine's line to its servers.
#[derive(Clone)]
pub struct Line {
    /// The machine's clock.
    pub clock: Arc<dyn Clock>,
    /// The machine's network.
    pub http: Http,
    /// The process's generator.
    pub random: SharedRandom,
}

impl Line {
    /// Monotonic time, now.
    pub fn mono(&self) -> Mono {
        self.clock.mono()
    }

    /// Sleeps for a time drawn from a half-open range, and says how long that was.
    pub async fn sleep_uniform(&self, range: Range<Duration>) -> Duration {
        let wait = self.random.uniform(range);
        self.clock.sleep(wait).await;
        wait
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Line")
    }
}

/// A range of whole seconds.
pub const fn seconds(range: Range<u64>) -> Range<Duration> {
    Duration::from_secs(range.start)..Duration::from_secs(range.end)
}
