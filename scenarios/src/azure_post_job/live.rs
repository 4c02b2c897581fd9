//! The service on a real port.

use futures_util::FutureExt;
use squall_protocol::azure::server::{Parameters, Server};
use squall_protocol::distributed_task::server::{Addresses, Flow, JobSpec, Lifetime, Policy, Registration};
use squall_protocol::jwt::PrivateKey;

use crate::distributed_task::served::{AGENT_KEY_BITS, credentials, invariants, own_invariants};
use crate::serve::{Admin, NoSetting, Offer, Serve, Wanted, entropy};

use super::{AzurePostJob, NAME};

/// The agent that is registered from the start.
const AGENT: &str = "agent-1";

impl Serve for AzurePostJob {
    fn name(&self) -> &'static str {
        NAME
    }

    fn own_invariants(&self) -> Vec<(&'static str, &'static str)> {
        own_invariants()
    }

    fn offer(&self, wanted: Wanted) -> Result<Offer, NoSetting> {
        let mut random = entropy();
        let admin = Admin::at(&wanted.origin, &mut random);
        let mut parameters = Parameters::new(Addresses::on(&wanted.origin), format!("{}/location/", wanted.origin));
        parameters.tasks.admin_token = Some(admin.token.clone());
        let (invariants, location) = (invariants(&parameters.tasks), parameters.location.clone());
        let key = PrivateKey::generate(AGENT_KEY_BITS, &mut random).expect("a size that RSA allows");
        let server = Server::new(parameters, Policy::upstream(), wanted.clock, wanted.ledger, random);
        let registered = server.tasks().register(Registration {
            name: AGENT.to_owned(),
            pool: 1,
            flow: Flow::V1,
            encryption: wanted.encryption,
            lifetime: Lifetime::Persistent,
            public_key: key.public(),
        });
        for n in 1..=wanted.jobs {
            server.tasks().queue_job(JobSpec::named(format!("job-{n}")));
        }
        let mut credentials = credentials(AGENT, &registered, &key);
        credentials["location_url"] = location.into();
        Ok(Offer {
            router: server.router(),
            background: async move { server.housekeeping().await }.boxed(),
            admin,
            credentials,
            invariants,
        })
    }
}
