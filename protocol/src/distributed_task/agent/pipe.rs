//! What a listener says to its worker over the pipe.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Mono;
use crate::distributed_task::wire::JobMessage;

/// A message to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "messageType", content = "body")]
pub(super) enum ToWorker {
    /// Execute this.
    NewJobRequest(Box<NewJob>),
    /// Stop what you are doing.
    CancelRequest,
    /// The lease now ends at this reading of the machine's monotonic clock, in nanoseconds. No real listener says so.
    LeaseExtended { ends: u64 },
}

/// A job for a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct NewJob {
    pub job: JobMessage,
    /// Where it was acquired (V2).
    pub run_service: Option<String>,
    ends: Option<u64>,
}

impl NewJob {
    pub fn new(job: JobMessage, run_service: Option<String>, ends: Option<Mono>) -> Self {
        Self { job, run_service, ends: ends.map(nanoseconds) }
    }

    /// When the lease ends.
    pub fn lease_ends(&self) -> Option<Mono> {
        self.ends.map(|ends| Mono::from_start(Duration::from_nanos(ends)))
    }
}

impl ToWorker {
    pub fn lease(ends: Mono) -> Self {
        Self::LeaseExtended { ends: nanoseconds(ends) }
    }

    pub fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("plain data").into()
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

fn nanoseconds(at: Mono) -> u64 {
    at.since_start().as_nanos() as u64
}
