//! Critical sections of the server, kept by locks in Redis (`RedisLock.kt`).

use std::future::Future;
use std::time::Duration;

use rand::RngCore;

use super::redis::LockName;
use super::{Server, Trouble};
use crate::bkci::choices::LockClient;
use crate::facts::{Fact, Lock};
use crate::lock_store::TryLock;

/// How long `ContainerIdLock` and the locks of the dispatch live.
pub(super) const DISPATCH_LOCK: Duration = Duration::from_secs(60);
/// How long `BuildIdLock` lives.
pub(super) const BUILD_LOCK: Duration = Duration::from_secs(30);
/// How long somebody waits for a lock.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// Somebody is in a critical section, until this is dropped.
struct Inside<'a> {
    server: &'a Server,
    lock: Lock,
    token: u64,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let (lock, token) = (self.lock.clone(), self.token);
        self.server.with(|state, _| state.record(Fact::LockReleased { lock, token }));
    }
}

impl Server {
    /// Does `work` in the critical section of this name, for `who`.
    pub(super) async fn section<T>(
        &self,
        name: String,
        life: Duration,
        who: String,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let value = self.with(|state, _| state.random.next_u64()).to_string();
        let lock = LockName::Section(name);
        self.enter(&lock, &value, life).await?;
        let inside = self.with(|state, _| {
            state.sections += 1;
            let (name, token): (Lock, u64) = (lock.to_string().into(), state.sections);
            state.record(Fact::LockTaken { lock: name.clone(), holder: who.into(), token });
            Inside { server: self, lock: name, token }
        });
        let done = work.await;
        drop(inside);
        // What cannot be given back ends by itself.
        let _ = self.with(|state, _| state.redis.unlock(&lock, &value));
        done
    }

    async fn enter(&self, lock: &LockName, value: &str, life: Duration) -> Result<(), Trouble> {
        let client = self.0.choices.lock_client;
        if client == LockClient::NoStore {
            return Ok(());
        }
        let began = self.0.clock.mono();
        loop {
            let tried = self.with(|state, _| state.redis.try_lock(lock, value, life, value));
            match tried {
                Ok(TryLock::Taken(_) | TryLock::ReEntered(_)) => return Ok(()),
                Err(_) if client == LockClient::FailsOpen => return Ok(()),
                _ if self.0.clock.mono().since(began) >= PATIENCE => return Err(Trouble::NoLock),
                _ => self.0.clock.sleep(TRY_EVERY).await,
            }
        }
    }
}

/// The section in which an agent's builds are claimed and given out.
pub(super) fn of_agent(agent: &str) -> String {
    format!("DISPATCH_REDIS_LOCK_AGENT_{agent}")
}

/// The section in which a build is changed.
pub(super) fn of_build(build: &str) -> String {
    format!("BuildIdLock:{build}")
}
