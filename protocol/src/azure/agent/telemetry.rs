//! Events of customer intelligence: each over a connection of its own (`TelemetryCommandExtension.cs:95-119`).

use std::collections::{BTreeMap, VecDeque};

use futures_util::FutureExt;
use http::Method;

use crate::azure::choices::{Choices, CircuitBreaker};
use crate::azure::wire::{CUSTOMER_INTELLIGENCE, CustomerIntelligenceEvent};
use crate::distributed_task::agent::{system_url, token_of, vss_pipeline};
use crate::distributed_task::client::{Call, Client};
use crate::distributed_task::failure::Failure;
use crate::distributed_task::line::Line;
use crate::distributed_task::task_server::successful;
use crate::distributed_task::wire::JobMessage;
use crate::facts::Stage;
use crate::signal::Watch;

use super::location::{Locations, SEND_TIMEOUT};

/// Publishes what a job tells about itself.
pub(super) struct Telemetry {
    locations: Locations,
    client: Client,
    url: String,
}

impl Telemetry {
    pub fn new(line: &Line, choices: &Choices, second_host: Option<&str>, job: &JobMessage) -> Self {
        let client = Client::new(line.clone(), token_of(job), vss_pipeline(&choices.conduct()));
        let tenant = system_url(job).unwrap_or_default().trim_end_matches('/');
        let locations = Locations::new(second_host, choices);
        Self { locations, client, url: format!("{tenant}/{CUSTOMER_INTELLIGENCE}") }
    }

    /// Publishes an event. What cannot be published is a warning.
    pub async fn publish(&self, event: &CustomerIntelligenceEvent) {
        tracing::info!("Publish telemetry {} of {}", event.feature, event.area);
        if let Err(failure) = self.try_to_publish(event).await {
            tracing::warn!("Unable to publish telemetry {}: {failure}", event.feature);
        }
    }

    async fn try_to_publish(&self, event: &CustomerIntelligenceEvent) -> Result<(), Failure> {
        self.locations.look_up(&self.client).await?;
        let call = Call::new(Method::POST, &self.url, SEND_TIMEOUT).json(&[event]);
        let sent = async { successful(self.client.send(&call).await?) };
        self.locations.in_time(self.client.line(), sent).await.map(drop)
    }

    /// Waits at the end of a job for what is left to be sent: whoever gives up on a service gives all of it together no
    /// more time than one event.
    pub async fn wait_for(&self, sending: impl Future<Output = ()>) {
        if self.locations.breaker == CircuitBreaker::None {
            return sending.await;
        }
        if let Err(failure) = self.locations.in_time(self.client.line(), sending.map(Ok)).await {
            tracing::warn!("Telemetry is left: {failure}");
        }
    }

    /// Publishes what a backlog has, one event after the other, until it is closed and empty.
    pub async fn work_off(&self, backlog: &Backlog) {
        while let Some(event) = backlog.next().await {
            self.publish(&event).await;
        }
    }
}

/// The event about a stage's handler (`TaskRunner.cs:675-722`).
pub(super) fn execution_handler(stage: &Stage) -> CustomerIntelligenceEvent {
    about(stage, "TaskHub", "ExecutionHandler")
}

/// An event that a stage's own task publishes (`##vso[telemetry.publish]`).
pub(super) fn of_task(stage: &Stage) -> CustomerIntelligenceEvent {
    about(stage, "PipelinesTasks", "TaskEvent")
}

fn about(stage: &Stage, area: &str, feature: &str) -> CustomerIntelligenceEvent {
    let properties = BTreeMap::from([("Stage".to_owned(), stage.to_string())]);
    CustomerIntelligenceEvent { area: area.to_owned(), feature: feature.to_owned(), properties }
}

/// Events that wait to be published.
pub(super) struct Backlog(Watch<Waiting>);

#[derive(Default)]
struct Waiting {
    events: VecDeque<CustomerIntelligenceEvent>,
    closed: bool,
}

impl Backlog {
    pub fn new() -> Self {
        Self(Watch::new(Waiting::default()))
    }

    pub fn add(&self, event: CustomerIntelligenceEvent) {
        self.0.change(|waiting| waiting.events.push_back(event));
    }

    /// No more will come.
    pub fn close(&self) {
        self.0.change(|waiting| waiting.closed = true);
    }

    async fn next(&self) -> Option<CustomerIntelligenceEvent> {
        self.0.is(|waiting| waiting.closed || !waiting.events.is_empty()).await;
        self.0.change(|waiting| waiting.events.pop_front())
    }
}
