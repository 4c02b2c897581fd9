//! What the listener asks of the cluster (`cmd/ghalistener/scaler/scaler.go`).

use std::time::Duration;

use http::{Method, StatusCode};
use rand::RngCore;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::api::Api;
use super::failure::{Failure, Trouble};
use crate::arc::choices::{ClusterErrors, PatchNumber};
use crate::arc::cluster::{runner_set_path, runner_status_path};
use crate::arc::wire::{JobFields, RunnerFields};
use crate::clock;
use crate::distributed_task::client::Call;
use crate::http as transport;

/// How long the client of the cluster's API waits on a silent connection: 30 s until it pings, 15 s for the answer
/// (`ReadIdleTimeout` and `PingTimeout` of `k8s.io/apimachinery`).
pub const SILENCE: Duration = Duration::from_secs(45);
/// The pauses of the repaired listener between its attempts.
const PAUSES: std::ops::Range<Duration> = crate::line::seconds(1..10);
/// The largest answer that is read.
const MAX_BODY: usize = 1 << 20;

/// Asks for as many runners as there are jobs.
pub(super) struct Scaler<'a> {
    api: &'a Api,
    target: Option<u32>,
    number: u32,
    /// Jobs were started or completed since the last patch.
    dirty: bool,
}

impl<'a> Scaler<'a> {
    pub(super) fn new(api: &'a Api) -> Self {
        let number = match api.choices.patch_number {
            PatchNumber::FromZero => u32::MAX,
            // Half of what a Go `int32` holds leaves room to count.
            PatchNumber::FromDrawn => api.line.random.with(|random| random.next_u32() >> 2),
        };
        Self { api, target: None, number, dirty: false }
    }

    /// Asks for a runner for each job, within the limits.
    pub(super) async fn scale(&mut self, assigned: u32) -> Result<(), Failure> {
        let patch_id = self.next_number(assigned);
        let target = self.target.unwrap_or_default();
        let patch = json!({"spec": {"replicas": target, "patchID": patch_id}});
        let path = runner_set_path(&self.api.configuration.scale_set);
        self.patch(&path, &patch).await.map(drop)
    }

    /// Notes in the cluster which job a runner executes. A runner that is gone needs no note.
    pub(super) async fn job_started(&mut self, runner: &RunnerFields, job: &JobFields) -> Result<(), Failure> {
        self.dirty = true;
        let patch = json!({"status": {
            "jobRequestId": job.runner_request_id,
            "jobRepositoryName": format!("{}/{}", job.owner_name, job.repository_name),
            "jobId": job.job_id,
            "workflowRunId": job.workflow_run_id,
            "jobDisplayName": job.job_display_name,
        }});
        match self.patch(&runner_status_path(&runner.runner_name), &patch).await {
            Err(failure) if self.api.choices.cluster_errors == ClusterErrors::Logged => {
                tracing::warn!("could not patch ephemeral runner status: {failure}");
                Ok(())
            }
            done => done,
        }
    }

    pub(super) fn job_completed(&mut self) {
        self.dirty = true;
    }

    /// `setDesiredWorkerState`: the number is 0 when nothing happened and as few runners as possible are wanted, so that
    /// the runner set puts itself right.
    fn next_number(&mut self, assigned: u32) -> u32 {
        let dirty = std::mem::take(&mut self.dirty);
        let (min, max) = (self.api.configuration.min_runners, self.api.configuration.max_runners);
        let target = min.saturating_add(assigned).min(max);
        let before = self.target.replace(target);
        self.number = if self.number == i32::MAX as u32 { 1 } else { self.number.wrapping_add(1) };
        if !dirty && before == Some(target) && target == min { 0 } else { self.number }
    }

    async fn patch(&self, path: &str, patch: &Value) -> Result<(), Failure> {
        loop {
            match self.attempt(path, patch).await {
                Ok(()) | Err(Trouble::Status(StatusCode::NOT_FOUND)) => return Ok(()),
                Err(trouble) if self.is_fatal(path) => return Err(Failure::Cluster(trouble)),
                // A name that cannot be asked for is nobody's.
                Err(trouble @ Trouble::Unsendable(_)) => {
                    tracing::warn!("could not patch {path}: {trouble}");
                    return Ok(());
                }
                Err(trouble) => {
                    tracing::warn!("could not patch {path}: {trouble}");
                    self.api.line.sleep_uniform(PAUSES).await;
                }
            }
        }
    }

    /// 0.7.0 lets nothing but the note of a job's start go.
    fn is_fatal(&self, path: &str) -> bool {
        match self.api.choices.cluster_errors {
            ClusterErrors::Fatal => true,
            ClusterErrors::Logged => path.ends_with("/status"),
            ClusterErrors::Retried => false,
        }
    }

    async fn attempt(&self, path: &str, patch: &Value) -> Result<(), Trouble> {
        let url = format!("{}{path}", self.api.configuration.cluster_url.trim_end_matches('/'));
        let mut call = Call::new(Method::PATCH, url, SILENCE).json(patch);
        call.headers.push((http::header::USER_AGENT, "ghalistener".to_owned()));
        let line = &self.api.line;
        let work = async {
            let answered = line.http.clone().oneshot(call.request(None)?).await?;
            let status = answered.status();
            let body = transport::read(answered.into_body(), MAX_BODY).await?;
            let is_object = serde_json::from_slice::<Value>(&body).is_ok_and(|body| body["kind"].is_string());
            match status.is_success() && is_object {
                true => Ok(()),
                false => Err(Trouble::Status(status)),
            }
        };
        clock::timeout(&*line.clock, call.send_timeout, work)
            .await
            .unwrap_or_else(|clock::Timeout(limit)| Err(Trouble::TimedOut(limit)))
    }
}
