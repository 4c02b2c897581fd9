//! The message queue of a scale set: polls, acknowledgements, acquisitions.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::Server;
use super::failure::Failure;
use super::jobs::message_name;
use super::state::{Envelope, JobNumber, News, Phase, RequestId, ScaleSet, SetId, State, Subject};
use crate::arc::server::parameters::{Assignment, SecondDelete};
use crate::arc::wire::{JOB_MESSAGES, JobMessage, Listed, MAX_CAPACITY, Message, RunnerFields, Statistics};
use crate::call::Call;
use crate::deadlines::after;
use crate::effect::OnEffect;
use crate::facts::{Fact, Outcome};
use crate::long_poll::{self, Look};
use crate::queue::Redelivery;

impl Server {
    /// The next message for the session that calls; `None` when there was none for as long as polls are held.
    pub(super) async fn poll(&self, call: &Call) -> Result<Option<Message>, Failure> {
        let capacity = call.header(MAX_CAPACITY).and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
        let cursor = call.query("lastMessageId").and_then(|id| id.parse().ok());
        let (set, session) = self.with(|state, now| {
            let (set, session) = state.caller(call, now)?;
            state.sets.get_mut(&set).ok_or(Failure::Unauthorized)?.capacity = capacity;
            Ok::<_, Failure>((set, session))
        })?;
        let look = || {
            self.with(|state, now| {
                let woken = state.sets.get(&set).ok_or(Failure::Unauthorized)?.wake.listen();
                if state.sessions.get(&session).is_none() {
                    return Err(Failure::Unauthorized);
                }
                state.announce(set, now);
                Ok(state.deliver(set, cursor, now).map_or(Look::Nothing { woken, again: None }, Look::Found))
            })
        };
        match long_poll::held(&*self.0.clock, self.0.parameters.poll_hold, look).await? {
            Some(message) => Ok(Some(message)),
            None => self.with(|state, now| state.touch(session, now).map(|()| None)),
        }
    }
}

impl State {
    /// Whose session a call to the queue is in. It extends the session's life.
    pub(super) fn caller(&mut self, call: &Call, now: Timestamp) -> Result<(SetId, Uuid), Failure> {
        let token = call.authorization("bearer").ok_or(Failure::Unauthorized)?;
        let Ok(Subject::Queue(set, session)) = self.tokens.subject(token, now).cloned() else {
            return Err(Failure::Unauthorized);
        };
        if self.known_from.get(token).is_some_and(|from| now < *from) {
            return Err(Failure::Unauthorized);
        }
        self.touch(session, now)?;
        Ok((set, session))
    }

    /// Extends a session's life.
    pub(super) fn touch(&mut self, session: Uuid, now: Timestamp) -> Result<(), Failure> {
        self.sessions.refresh(&session, now).ok_or(Failure::Unauthorized)?;
        self.record(Fact::SessionRefreshed { session: session.to_string().into() });
        Ok(())
    }

    /// Offers queued jobs to a set, as far as its capacity goes.
    fn announce(&mut self, set: SetId, now: Timestamp) {
        let (name, capacity) = (self.sets[&set].name.clone(), self.sets[&set].capacity);
        let of_set: Vec<JobNumber> =
            self.open.iter().copied().filter(|number| self.jobs[number].set == *name.0).collect();
        let taken = |number: &&JobNumber| {
            let job = &self.jobs[number];
            job.told || job.phase != Phase::Queued
        };
        let room = capacity.saturating_sub(of_set.iter().filter(taken).count());
        let waiting: Vec<JobNumber> = of_set.iter().filter(|number| !taken(number)).copied().take(room).collect();
        for number in waiting {
            match self.parameters.assignment {
                Assignment::Automatic => self.assign(number, set, now),
                Assignment::Acquired => {
                    let job = self.jobs.get_mut(&number).expect("it was just found");
                    job.told = true;
                    let request = job.request;
                    if let Some(again) = self.parameters.offered_again {
                        self.retold.set(number, after(now, again));
                    }
                    self.tell(set, News::Available(request));
                }
            }
        }
    }

