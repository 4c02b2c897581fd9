//! The service on a real port.

use futures_util::FutureExt;
use squall_protocol::actions::server::{Addresses, Flow, JobSpec, Lifetime, Parameters, Policy, Registration, Server};
use squall_protocol::jwt::PrivateKey;

use super::{ActionsIdleRunner, NAME};
use crate::distributed_task::served::{AGENT_KEY_BITS, credentials, invariants, own_invariants};
use crate::serve::{Admin, NoSetting, Offer, Serve, Wanted, entropy};

/// The agent that is registered from the start.
const AGENT: &str = "runner-1";

impl Serve for ActionsIdleRunner {
    fn name(&self) -> &'static str {
        NAME
    }

    fn own_invariants(&self) -> Vec<(&'static str, &'static str)> {
        own_invariants()
    }

    fn offer(&self, wanted: Wanted) -> Result<Offer, NoSetting> {
        let mut random = entropy();
        let admin = Admin::at(&wanted.origin, &mut random);
        let mut parameters = Parameters::new(Addresses::on(&wanted.origin));
        parameters.admin_token = Some(admin.token.clone());
        let invariants = invariants(&parameters);
        let key = PrivateKey::generate(AGENT_KEY_BITS, &mut random).expect("a size that RSA allows");
        let server = Server::new(parameters, Policy::upstream(), wanted.clock, wanted.ledger, random);
        let registered = server.register(Registration {
            name: AGENT.to_owned(),
            pool: 1,
            // Such an agent is told where the broker is, and may speak V1 all the same.
            flow: Flow::V2,
            encryption: wanted.encryption,
            lifetime: Lifetime::Persistent,
            public_key: key.public(),
        });
        for n in 1..=wanted.jobs {
            server.queue_job(JobSpec::named(format!("job-{n}")));
        }
        Ok(Offer {
            router: server.router(),
            background: async move { server.housekeeping().await }.boxed(),
            admin,
            credentials: credentials(AGENT, &registered, &key),
            invariants,
        })
    }
}
