//! Work that goes on when whoever asked for it has given up waiting.

use std::future::Future;

use crate::signal::{Tasks, Watch};

enum Promise<T> {
    Open,
    Kept(Option<T>),
    Broken,
}

/// Breaks a promise that nobody will keep any more.
struct Keeper<T>(Watch<Promise<T>>);

impl<T> Drop for Keeper<T> {
    fn drop(&mut self) {
        self.0.change(|promise| {
            if matches!(promise, Promise::Open) {
                *promise = Promise::Broken;
            }
        });
    }
}

/// Lets `work` go on among `tasks`, and waits for what comes of it: `None` when the tasks end before.
pub(super) async fn later<T: Send + 'static>(
    tasks: &Tasks,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let promise = Watch::new(Promise::Open);
    let keeper = Keeper(promise.clone());
    tasks.add(async move {
        let done = work.await;
        keeper.0.set(Promise::Kept(Some(done)));
    });
    promise.is(|promise| !matches!(promise, Promise::Open)).await;
    promise.change(|promise| match promise {
        Promise::Kept(done) => done.take(),
        Promise::Open | Promise::Broken => None,
    })
}

#[cfg(test)]
mod tests {
    use futures_util::future;

    use super::*;

    #[tokio::test]
    async fn it_goes_on_without_whoever_asked() {
        let (tasks, log) = (Tasks::new(), Watch::new(0));
        let done = log.clone();
        drop(later(&tasks, async {}));
        let asked = tasks.clone();
        tasks
            .beside(async {
                let work = async move {
                    tokio::task::yield_now().await;
                    done.set(1);
                };
                let waiting = Box::pin(later(&asked, work));
                // Polled once, and dropped.
                drop(future::select(waiting, future::ready(())).await);
                log.is(|log| *log == 1).await;
            })
            .await;
    }

    #[tokio::test]
    async fn a_promise_of_tasks_that_ended_is_broken() {
        let tasks = Tasks::new();
        let waiting = later(&tasks, future::pending::<()>());
        let ended = async {
            tokio::task::yield_now().await;
            tasks.beside(tokio::task::yield_now()).await;
        };
        assert_eq!(future::join(waiting, ended).await.0, None);
    }
}
