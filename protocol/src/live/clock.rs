//! The clock of this machine.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::clock::{Clock, Mono};

/// The clock of this machine. Its monotonic time starts when it is made.
#[derive(Clone, Copy, Debug)]
pub struct LiveClock {
    start: Instant,
}

impl LiveClock {
    /// A clock whose monotonic time starts now.
    #[expect(clippy::disallowed_methods, reason = "this is where real time comes from")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for LiveClock {
    #[expect(clippy::disallowed_methods, reason = "this is where real time comes from")]
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn mono(&self) -> Mono {
        Mono::from_start(self.start.elapsed())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the sleep that the clock of an agent is made of")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let asked = Instant::now();
        async move {
            let left = duration.saturating_sub(asked.elapsed());
            match left.is_zero() {
                true => tokio::task::yield_now().await,
                false => tokio::time::sleep(left).await,
            }
        }
        .boxed()
    }
}
