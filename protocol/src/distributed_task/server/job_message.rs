//! What an agent is told of a job.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::parameters::Flow;
use super::state::{JobNumber, State, Subject};
use crate::distributed_task::wire::v2::RunnerJobRequestRef;
use crate::distributed_task::wire::{
    Authorization, Endpoint, JobMessage, JobResources, PlanReference, TimelineReference, VariableValue, lock_token,
    message_type,
};
use crate::lease::Fencing;

impl State {
    /// Where a V2 agent can acquire the job of an offer.
    pub(super) fn reference(&self, request: Uuid) -> RunnerJobRequestRef {
        let run_service = self.parameters.addresses.run_service.trim_end_matches('/');
        RunnerJobRequestRef {
            id: request.to_string(),
            runner_request_id: request.to_string(),
            should_acknowledge: self.parameters.should_acknowledge,
            run_service_url: format!("{run_service}/"),
            billing_owner_id: None,
        }
    }

    /// The job as its agent gets it, with a token for this attempt. By its kind and its endpoint the worker tells whom it
    /// reports to: the run service in V2.
    pub(super) fn job_message(
        &mut self,
        number: JobNumber,
        flow: Flow,
        locked_until: Option<Timestamp>,
        now: Timestamp,
    ) -> JobMessage {
        let attempt = self.jobs[&number].attempt;
        let token = self.draw_token();
        let life = self.parameters.job_token_life;
        self.tokens.issue(token.clone(), Subject::Attempt(number, attempt), life, now);
        let (job, parameters) = (&self.jobs[&number], &self.parameters);
        let (kind, url) = match flow {
            Flow::V1 => (message_type::PIPELINE_AGENT_JOB_REQUEST, &parameters.addresses.tenant),
            Flow::V2 => (message_type::RUNNER_JOB_REQUEST, &parameters.addresses.run_service),
        };
        let mut variables: BTreeMap<String, VariableValue> = BTreeMap::new();
        for (name, value) in &job.spec.variables {
            variables.insert(name.clone(), VariableValue { value: value.clone(), is_secret: false });
        }
        variables.insert(JobMessage::ATTEMPT.into(), VariableValue { value: attempt.to_string(), is_secret: false });
        let system = Endpoint {
            name: JobMessage::SYSTEM_CONNECTION.into(),
            url: url.clone(),
            authorization: Authorization {
                scheme: "OAuth".into(),
                parameters: BTreeMap::from([("AccessToken".into(), token)]),
            },
            data: BTreeMap::from([("ServerName".into(), "squall".into())]),
        };
        JobMessage {
            message_type: kind.into(),
            plan: PlanReference {
                scope_identifier: Uuid::nil(),
                plan_id: job.plan,
                plan_type: parameters.hub.clone(),
                version: parameters.plan_version,
            },
            timeline: TimelineReference { id: job.timeline, ..TimelineReference::default() },
            job_id: job.id,
            job_display_name: job.name.to_string(),
            job_name: job.name.to_string(),
            request_id: number,
            locked_until,
            resources: JobResources { endpoints: vec![system] },
            variables,
            steps: job.spec.steps.clone(),
            lock_token: (self.policy.fencing == Fencing::Checked).then(|| lock_token(job.lock)),
            ..JobMessage::default()
        }
    }
}
