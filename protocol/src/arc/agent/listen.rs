//! The listener: polls, and handles what it gets (SS `listener/listener.go`).

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{self, Either};
use futures_util::{FutureExt, select_biased};

use super::api::Api;
use super::failure::Failure;
use super::patience::Patience;
use super::scaler::Scaler;
use super::session::MessageSession;
use crate::arc::choices::{Acquired, MessageInHand, MessageOrder, MissingSet, MissingStatistics, UnknownMessage};
use crate::arc::wire::{JobMessage, Message, Statistics};
use crate::supervise::Shutdown;

/// How long the repaired listener goes on with a message after it was asked to stop.
pub const IN_HAND: Duration = Duration::from_secs(15);
/// Pause before the repaired listener asks again for jobs that an acquisition left out.
const ACQUIRE_PAUSE: Duration = Duration::from_secs(1);

/// The listener of one session.
pub(super) struct Listener<'a> {
    api: &'a Api,
    pub(super) session: MessageSession<'a>,
    scaler: Scaler<'a>,
    last_message: i64,
    /// What the last message said, if it said anything.
    statistics: Option<Statistics>,
}

impl<'a> Listener<'a> {
    pub(super) fn new(api: &'a Api, session: MessageSession<'a>) -> Self {
        Self { api, session, scaler: Scaler::new(api), last_message: 0, statistics: None }
    }

