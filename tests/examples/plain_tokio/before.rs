//! The agent as it was written, for tokio and nothing else.
#![expect(clippy::disallowed_methods, reason = "this is what agents look like before they are brought in")]

use std::time::Duration;

use axum::http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

type Error = Box<dyn std::error::Error + Send + Sync>;

pub struct Agent {
    client: Client<HttpConnector, Empty<Bytes>>,
    url: String,
    pace: Duration,
}

impl Agent {
    pub fn new(url: &str, pace: Duration) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), url: url.to_owned(), pace }
    }

    /// Takes a piece of work, does it, and sends heartbeats meanwhile.
    pub async fn work_once(&self) -> Result<String, Error> {
        let (client, url, pace) = (self.client.clone(), self.url.clone(), self.pace);
        let beating = tokio::spawn(async move {
            loop {
                let beat = Request::post(format!("{url}/heartbeat")).body(Empty::new()).expect("a valid request");
                let _ = client.request(beat).await;
                tokio::time::sleep(pace + pace * (rand::random::<u32>() % 4) / 4).await;
            }
        });
        let done = self.work().await;
        beating.abort();
        done
    }

    async fn work(&self) -> Result<String, Error> {
        let ask = Request::post(format!("{}/work", self.url)).body(Empty::new())?;
        let answer = tokio::time::timeout(self.pace * 5, self.client.request(ask)).await??;
        let work = answer.into_body().collect().await?.to_bytes();
        tokio::time::sleep(self.pace * 3).await;
        Ok(String::from_utf8(work.to_vec())?)
    }
}