    /// Hands out the first message after `cursor`, made of what is pending if there is none.
    fn deliver(&mut self, id: SetId, cursor: Option<i64>, now: Timestamp) -> Option<Message> {
        let batch = self.parameters.batch;
        let set = self.sets.get_mut(&id)?;
        if set.queue.next_delivery(cursor).is_none() && !set.pending.is_empty() {
            let rest = set.pending.split_off(batch.min(set.pending.len()));
            let news = std::mem::replace(&mut set.pending, rest);
            set.queue.push(Envelope::Jobs(news), Redelivery::AtOnce);
        }
        let (message_id, envelope) = set.queue.deliver(cursor, now)?;
        let envelope = envelope.clone();
        let set = &self.sets[&id];
        let statistics = self.statistics_sent(set, now);
        let (message_type, body) = match &envelope {
            Envelope::Novel => ("RunnerScaleSetNotices", "[]".to_owned()),
            Envelope::Jobs(news) => {
                for message in news.iter().copied().filter_map(message_name) {
                    self.record(Fact::MessageDelivered { message, agent: set.name.clone() });
                }
                let told: Vec<JobMessage> = news.iter().map(|news| self.told(*news)).collect();
                (JOB_MESSAGES, serde_json::to_string(&told).expect("wire types are plain JSON"))
            }
        };
        Some(Message { message_id, message_type: message_type.to_owned(), body, statistics })
    }

    fn told(&self, news: News) -> JobMessage {
        let runner = |id| {
            let name = self.runners.get(&id).map(|runner| runner.name.to_string()).unwrap_or_default();
            RunnerFields { runner_id: id, runner_name: name }
        };
        match news {
            News::Available(request) => {
                JobMessage::JobAvailable { acquire_job_url: String::new(), job: self.fields(request) }
            }
            News::Assigned(request) => JobMessage::JobAssigned { job: self.fields(request) },
            News::Started(request, id) => JobMessage::JobStarted { runner: runner(id), job: self.fields(request) },
            News::Completed(request, id) => {
                let job = self.by_request.get(&request).and_then(|number| self.jobs.get(number));
                let result = match job.and_then(|job| job.result) {
                    Some(Outcome::Succeeded) => "succeeded",
                    Some(Outcome::Failed) => "failed",
                    _ => "canceled",
                };
                JobMessage::JobCompleted { result: result.to_owned(), runner: runner(id), job: self.fields(request) }
            }
        }
    }

    /// Forgets a message: its receiver says that it had it.
    pub(super) fn acknowledge(&mut self, set: SetId, id: &str) -> Result<(), Failure> {
        let unknown = || Failure::MessageNotFound(id.to_owned());
        let number = id.parse::<i64>().map_err(|_| unknown())?;
        let queue = &mut self.sets.get_mut(&set).ok_or(Failure::Unauthorized)?.queue;
        match queue.remove(number) {
            Some(envelope) => {
                let news = if let Envelope::Jobs(news) = envelope { news } else { Vec::new() };
                for message in news.into_iter().filter_map(message_name) {
                    self.record(Fact::MessageAcked { message });
                }
                Ok(())
            }
            None => match self.parameters.second_delete {
                SecondDelete::Succeeds => Ok(()),
                SecondDelete::NotFound => Err(unknown()),
            },
        }
    }

    /// Makes jobs the set's, and says which of those asked for are.
    pub(super) fn acquire(&mut self, set: SetId, asked: &[RequestId], now: Timestamp) -> Listed<RequestId> {
        let most = self.parameters.acquired_at_once.unwrap_or(usize::MAX);
        let mut fresh = 0;
        let mut acquired = Vec::new();
        for request in asked {
            let job = self.by_request.get(request).and_then(|number| self.jobs.get(number));
            let Some(job) = job.filter(|job| job.request == *request && job.set == *self.sets[&set].name.0) else {
                self.settled(*request);
                continue;
            };
            match job.phase {
                Phase::Queued if fresh < most => {
                    fresh += 1;
                    self.assign(job.number, set, now);
                }
                // Whoever asks again is told the same.
                Phase::Assigned | Phase::Running(_) => {}
                Phase::Queued => continue,
                Phase::Closed => {
                    self.settled(*request);
                    continue;
                }
            }
            self.settled(*request);
            acquired.push(*request);
        }
        acquired.into()
    }

    /// What the message about an available job asked for has been done, or nothing is left to do.
    fn settled(&self, request: RequestId) {
        if let Some(message) = message_name(News::Available(request)) {
            self.record(Fact::MessageHandled { message });
        }
    }

    /// For so long messages lack their statistics.
    pub(super) fn lose_statistics(&mut self, lasting: Duration, now: Timestamp, on_effect: OnEffect) {
        self.no_statistics = Some((after(now, lasting), on_effect));
    }

    /// Those that go with a message which is sent now.
    fn statistics_sent(&self, set: &ScaleSet, now: Timestamp) -> Option<Statistics> {
        match &self.no_statistics {
            Some((until, on_effect)) if now < *until => {
                on_effect.tell();
                None
            }
            _ => Some(self.statistics(set)),
        }
    }
}
