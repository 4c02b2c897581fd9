//! The same agent over the seams.

use std::sync::{Mutex, PoisonError};

use futures_util::future::{Either, select};
use squall::prelude::*;
use squall::protocol::Random;

type Error = Box<dyn std::error::Error + Send + Sync>;

pub struct Agent {
    clock: Arc<dyn Clock>,
    http: Http,
    random: Mutex<Random>,
    url: String,
    pace: Duration,
}

impl Agent {
    pub fn new(clock: Arc<dyn Clock>, http: Http, random: Random, url: &str, pace: Duration) -> Self {
        Self { clock, http, random: Mutex::new(random), url: url.to_owned(), pace }
    }

    /// Takes a piece of work, does it, and sends heartbeats meanwhile.
    pub async fn work_once(&self) -> Result<String, Error> {
        let (http, url, pace) = (self.http.clone(), self.url.clone(), self.pace);
        let beating = Box::pin(async move {
            loop {
                let beat = Request::post(format!("{url}/heartbeat")).body(http::empty()).expect("a valid request");
                let _ = http.clone().oneshot(beat).await;
                let drawn = self.random.lock().unwrap_or_else(PoisonError::into_inner).next_u32();
                self.clock.sleep(pace + pace * (drawn % 4) / 4).await;
            }
        });
        match select(Box::pin(self.work()), beating).await {
            Either::Left((done, _)) => done,
            Either::Right((never, _)) => never,
        }
    }

    async fn work(&self) -> Result<String, Error> {
        let ask = Request::post(format!("{}/work", self.url)).body(http::empty())?;
        let asked = self.http.clone().oneshot(ask);
        let answer = clock::timeout(&*self.clock, self.pace * 5, asked).await??;
        let work = http::read(answer.into_body(), 1_000).await?;
        self.clock.sleep(self.pace * 3).await;
        Ok(String::from_utf8(work.to_vec())?)
    }
}
