//! The worker processes of the machine.

use std::future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
use futures_util::{FutureExt, select_biased};

use super::{Bench, VirtualClock};
use crate::actions::agent;
use crate::clock::Clock;
use crate::facts::{Job, Outcome};
use crate::signal::Watch;
use crate::supervise::{Exit, Shutdown};
use crate::workers::{Parent, Work, Worker, WorkerError, Workers};

/// How jobs behave.
#[derive(Clone, Copy, Debug)]
pub struct Jobs {
    pub last: Duration,
    pub on_cancel: OnCancel,
    pub pipe: Pipe,
    /// The process dies so long after it began, if it still lives.
    pub dies: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCancel {
    Stops,
    Ignores,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipe {
    Works,
    /// Nothing is ever taken.
    Stuck,
    Broken,
}

impl Jobs {
    pub fn lasting(last: Duration) -> Self {
        Self { last, on_cancel: OnCancel::Stops, pipe: Pipe::Works, dies: None }
    }
}

impl Work for (VirtualClock, Jobs) {
    fn execute(&self, _: Job, _: u32, cancelled: Shutdown) -> BoxFuture<'static, Outcome> {
        let (clock, jobs) = self.clone();
        async move {
            let work = clock.sleep(jobs.last);
            if jobs.on_cancel == OnCancel::Ignores {
                work.await;
                return Outcome::Succeeded;
            }
            match futures_util::future::select(work, pin!(cancelled.requested())).await {
                Either::Left(_) => Outcome::Succeeded,
                Either::Right(_) => Outcome::Cancelled,
            }
        }
        .boxed()
    }
}

/// What became of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub from: Duration,
    pub to: Option<Duration>,
    pub exit: Option<Exit>,
}

impl Workers for Bench {
    fn start(&self) -> BoxFuture<'static, Result<Box<dyn Worker>, WorkerError>> {
        let bench = self.clone();
        async move {
            let number = {
                let mut ran = bench.ran.lock().unwrap();
                ran.push(Ran { from: bench.clock.now(), to: None, exit: None });
                ran.len() - 1
            };
            let pipe = End { queue: Watch::new((Vec::new(), PipeState::Open)), ended: Watch::new(None) };
            let parent = Box::new(Child(pipe.clone()));
            let (kill, ended) = (Watch::new(false), pipe.ended.clone());
            let process = agent::worker(bench.machine(1 + number as u64), bench.choices.clone(), parent, bench.work());
            let (killed, world) = (kill.clone(), bench.clone());
            bench.clock.start(async move {
                let dies = async {
                    match world.jobs.dies {
                        Some(after) => world.clock.sleep(after).await,
                        None => future::pending().await,
                    }
                };
                let exit = select_biased! {
                    code = process.fuse() => Exit::Code(code),
                    () = killed.is(|kill| *kill).fuse() => Exit::Killed,
                    () = dies.fuse() => Exit::Killed,
                };
                let mut ran = world.ran.lock().unwrap();
                (ran[number].to, ran[number].exit) = (Some(world.clock.now()), Some(exit));
                drop(ran);
                ended.set(Some(exit));
            });
            Ok(Box::new(Handle { pipe, kill, kind: bench.jobs.pipe }) as Box<dyn Worker>)
        }
        .boxed()
    }
}

#[derive(Clone)]
struct End {
    queue: Watch<(Vec<Bytes>, PipeState)>,
    ended: Watch<Option<Exit>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PipeState {
    Open,
    Closed,
}

struct Handle {
    pipe: End,
    kill: Watch<bool>,
    kind: Pipe,
}

impl Worker for Handle {
    fn send(&mut self, message: Bytes) -> BoxFuture<'_, Result<(), WorkerError>> {
        async move {
            match self.kind {
                Pipe::Works if self.pipe.ended.get().is_none() => {
                    self.pipe.queue.change(|(queue, _)| queue.push(message));
                    Ok(())
                }
                Pipe::Stuck => future::pending().await,
                _ => Err(WorkerError::BrokenPipe),
            }
        }
        .boxed()
    }
    fn ended(&mut self) -> BoxFuture<'_, Exit> {
        self.pipe.ended.until(|ended| *ended).boxed()
    }
    fn kill(&mut self) {
        self.kill.set(true);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.pipe.queue.change(|(_, state)| *state = PipeState::Closed);
    }
}

struct Child(End);

impl Parent for Child {
    fn receive(&mut self) -> BoxFuture<'_, Option<Bytes>> {
        async move {
            self.0.queue.is(|(queue, state)| !queue.is_empty() || *state == PipeState::Closed).await;
            self.0.queue.change(|(queue, _)| (!queue.is_empty()).then(|| queue.remove(0)))
        }
        .boxed()
    }
}
