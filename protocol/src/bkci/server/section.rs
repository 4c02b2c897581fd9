//! Critical sections of the server, kept by locks in Redis (`RedisLock.kt`).

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{self, Either};
use rand::RngCore;

use super::redis::LockName;
use super::{Server, Trouble};
use crate::bkci::choices::{LockClient, SectionLock};
use crate::clock::Mono;
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

/// The lock of a critical section, with the value that its holder knows it by and how long it lives.
struct Held<'a> {
    lock: &'a LockName,
    value: &'a str,
    life: Duration,
}

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
        let held = Held { lock: &lock, value: &value, life };
        let since = self.enter(&held).await?;
        let inside = self.with(|state, _| {
            state.sections += 1;
            let (name, token): (Lock, u64) = (lock.to_string().into(), state.sections);
            state.record(Fact::LockTaken { lock: name.clone(), holder: who.into(), token });
            Inside { server: self, lock: name, token }
        });
        let done = match self.0.choices.section_lock {
            SectionLock::Unrenewed => work.await,
            SectionLock::Renewed => match future::select(pin!(work), pin!(self.outlast(&held, since))).await {
                Either::Left((done, _)) => done,
                Either::Right((lost, _)) => Err(lost),
            },
        };
        drop(inside);
        // What cannot be given back ends by itself.
        let _ = self.with(|state, _| state.redis.unlock(&lock, &value));
        done
    }

    /// Takes the lock. Returns from when on its life counts at the earliest.
    async fn enter(&self, held: &Held<'_>) -> Result<Mono, Trouble> {
        let client = self.0.choices.lock_client;
        let began = self.0.clock.mono();
        if client == LockClient::NoStore {
            return Ok(began);
        }
        loop {
            let asked = self.0.clock.mono();
            let tried = self.with(|state, _| state.redis.try_lock(held.lock, held.value, held.life, held.value));
            match tried {
                Ok(TryLock::Taken(_) | TryLock::ReEntered(_)) => return Ok(asked),
                Err(_) if client == LockClient::FailsOpen => return Ok(asked),
                _ if self.0.clock.mono().since(began) >= PATIENCE => return Err(Trouble::NoLock),
                _ => self.0.clock.sleep(TRY_EVERY).await,
            }
        }
    }

    /// Renews the lock for as long as somebody is inside. Ends when it cannot: then its holder has to leave, since
    /// somebody else may come in.
    async fn outlast(&self, held: &Held<'_>, mut since: Mono) -> Trouble {
        let clock = &self.0.clock;
        loop {
            clock.sleep((held.life * 2 / 3).saturating_sub(clock.mono().since(since))).await;
            let asked = clock.mono();
            match self.with(|state, _| state.redis.renew(held.lock, held.value, held.life)) {
                Ok(true) => since = asked,
                // It never knew whether it had the lock.
                _ if self.0.choices.lock_client != LockClient::FailsClosed => since = asked,
                Ok(false) => return Trouble::NoLock,
                Err(down) if asked.since(since) + TRY_EVERY >= held.life => return down.into(),
                Err(_) => clock.sleep(TRY_EVERY).await,
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
