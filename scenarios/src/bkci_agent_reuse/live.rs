//! The server on a real port.

use std::sync::Arc;

use futures_util::FutureExt;
use rand::RngCore;
use serde_json::json;
use squall_protocol::Random;
use squall_protocol::bkci::Choices;
use squall_protocol::bkci::server::{BuildSpec, Import, JobSpec, Parts, Place, Server};
use squall_protocol::bkci::wire::BUILD_TYPE;
use squall_sim::invariant::Invariant;
use squall_sim::invariant::giving_up::CancelledOnRequest;
use squall_sim::invariant::jobs::ReportedResultStays;
use squall_sim::invariant::locks::{DeadHoldersLockFreed, LockTokensGrow, OneLockHolder};
use squall_sim::invariant::queue::{QueuedJobEnds, WaitingJobTaken, WaitsFor};

use super::{BUILDS_END, BkciAgentReuse, CLAIMED, LOCK_FREED, NAME};
use crate::serve::{Admin, NoSetting, Offer, Serve, Wanted, entropy};

/// The agent that is imported from the start.
const AGENT: &str = "agent-1";
/// Its project.
const PROJECT: &str = "squall";
/// How many workers it may run at once.
const PARALLEL_TASK_COUNT: u32 = 1;
/// The bytes of a secret.
const SECRET_BYTES: usize = 24;

impl Serve for BkciAgentReuse {
    fn name(&self) -> &'static str {
        NAME
    }

    fn offer(&self, wanted: Wanted) -> Result<Offer, NoSetting> {
        let mut random = entropy();
        let admin = Admin { url: format!("{}/squall/admin", wanted.origin), token: secret(&mut random) };
        let import = Import {
            project_id: PROJECT.to_owned(),
            agent_id: AGENT.to_owned(),
            secret_key: secret(&mut random),
            parallel_task_count: PARALLEL_TASK_COUNT,
        };
        let credentials = json!({
            "gateway": wanted.origin,
            "build_type": BUILD_TYPE,
            "project_id": import.project_id,
            "agent_id": import.agent_id,
            "secret_key": import.secret_key,
            "parallel_task_count": import.parallel_task_count,
        });
        let server = Server::new(Parts {
            choices: Choices::upstream(),
            clock: wanted.clock.clone(),
            ledger: wanted.ledger.clone(),
            random,
            mischance: entropy(),
            redis_clock: wanted.clock,
            redis_ledger: wanted.ledger,
            admin_token: Some(admin.token.clone()),
        });
        server.import(import);
        for n in 1..=wanted.jobs {
            let jobs = vec![JobSpec { stage: 0, place: Place::Environment }];
            server.start_build(BuildSpec { name: format!("job-{n}"), jobs }).expect("each name is new");
        }
        let engine = Arc::new(server.clone());
        Ok(Offer {
            router: server.router(),
            background: async move { engine.run().await }.boxed(),
            admin,
            credentials,
            invariants: invariants(),
        })
    }
}

fn secret(random: &mut Random) -> String {
    let mut bytes = [0; SECRET_BYTES];
    random.fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What can be told from what the server saw alone.
fn invariants() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(ReportedResultStays),
        Box::new(CancelledOnRequest),
        Box::new(OneLockHolder::default()),
        Box::new(LockTokensGrow),
        Box::new(DeadHoldersLockFreed { bound: LOCK_FREED }),
        Box::new(QueuedJobEnds { bound: BUILDS_END, ..QueuedJobEnds::default() }),
        Box::new(WaitingJobTaken { bound: CLAIMED, waits_for: WaitsFor::TheAgentItIsOfferedTo }),
    ]
}
