//! The agent's update of itself (`SelfUpdater.cs`): a package, and an end when no job is in hand.

use std::sync::Arc;

use http::Method;

use crate::azure::wire::PACKAGES;
use crate::distributed_task::agent::{Dispatcher, Station};
use crate::distributed_task::client::Call;
use crate::distributed_task::failure::Failure;
use crate::distributed_task::task_server::successful;
use crate::distributed_task::wire::AgentRefreshMessage;
use crate::signal::Watch;

use super::location::SEND_TIMEOUT;

/// How an update ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Updated {
    /// The new version waits for the end of this process.
    Ready,
    /// There is no package to be had.
    Failed,
}

/// Starts an update beside the main line.
pub(super) fn start(
    station: &Arc<Station>,
    dispatcher: &Arc<Dispatcher>,
    order: AgentRefreshMessage,
) -> Watch<Option<Updated>> {
    let (done, dispatcher, of) = (Watch::new(None), dispatcher.clone(), station.clone());
    let tell = done.clone();
    station.tasks.add(async move {
        let updated = match download(&of, &order.target_version).await {
            Ok(()) => {
                dispatcher.idle().await;
                Updated::Ready
            }
            Err(failure) => {
                tracing::warn!("Unable to download agent {}: {failure}", order.target_version);
                Updated::Failed
            }
        };
        tell.set(Some(updated));
    });
    done
}

async fn download(station: &Station, version: &str) -> Result<(), Failure> {
    let url = format!("{}/{PACKAGES}/{version}", station.settings.server_url.trim_end_matches('/'));
    let call = Call::new(Method::GET, url, SEND_TIMEOUT);
    successful(station.vss().send(&call).await?).map(drop)
}
