//! The agent's update of itself (`SelfUpdater.cs`): a package, and an end when no job is in hand.

use std::sync::Arc;

use http::Method;

use crate::azure::wire::PACKAGES;
use crate::disk::Disk;
use crate::distributed_task::agent::{Dispatcher, Station};
use crate::distributed_task::client::Call;
use crate::distributed_task::failure::Failure;
use crate::distributed_task::task_server::successful;
use crate::distributed_task::wire::AgentRefreshMessage;
use crate::signal::Watch;

use super::VERSION;
use super::location::SEND_TIMEOUT;

/// Holds the version that the last update put in place; without it, it is the one that was installed first.
const VERSION_FILE: &str = ".version";

/// How an update ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Updated {
    /// The new version waits for the end of this process.
    Ready,
    /// There is no package to be had, or none that is newer.
    Failed,
}

/// The version that this process is.
pub(super) fn installed(disk: &dyn Disk) -> String {
    let updated = disk.read(VERSION_FILE).ok().and_then(|version| String::from_utf8(version.to_vec()).ok());
    updated.unwrap_or_else(|| VERSION.to_owned())
}

/// Is there something to update to (`SelfUpdater.UpdateNeeded`)? A version that is no row of numbers is no newer one.
fn is_newer(version: &str, installed: &str) -> bool {
    let numbers = |text: &str| text.split('.').map(str::parse).collect::<Result<Vec<u32>, _>>().ok();
    numbers(version) > numbers(installed)
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
            Ok(()) if !is_newer(&order.target_version, &installed(&*of.disk)) => {
                tracing::info!("Version {} is no newer than what is installed.", order.target_version);
                Updated::Failed
            }
            Ok(()) => {
                dispatcher.idle().await;
                put_in_place(&of, &order.target_version)
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

/// The next process is the new version, even after a loss of power: the order may come again, and must find it done.
fn put_in_place(station: &Station, version: &str) -> Updated {
    let written = station.disk.write(VERSION_FILE, version.as_bytes());
    match written.and_then(|()| station.disk.sync(VERSION_FILE)) {
        Ok(()) => Updated::Ready,
        Err(error) => {
            tracing::warn!("Unable to put version {version} in place: {error}");
            Updated::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_rows_of_numbers() {
        for (version, newer) in
            [("3.241.0", true), ("3.240.10", true), ("4.0.0", true), ("3.240.1", false), ("3.99.9", false)]
        {
            assert_eq!(is_newer(version, VERSION), newer, "{version}");
        }
        assert!(!is_newer("latest", VERSION));
    }
}
