//! A job, stage by stage (`TaskRunner.cs`, `StepsRunner.cs`), and what each stage tells about itself.

use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{self, BoxFuture, Either};

use crate::azure::choices::{Choices, TelemetryPath};
use crate::azure::wire::CustomerIntelligenceEvent;
use crate::distributed_task::agent::{Execute, name};
use crate::distributed_task::line::Line;
use crate::distributed_task::wire::JobMessage;
use crate::facts::Outcome;
use crate::supervise::Shutdown;
use crate::workers::{Due, Staged, Stages};

use super::telemetry::{Backlog, Telemetry, execution_handler, of_task};

/// Executes jobs that are made of stages.
pub(super) struct StagesRunner {
    pub choices: Choices,
    pub second_host: Option<String>,
    pub stages: Arc<dyn Stages>,
}

impl Execute for StagesRunner {
    fn execute<'a>(&'a self, line: &'a Line, job: &'a JobMessage, cancelled: Shutdown) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let telemetry = Telemetry::new(line, &self.choices, self.second_host.as_deref(), job);
            let mut stages = self.stages.begin(name(job), job.attempt());
            let outcome = match self.choices.telemetry_path {
                TelemetryPath::OnCriticalPath => run(&mut *stages, &Outlet::Direct(&telemetry), &cancelled).await,
                TelemetryPath::Beside => {
                    let backlog = Backlog::new();
                    let outlet = Outlet::Backlog(&backlog);
                    let sending = pin!(telemetry.work_off(&backlog));
                    match future::select(pin!(run(&mut *stages, &outlet, &cancelled)), sending).await {
                        Either::Left((outcome, sending)) => {
                            backlog.close();
                            telemetry.wait_for(sending).await;
                            outcome
                        }
                        // An open backlog is never worked off.
                        Either::Right(((), work)) => work.await,
                    }
                }
            };
            stages.end(outcome);
            outcome
        })
    }
}

/// Where events go.
enum Outlet<'a> {
    Direct(&'a Telemetry),
    Backlog(&'a Backlog),
}

impl Outlet<'_> {
    async fn publish(&self, event: CustomerIntelligenceEvent) {
        match self {
            Outlet::Direct(telemetry) => telemetry.publish(&event).await,
            Outlet::Backlog(backlog) => backlog.add(event),
        }
    }
}

async fn run(stages: &mut dyn Staged, outlet: &Outlet<'_>, cancelled: &Shutdown) -> Outcome {
    let mut outcome = Outcome::Succeeded;
    loop {
        if cancelled.is_requested() {
            outcome = Outcome::Cancelled;
        }
        let due = if outcome == Outcome::Succeeded { Due::All } else { Due::CleanUp };
        let Some(stage) = stages.begin_stage(due) else { return outcome };
        tracing::info!("Starting: {stage}");
        outlet.publish(execution_handler(&stage)).await;
        let executed = stages.execute(cancelled.clone()).await;
        for _ in 0..executed.events {
            outlet.publish(of_task(&stage)).await;
        }
        tracing::info!("Finishing: {stage}");
        stages.end_stage();
        if outcome == Outcome::Succeeded {
            outcome = executed.outcome;
        }
    }
}
