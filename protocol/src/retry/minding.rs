//! A client that minds what its servers ask for in `Retry-After`, whichever of its layers calls again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, Request, Response, Uri};
use tower::ServiceExt;
use tower::service_fn;
use tower::util::BoxCloneSyncService;

use super::{asks_for_later, retry_after, same_call};
use crate::clock::{Clock, Mono};
use crate::http::{Body, Http};
use crate::line::SharedRandom;

/// The most that repaired clients add to a wait, so that those who were told the same do not come back together.
pub const SPREAD: Duration = Duration::from_secs(5);

/// `http`, which holds a call back for as long as its server asked for when it answered the same call before: `most` at
/// the most, and a time drawn from zero to `spread` on top. What is the same call is told by method, host and path.
///
/// A retry policy minds Retry-After between its own attempts. When it has given up, whoever called tries again by a pause
/// of its own, and knows nothing of what the server said.
pub fn minding(http: Http, clock: Arc<dyn Clock>, random: SharedRandom, most: Duration, spread: Duration) -> Http {
    let told = Arc::new(Told::default());
    BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
        let (http, clock, random, told) = (http.clone(), clock.clone(), random.clone(), told.clone());
        async move {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            while let Some(wait) = told.left(&method, &uri, &*clock) {
                clock.sleep(wait).await;
            }
            let answer = http.oneshot(request).await?;
            if let Some(asked) = asked(&answer, &*clock) {
                let wait = asked.min(most) + random.uniform(Duration::ZERO..spread);
                told.lock().insert(same_call(&method, &uri), clock.mono() + wait);
            }
            Ok(answer)
        }
    }))
}

/// Until when each call that was told to wait is held back.
#[derive(Default)]
struct Told(Mutex<BTreeMap<String, Mono>>);

impl Told {
    /// How long a call still has to wait.
    fn left(&self, method: &Method, uri: &Uri, clock: &dyn Clock) -> Option<Duration> {
        let mut told = self.lock();
        // Nearly always.
        if told.is_empty() {
            return None;
        }
        let call = same_call(method, uri);
        let left = told.get(&call)?.since(clock.mono());
        if left.is_zero() {
            told.remove(&call);
            return None;
        }
        Some(left)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Mono>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn asked(answer: &Response<Body>, clock: &dyn Clock) -> Option<Duration> {
    if !asks_for_later(answer.status()) || !answer.headers().contains_key(http::header::RETRY_AFTER) {
        return None;
    }
    retry_after(answer.headers(), clock.wall()).filter(|asked| !asked.is_zero())
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::http::empty;
    use crate::virtual_clock::{VirtualClock, secs};

    const MOST: Duration = Duration::from_secs(20);

    /// When each of three calls of `paths` is sent, one after another, to a server that answers each with 503.
    fn sent(told: Option<&'static str>, paths: [&str; 3]) -> Vec<Duration> {
        let clock = VirtualClock::default();
        let at = Arc::new(Mutex::new(Vec::new()));
        let (now, arrivals) = (clock.clone(), at.clone());
        let server = service_fn(move |_: Request<Body>| {
            arrivals.lock().unwrap().push(now.now());
            let mut answer = Response::new(empty());
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            if let Some(told) = told {
                answer.headers_mut().insert(http::header::RETRY_AFTER, told.parse().unwrap());
            }
            async move { Ok(answer) }
        });
        let random = SharedRandom::new(Box::new(ChaCha8Rng::seed_from_u64(1)));
        let minds = minding(BoxCloneSyncService::new(server), Arc::new(clock.clone()), random, MOST, SPREAD);
        clock.run(async {
            for path in paths {
                let request = Request::get(format!("http://pool{path}")).body(empty()).unwrap();
                assert_eq!(minds.clone().oneshot(request).await.unwrap().status(), 503);
            }
        });
        at.lock().unwrap().clone()
    }

    #[test]
    fn the_same_call_is_held_back_for_as_long_as_was_asked_and_some_more() {
        let at = sent(Some("7"), ["/a", "/a?again", "/a"]);
        assert_eq!(at[0], Duration::ZERO);
        assert!((secs(7)..secs(12)).contains(&at[1]), "{at:?}");
        assert!((secs(7)..secs(12)).contains(&(at[2] - at[1])) && at[2] != 2 * at[1], "{at:?}");
    }

    #[test]
    fn nobody_is_held_back_for_longer_than_it_allows() {
        for absurd in ["86400", "18446744073709551615"] {
            let at = sent(Some(absurd), ["/a", "/a", "/b"]);
            assert!((MOST..MOST + SPREAD).contains(&at[1]) && at[2] == at[1], "{at:?}");
        }
    }

    #[test]
    fn other_calls_and_other_answers_are_none_of_its_business() {
        assert_eq!(sent(Some("7"), ["/a", "/b", "/c"]), [Duration::ZERO; 3]);
        for nothing in [None, Some("0"), Some("soon")] {
            assert_eq!(sent(nothing, ["/a", "/a", "/a"]), [Duration::ZERO; 3], "{nothing:?}");
        }
    }
}