    /// Listens until it must end, and says why.
    pub(super) async fn run(&mut self, shutdown: &Shutdown) -> Failure {
        match self.listen(shutdown).await {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    async fn listen(&mut self, shutdown: &Shutdown) -> Result<std::convert::Infallible, Failure> {
        let api = self.api;
        self.begin(shutdown).await?;
        loop {
            let polled = select_biased! {
                () = shutdown.requested().fuse() => return Err(api.cancelled()),
                polled = self.next_message().fuse() => polled?,
            };
            let handled = async {
                match polled {
                    Some(message) => self.handle(message).await,
                    None => {
                        let assigned = assigned(self.statistics)?;
                        self.scaler.scale(assigned).await
                    }
                }
            };
            until_stopped(api, shutdown, handled).await?;
        }
    }

    /// What the session says about the set sets the first target.
    async fn begin(&mut self, shutdown: &Shutdown) -> Result<(), Failure> {
        self.statistics = self.session.session.statistics;
        let assigned = self.statistics.ok_or(Failure::NoStatistics)?.total_assigned_jobs;
        tracing::info!("Handling initial session statistics totalAssignedJobs={assigned}");
        until_stopped(self.api, shutdown, self.scaler.scale(assigned)).await
    }

    /// The next message, if there is one; a message that is passed over is none.
    async fn next_message(&mut self) -> Result<Option<Message>, Failure> {
        let mut patience = Patience::new(self.api);
        tracing::info!("Getting next message lastMessageID={}", self.last_message);
        loop {
            let opened = self.session.session.session_id;
            let polled = self.session.poll(self.last_message, self.api.configuration.max_runners).await;
            if opened != self.session.session.session_id {
                // Another session may be another queue: what is not acknowledged comes again.
                self.last_message = 0;
            }
            match polled {
                Err(Failure::UnknownMessage { id, kind })
                    if self.api.choices.unknown_message == UnknownMessage::PassedOver =>
                {
                    tracing::warn!("unsupported message type {kind}: message {id} is passed over");
                    self.acknowledge(id).await?;
                    self.last_message = id;
                }
                Err(missing) if missing.is_missing_set() => self.reregister(missing).await?,
                Err(failure) => patience.with(failure).await?,
                Ok(polled) => return Ok(polled),
            }
        }
    }

    /// The service has lost the scale set.
    async fn reregister(&mut self, missing: Failure) -> Result<(), Failure> {
        if self.api.choices.missing_set == MissingSet::Fatal {
            return Err(missing);
        }
        self.session = super::open(self.api, self.session.set, Some(missing)).await?;
        self.last_message = 0;
        Ok(())
    }

    async fn handle(&mut self, message: Message) -> Result<(), Failure> {
        let jobs = jobs(&message)?;
        let (id, told) = (message.message_id, message.statistics);
        match self.api.choices.message_order {
            MessageOrder::V0_14 => {
                self.last_message = id;
                self.acknowledge(id).await?;
                self.acquire(&jobs).await?;
                self.bring_about(&jobs, told).await
            }
            MessageOrder::V0_14_0 => {
                self.last_message = id;
                self.acknowledge(id).await?;
                self.bring_about(&jobs, told).await
            }
            MessageOrder::V0_8_1 => {
                self.acknowledge(id).await?;
                self.acquire(&jobs).await?;
                self.bring_about(&jobs, told).await?;
                self.last_message = id;
                Ok(())
            }
            MessageOrder::V0_8_2 => {
                self.acquire(&jobs).await?;
                self.last_message = id;
                self.acknowledge(id).await?;
                self.bring_about(&jobs, told).await
            }
            MessageOrder::V0_7 => {
                self.acquire(&jobs).await?;
                self.bring_about(&jobs, told).await?;
                self.acknowledge(id).await?;
                self.last_message = id;
                Ok(())
            }
        }
    }

    async fn acknowledge(&mut self, id: i64) -> Result<(), Failure> {
        let mut patience = Patience::new(self.api);
        loop {
            match self.session.acknowledge(id).await {
                // The message went with its set.
                Err(missing) if missing.is_missing_set() && self.api.choices.missing_set == MissingSet::Reregisters => {
                    return Ok(());
                }
                Err(failure) => patience.with(failure).await?,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Acquires the jobs that a message says are available.
    async fn acquire(&mut self, jobs: &[JobMessage]) -> Result<(), Failure> {
        let available = jobs.iter().filter_map(|job| match job {
            JobMessage::JobAvailable { job, .. } => Some(job.runner_request_id),
            _ => None,
        });
        let mut wanted: Vec<i64> = available.collect();
        let mut patience = Patience::new(self.api);
        while !wanted.is_empty() {
            tracing::info!("Acquiring jobs count={}", wanted.len());
            let acquired = match self.session.acquire(&wanted).await {
                Ok(acquired) => acquired,
                // The set is registered anew by the next poll, and its jobs are told of again.
                Err(missing) if missing.is_missing_set() && self.api.choices.missing_set == MissingSet::Reregisters => {
                    return Ok(());
                }
                Err(failure) => {
                    patience.with(failure).await?;
                    continue;
                }
            };
            tracing::info!("Jobs acquired count={}", acquired.len());
            if self.api.choices.acquired == Acquired::Ignored || acquired.is_empty() {
                break;
            }
            wanted.retain(|request| !acquired.contains(request));
            if !wanted.is_empty() {
                self.api.line.clock.sleep(ACQUIRE_PAUSE).await;
            }
        }
        Ok(())
    }

    /// What else a message asks for: notes about jobs, and as many runners as there are jobs.
    async fn bring_about(&mut self, jobs: &[JobMessage], told: Option<Statistics>) -> Result<(), Failure> {
        self.statistics = match self.api.choices.statistics {
            MissingStatistics::Dereferenced => told,
            MissingStatistics::KeepsLast => told.or(self.statistics),
        };
        for job in jobs {
            match job {
                JobMessage::JobStarted { runner, job } => {
                    tracing::info!("Job started message received. RunnerName={}", runner.runner_name);
                    self.scaler.job_started(runner, job).await?;
                }
                JobMessage::JobCompleted { result, runner, .. } => {
                    tracing::info!(
                        "Job completed message received. Result={result}, RunnerName={}",
                        runner.runner_name
                    );
                    self.scaler.job_completed();
                }
                JobMessage::JobAvailable { .. } | JobMessage::JobAssigned { .. } | JobMessage::Unknown => {}
            }
        }
        let assigned = assigned(self.statistics)?;
        self.scaler.scale(assigned).await
    }
}

fn jobs(message: &Message) -> Result<Vec<JobMessage>, Failure> {
    match message.body.as_str() {
        "" => Ok(Vec::new()),
        body => serde_json::from_str(body).map_err(|error| Failure::Unreadable(error.to_string())),
    }
}

fn assigned(statistics: Option<Statistics>) -> Result<u32, Failure> {
    Ok(statistics.ok_or(Failure::NilDereference)?.total_assigned_jobs)
}

/// Does what was begun, to its end or for a while after the process was asked to stop.
async fn until_stopped(
    api: &Api,
    shutdown: &Shutdown,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    match api.choices.message_in_hand {
        MessageInHand::ToItsEnd => work.await,
        MessageInHand::Bounded => {
            let stop = async {
                shutdown.requested().await;
                api.line.clock.sleep(IN_HAND).await;
            };
            match future::select(pin!(work), pin!(stop)).await {
                Either::Left((done, _)) => done,
                Either::Right(_) => Err(api.cancelled()),
            }
        }
    }
}
