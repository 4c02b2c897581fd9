//! All scenarios, by the order in which they are listed.

use squall_sim::scenario::Scenario;

use crate::actions_idle_runner::ActionsIdleRunner;
use crate::arc_listener_session::ArcListenerSession;
use crate::azure_post_job::AzurePostJob;
use crate::bkci_agent_reuse::BkciAgentReuse;
use crate::flox_download::FloxDownload;
use crate::serve::Serve;

/// Every scenario there is.
pub fn scenarios() -> Vec<&'static dyn Scenario> {
    vec![&AzurePostJob, &BkciAgentReuse, &ActionsIdleRunner, &ArcListenerSession, &FloxDownload]
}

/// Those of them that have a server to serve on a real port.
pub fn servers() -> Vec<&'static dyn Serve> {
    vec![&AzurePostJob, &BkciAgentReuse, &ActionsIdleRunner, &ArcListenerSession, &FloxDownload]
}
