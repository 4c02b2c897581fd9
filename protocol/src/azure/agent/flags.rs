//! Feature flags (`FeatureFlagProvider.cs`): each is asked for over a connection of its own.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method;

use crate::azure::choices::FlagLookUps;
use crate::azure::wire::{FEATURE_FLAGS, FeatureFlag, flag};
use crate::distributed_task::agent::{Preparation, Station};
use crate::distributed_task::client::Call;
use crate::distributed_task::failure::Failure;
use crate::distributed_task::task_server::{read, successful};
use crate::distributed_task::wire::JobMessage;

use super::location::{Locations, SEND_TIMEOUT};

/// The flags of one process.
#[derive(Clone)]
pub(super) struct FeatureFlags {
    locations: Arc<Locations>,
    on_failure: FlagLookUps,
}

impl FeatureFlags {
    pub fn new(locations: Arc<Locations>, on_failure: FlagLookUps) -> Self {
        Self { locations, on_failure }
    }

    /// Is the flag on? One that cannot be asked for is off.
    ///
    /// # Errors
    /// A connection that cannot be made, where that is the choice: it is made outside of the `try` around the question
    /// (`FeatureFlagProvider.cs:58-60`).
    pub async fn is_on(&self, station: &Station, name: &str) -> Result<bool, Failure> {
        let client = station.vss();
        if let Err(failure) = self.locations.look_up(&client).await {
            tracing::warn!("Unable to connect for feature flag {name}: {failure}");
            return match self.on_failure {
                FlagLookUps::LeakRenewals => Err(failure),
                FlagLookUps::FallBack => Ok(false),
            };
        }
        let url = format!("{}/{FEATURE_FLAGS}/{name}", station.settings.server_url.trim_end_matches('/'));
        let call = Call::new(Method::GET, url, SEND_TIMEOUT);
        let asked = async { read::<FeatureFlag>(&successful(client.send(&call).await?)?) };
        match self.locations.in_time(&station.line, asked).await {
            Ok(flag) => Ok(flag.is_on()),
            Err(failure) => {
                tracing::warn!("Feature flag {name} counts as off: {failure}");
                Ok(false)
            }
        }
    }
}

/// What stands between the first renewal of a job and the start of its worker (`JobDispatcher.cs:451-453`).
impl Preparation for FeatureFlags {
    fn prepare<'a>(&'a self, station: &'a Station, _: &'a JobMessage) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            for name in [flag::CHECK_IF_TASK_NODE_RUNNER_IS_DEPRECATED, flag::FAIL_JOB_WHEN_AGENT_DIES] {
                self.is_on(station, name).await?;
            }
            Ok(())
        })
    }
}
