//! The monitor at work: it hears of stages from the world, and writes its alerts into the journal.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use squall_protocol::azure::monitor::StageMonitor;
use squall_protocol::facts::{Job, Stage};
use squall_protocol::signal;
use squall_protocol::{Clock, Fact, Ledger};
use squall_sim::Node;

use super::{CLEAN_UP_BOUND, Purpose, WORK_BOUND};

/// The monitor on its own machine, which no fault acts on.
#[derive(Clone)]
pub(super) struct Watch {
    monitor: signal::Watch<StageMonitor>,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
}

/// The shortest wait: a sleep that rounds to nothing would spin.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

impl Watch {
    pub fn on(node: &Node) -> Self {
        let monitor = signal::Watch::new(StageMonitor::default());
        Self { monitor, clock: node.clock(), ledger: node.ledger() }
    }

    pub fn began(&self, job: &Job, stage: &Stage, purpose: Purpose) {
        let bound = match purpose {
            Purpose::Work => WORK_BOUND,
            Purpose::CleanUp => CLEAN_UP_BOUND,
        };
        let now = self.clock.wall();
        self.monitor.change(|monitor| monitor.began(job.clone(), stage.clone(), bound, now));
    }

    pub fn ended(&self, job: &Job, stage: &Stage) {
        self.monitor.change(|monitor| monitor.ended(job.clone(), stage.clone()));
    }

    /// Raises an alert whenever one is due.
    pub async fn go_on(self) -> Infallible {
        loop {
            let now = self.clock.wall();
            while let Some((job, stage)) = self.monitor.change(|monitor| monitor.take_slow(now)) {
                self.ledger.record(Fact::StageAlert { job, stage });
            }
            let next = self.monitor.see(StageMonitor::next);
            let another = self.monitor.is(|monitor| monitor.next() != next);
            match next {
                None => another.await,
                Some(next) => {
                    let wait = Duration::try_from(now.duration_until(next)).unwrap_or_default().max(SHORTEST_WAIT);
                    future::select(pin!(another), pin!(self.clock.sleep(wait))).await;
                }
            }
        }
    }
}
