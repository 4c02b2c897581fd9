//! The agent itself: the listener process and the worker process.
//!
//! What it shares with GitHub's runner, from a job's first renewal to its report, is in
//! [`distributed_task::agent`](crate::distributed_task::agent). Its own are its session, its two pollers, its updates and
//! the stages of its jobs.

use std::pin::pin;
use std::sync::Arc;

use futures_util::{FutureExt, select_biased};

use crate::azure::choices::{Choices, KeepAlive, PollBackoff, SessionPause};
use crate::azure::supervisor::exit;
use crate::azure::wire::flag;
use crate::distributed_task::agent::kill::Timer;
use crate::distributed_task::agent::{
    self as shared, AGENT_FILE, Configuration, Dispatcher, Machine, Profile, Settings, Station,
};
use crate::distributed_task::task_server::SendTimeouts;
use crate::distributed_task::wire;
use crate::supervise::Shutdown;
use crate::workers::{Parent, Stages};

use flags::FeatureFlags;
use intake::{ExitCode, Intake};
use location::Locations;
use poll::{Listener, PollEnd, keep_alive};
use session::NoSession;
use stages::StagesRunner;

mod flags;
mod handler;
mod intake;
mod location;
mod poll;
mod session;
mod stages;
mod telemetry;
#[cfg(test)]
mod tests;
mod update;

pub use handler::HttpHandler;
pub use location::{BREAKER_OPEN, LOOK_UP_DEADLINE};
pub use poll::{EMPTY_POLL_WAIT, FIRST_ERRORS, FIRST_ERRORS_WAIT, KEEP_ALIVE_PAUSE, LATER_ERRORS_WAIT};
pub use session::{CLOCK_SKEW_LIMIT, CONFLICT_LIMIT, CREATION_PAUSE, DELETE_TIMEOUT, PROGRESSIVE_MAX};

pub use crate::distributed_task::agent::{NOT_FOUND_CONFIRMATIONS, NOT_FOUND_PAUSE};

/// The version that the agent says it has.
pub const VERSION: &str = "3.240.1";

/// The listener process, from its start to its exit code (see [`exit`]). It stops when `shutdown` is requested.
///
/// It draws from `machine.random` only; workers that it leaves behind run on.
pub async fn run(machine: Machine, choices: Choices, shutdown: Shutdown) -> i32 {
    let configuration = match Configuration::load(&*machine.disk, AGENT_FILE) {
        Ok(configuration) => configuration,
        Err(error) => {
            tracing::warn!("Agent not configured. {error}");
            return exit::TERMINATED_ERROR;
        }
    };
    let locations = Arc::new(Locations::new(configuration.settings.location_url.as_deref(), &choices));
    let flags = FeatureFlags::new(locations, choices.flag_look_ups);
    let profile =
        Profile { timeouts: SendTimeouts::AZURE, kill: Timer::AfterTimeout, preparation: Arc::new(flags.clone()) };
    let station = Arc::new(Station::new(machine, choices.conduct(), profile, configuration));
    let tasks = station.tasks.clone();
    tasks.beside(Main::new(station, choices, flags).run(&shutdown)).await
}

/// The worker process: takes one job over its pipe, executes it stage by stage, and reports how it ended.
pub async fn worker(machine: Machine, choices: Choices, parent: Box<dyn Parent>, stages: Arc<dyn Stages>) -> i32 {
    let settings = machine.disk.read(AGENT_FILE).ok().and_then(|file| wire::from_slice::<Settings>(&file).ok());
    let second_host = settings.and_then(|settings| settings.location_url);
    let conduct = choices.conduct();
    shared::worker(machine, conduct, parent, &StagesRunner { choices, second_host, stages }).await
}

/// The main loop (`Agent.RunAsync`).
struct Main {
    station: Arc<Station>,
    choices: Choices,
    flags: FeatureFlags,
    listener: Listener,
    dispatcher: Arc<Dispatcher>,
    intake: Intake,
}

/// How the main loop ended.
struct End {
    code: i32,
    session: SessionAtEnd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SessionAtEnd {
    Deleted,
    Left,
}

impl Main {
    fn new(station: Arc<Station>, choices: Choices, flags: FeatureFlags) -> Self {
        let dispatcher = Dispatcher::new(station.clone());
        let listener = Listener::new(station.clone(), choices.clone(), dispatcher.clone());
        let (session, cursor) = (listener.sessions.current().clone(), listener.cursor.clone());
        let intake = Intake::new(station.clone(), choices.clone(), dispatcher.clone(), session, cursor);
        Self { station, choices, flags, listener, dispatcher, intake }
    }

    async fn run(mut self, shutdown: &Shutdown) -> i32 {
        let opened = select_biased! {
            () = shutdown.requested().fuse() => return exit::SUCCESS,
            opened = self.listener.sessions.create().fuse() => opened,
        };
        match opened {
            Ok(()) => {}
            Err(NoSession::Failure) => return exit::TERMINATED_ERROR,
            Err(NoSession::TokenRevoked) => return exit::SUCCESS,
        }
        if self.choices.keep_alive == KeepAlive::SecondPoller {
            self.station.tasks.add(keep_alive(self.station.clone(), self.listener.sessions.current().clone()));
        }
        let end = select_biased! {
            () = shutdown.requested().fuse() => End { code: exit::SUCCESS, session: SessionAtEnd::Deleted },
            end = self.listen().fuse() => end,
        };
        tracing::info!("Agent ends with {}.", end.code);
        let sessions = &mut self.listener.sessions;
        self.dispatcher
            .wind_up(async {
                match end.session {
                    SessionAtEnd::Deleted => sessions.delete().await,
                    SessionAtEnd::Left => Ok(()),
                }
            })
            .await;
        end.code
    }

    async fn listen(&mut self) -> End {
        self.fetch_backoff_flag().await;
        tracing::info!("Listening for Jobs");
        loop {
            if let Err(end) = self.next_turn().await {
                return end;
            }
        }
    }

    /// `Agent.cs:439-449`: only a process that has had a session knows, and only if it could ask.
    async fn fetch_backoff_flag(&self) {
        let progressive = self.choices.poll_backoff == PollBackoff::ProgressiveOrSeeded
            || self.choices.session_pause == SessionPause::FixedOrProgressive;
        if progressive {
            let on = self.flags.is_on(&self.station, flag::PROGRESSIVE_BACKOFF).await;
            self.listener.progressive.set(on.unwrap_or(false));
        }
    }

    /// Handles the next message, and what waits for the end of a job or of an update, each in its turn.
    async fn next_turn(&mut self) -> Result<(), End> {
        let mut polled = pin!(self.listener.next_message().fuse());
        loop {
            select_biased! {
                () = self.intake.turn().fuse() => self.intake.take_turn().await.map_err(ended)?,
                updated = self.intake.updated().fuse() => {
                    self.intake.after_update(updated).await.map_err(ended)?;
                    if self.intake.abandons_poll() {
                        return Ok(());
                    }
                }
                polled = polled => {
                    let message = polled.map_err(end_of)?;
                    return self.intake.handle(message).await.map_err(ended);
                }
            }
        }
    }
}

fn ended(ExitCode(code): ExitCode) -> End {
    End { code, session: SessionAtEnd::Deleted }
}

fn end_of(end: PollEnd) -> End {
    match end {
        PollEnd::TokenRevoked => End { code: exit::SUCCESS, session: SessionAtEnd::Left },
        PollEnd::Error => End { code: exit::RETRYABLE_ERROR, session: SessionAtEnd::Deleted },
    }
}
