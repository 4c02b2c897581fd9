//! Shared state that can be waited for, and work that goes on beside the main line of a process.
//!
//! An agent is one future. What would be a task of its own elsewhere is a future in [`Tasks`], and what tasks tell each
//! other goes through a [`Watch`].

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::Event;
use futures_util::StreamExt;
use futures_util::future::{self, BoxFuture, Either};
use futures_util::stream::FuturesUnordered;

/// A value that many can set and wait for. Clones share it.
pub struct Watch<T>(Arc<Watched<T>>);

struct Watched<T> {
    value: Mutex<T>,
    changed: Event,
}

impl<T> Watch<T> {
    /// Starts with `value`.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Watched { value: Mutex::new(value), changed: Event::new() }))
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        self.change(|old| *old = value);
    }

    /// Changes the value in place and tells everybody who waits.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let done = change(&mut self.lock());
        self.0.changed.notify(usize::MAX);
        done
    }

    /// Looks at the value.
    pub fn see<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock())
    }

    /// Ends once `pick` finds something in the value.
    pub async fn until<R>(&self, mut pick: impl FnMut(&T) -> Option<R>) -> R {
        loop {
            let changed = self.0.changed.listen();
            if let Some(found) = self.see(&mut pick) {
                return found;
            }
            changed.await;
        }
    }

    /// Ends once the value is one that `wanted` accepts.
    pub async fn is(&self, mut wanted: impl FnMut(&T) -> bool) {
        self.until(|value| wanted(value).then_some(())).await;
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Watch<T> {
    /// A copy of the value.
    pub fn get(&self) -> T {
        self.lock().clone()
    }
}

impl<T> Clone for Watch<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for Watch<T> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(to)
    }
}

/// Futures that go on beside the main line of a process, and end with it.
#[derive(Clone)]
pub struct Tasks(Watch<Vec<BoxFuture<'static, ()>>>);

impl Tasks {
    /// None yet.
    pub fn new() -> Self {
        Self(Watch::new(Vec::new()))
    }

    /// Lets `task` go on as soon as somebody drives the tasks.
    pub fn add(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.change(|waiting| waiting.push(Box::pin(task)));
    }

    /// Runs `main` to its end and all tasks beside it; what is left of them then is dropped.
    pub async fn beside<T>(&self, main: impl Future<Output = T>) -> T {
        match future::select(pin!(main), pin!(self.drive())).await {
            Either::Left((done, _)) => done,
            Either::Right((never, _)) => match never {},
        }
    }

    async fn drive(&self) -> std::convert::Infallible {
        let mut running = FuturesUnordered::new();
        loop {
            let arrived = self.0.until(|waiting| (!waiting.is_empty()).then_some(()));
            if running.is_empty() {
                arrived.await;
            } else {
                future::select(pin!(arrived), running.next()).await;
            }
            running.extend(self.0.change(std::mem::take));
        }
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Tasks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_with_the_change() {
        let watch = Watch::new(0);
        let waiter = watch.clone();
        let (seen, ()) = future::join(waiter.until(|value| (*value > 1).then_some(*value)), async {
            watch.set(1);
            tokio::task::yield_now().await;
            watch.set(2);
        })
        .await;
        assert_eq!(seen, 2);
    }

    #[tokio::test]
    async fn tasks_run_beside_and_may_add_tasks() {
        let (tasks, log) = (Tasks::new(), Watch::new(Vec::new()));
        let done = tasks
            .beside(async {
                let (more, inner, outer) = (tasks.clone(), log.clone(), log.clone());
                tasks.add(async move {
                    outer.change(|log| log.push("outer"));
                    more.add(async move { inner.change(|log| log.push("inner")) });
                });
                log.is(|log| log.len() == 2).await;
                "main"
            })
            .await;
        assert_eq!((done, log.get()), ("main", vec!["outer", "inner"]));
    }
}
