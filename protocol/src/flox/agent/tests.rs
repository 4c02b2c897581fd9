//! The download over a network in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use http::{Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};

use super::*;
use crate::choices::Design;
use crate::facts::Forget;
use crate::fakes::Files;
use crate::flox::choices::{OnMismatch, Protocol, Resume, Stall, Transfer};
use crate::flox::server::{CacheService, CutOff, Parameters, Publisher};
use crate::http::{Body, TransportError};
use crate::virtual_clock::{VirtualClock, secs};

const VERSION: &str = "1.82.0";
const FINAL: &str = "tools/tailscale_1.82.0_amd64.tgz";

/// A file takes 100 s, in pieces of 500 bytes; HTTP/2 is cut off after 40 s.
fn parameters() -> Parameters {
    Parameters {
        size_bytes: 10_000,
        rate_bytes_per_s: 100,
        pace: secs(5),
        http2_cut_off: CutOff::After(secs(40)),
        http1_cut_off: CutOff::After(secs(40)),
        ..Parameters::default()
    }
}

/// A request as a server saw it: its version, its path and its Range header.
type Asked = (Version, String, Option<String>);

/// What answers a path, the n-th time that it is asked for.
type Instead = dyn Fn(&str, usize) -> Option<Response<Body>> + Send + Sync;

struct Bench {
    clock: VirtualClock,
    publisher: Publisher,
    cache: CacheService,
    files: Files,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Answers in the servers' place.
    instead: Arc<Instead>,
    use_cache: bool,
}

/// What was installed.
#[derive(Default)]
struct Installed(Mutex<Vec<(String, String)>>);

impl Install for Installed {
    fn install(&self, version: &str, file: &str) {
        self.0.lock().unwrap().push((version.to_owned(), file.to_owned()));
    }
}

impl Bench {
    fn new(parameters: Parameters) -> Self {
        let clock = VirtualClock::default();
        let publisher = Publisher::new(parameters, Arc::new(clock.clone()), Arc::new(Forget));
        Self {
            clock,
            publisher,
            cache: CacheService::default(),
            files: Files::default(),
            asked: Arc::default(),
            instead: Arc::new(|_, _| None),
            use_cache: false,
        }
    }

    /// `instead` is asked with the path and the number of requests to that path before.
    fn answering(mut self, instead: impl Fn(&str, usize) -> Option<Response<Body>> + Send + Sync + 'static) -> Self {
        self.instead = Arc::new(instead);
        self
    }

    fn http(&self) -> Http {
        let (publisher, cache) = (self.publisher.router(), self.cache.router());
        let (asked, instead) = (self.asked.clone(), self.instead.clone());
        BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
            let path = request.uri().path().to_owned();
            let range = request.headers().get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
            let before = asked.lock().unwrap().iter().filter(|(_, known, _)| *known == path).count();
            asked.lock().unwrap().push((request.version(), path.clone(), range));
            let answer = instead(&path, before);
            let router = if request.uri().host() == Some("cache") { cache.clone() } else { publisher.clone() };
            let version = request.version();
            async move {
                if let Some(answer) = answer {
                    return Ok(answer);
                }
                let answer = router.oneshot(request.map(axum::body::Body::new)).await.unwrap();
                Ok(answer.map(|body| body.map_err(move |_| cut(version)).boxed_unsync()))
            }
            .boxed()
        }))
    }

    fn fetch(&self, choices: Choices) -> (Result<(), Failure>, usize) {
        self.fetch_as("job-1", choices)
    }

    fn fetch_as(&self, job: &str, choices: Choices) -> (Result<(), Failure>, usize) {
        let machine = Machine {
            clock: Arc::new(self.clock.clone()),
            http: self.http(),
            random: Box::new(ChaCha8Rng::seed_from_u64(3)),
            disk: Arc::new(self.files.clone()),
        };
        let settings = Settings {
            publisher: "http://pkgs".to_owned(),
            archive: None,
            cache: self.use_cache.then(|| "http://cache".to_owned()),
            version: Wanted::Latest,
            arch: "amd64".to_owned(),
            job: job.to_owned(),
        };
        let installed = Installed::default();
        let done = self.clock.run(fetch(machine, choices, settings, &installed));
        let installed = installed.0.into_inner().unwrap();
        assert!(installed.iter().all(|(version, file)| (version.as_str(), file.as_str()) == (VERSION, FINAL)));
        (done, installed.len())
    }

    /// The ranges of the requests for the file.
    fn file_requests(&self) -> Vec<(Version, Option<String>)> {
        let asked = self.asked.lock().unwrap();
        let of_file = asked.iter().filter(|(_, path, _)| path.ends_with(".tgz"));
        of_file.map(|(version, _, range)| (*version, range.clone())).collect()
    }

    fn has_published(&self) -> bool {
        let content = self.files.read(FINAL).unwrap_or_default();
        self.publisher.published(VERSION).last() == Some(&Digest::of(&content))
    }
}

fn cut(version: Version) -> TransportError {
    match version {
        Version::HTTP_2 => TransportError::StreamReset { code: 2 },
        _ => TransportError::ClosedEarly,
    }
}

fn page(status: u16) -> Response<Body> {
    let page = crate::http::full("<html>trouble</html>");
    Response::builder().status(status).header(header::CONTENT_TYPE, "text/html").body(page).unwrap()
}

fn with(change: impl FnOnce(&mut Choices)) -> Choices {
    let mut choices = Choices::hardened();
    change(&mut choices);
    choices
}

#[test]
fn the_repaired_download_resumes_until_the_file_is_whole() {
    let bench = Bench::new(parameters());
    assert_eq!(bench.fetch(Choices::hardened()), (Ok(()), 1));
    assert!(bench.has_published());
    let ranges: Vec<_> = bench.file_requests();
    let expected = [
        (Version::HTTP_2, None),
        (Version::HTTP_11, Some("bytes=4000-".to_owned())),
        (Version::HTTP_2, Some("bytes=8000-".to_owned())),
    ];
    assert_eq!(ranges, expected);
    assert!(!bench.files.has(&format!("{FINAL}.job-1.part")));
    assert!(!bench.files.has(&format!("{FINAL}.job-1.part.etag")));
}

#[test]
fn curl_begins_anew_four_times_and_fails_with_92() {
    let bench = Bench::new(parameters());
    let (failed, installed) = bench.fetch(Choices::upstream());
    assert_eq!((failed.unwrap_err().exit_code(), installed), (92, 0));
    assert_eq!(bench.file_requests(), vec![(Version::HTTP_2, None); 4]);
    // Four times 40 s, and 1, 2 and 4 s between them.
    assert_eq!(bench.clock.now().as_secs(), 4 * 40 + 7);
}

#[test]
fn curl_s_own_set_does_not_cover_a_reset_stream() {
    let bench = Bench::new(parameters());
    let choices = Choices { transfer: Transfer::CurlRetry, ..Choices::upstream() };
    assert_eq!(bench.fetch(choices).0.unwrap_err().exit_code(), 92);
    assert_eq!(bench.file_requests().len(), 1);
}

#[test]
fn tool_cache_tries_three_times_and_leaves_nothing_behind() {
    let bench = Bench::new(parameters());
    let choices = Choices { transfer: Transfer::ToolCache, ..Choices::upstream() };
    assert!(bench.fetch(choices).0.is_err());
    assert_eq!(bench.file_requests(), vec![(Version::HTTP_11, None); 3]);
    assert!((120 + 20..=120 + 40).contains(&bench.clock.now().as_secs()), "{:?}", bench.clock.now());
    assert!(!bench.files.has(FINAL));
}

#[test]
fn without_fail_a_page_is_saved_as_the_file() {
    let bench = Bench::new(parameters()).answering(|path, _| path.ends_with(".tgz").then(|| page(503)));
    let choices = Choices { transfer: Transfer::CurlWithoutFail, ..Choices::upstream() };
    assert!(matches!(bench.fetch(choices).0, Err(Failure::Mismatch { .. })));
}

#[test]
fn a_part_is_not_continued_with_another_object() {
    let changing = |bench: &Bench| {
        let (publisher, clock) = (bench.publisher.clone(), bench.clock.clone());
        bench.clock.start(async move {
            clock.sleep(secs(20)).await;
            publisher.publish(VERSION);
        });
    };
    let bench = Bench::new(parameters());
    changing(&bench);
    assert_eq!(bench.fetch(Choices::hardened()), (Ok(()), 1));
    assert!(bench.has_published());
    let spliced = Bench::new(parameters());
    changing(&spliced);
    let unvalidated = with(|it| {
        it.resume = Resume::Unvalidated;
        it.on_mismatch = OnMismatch::Fails;
    });
    assert!(matches!(spliced.fetch(unvalidated).0, Err(Failure::Mismatch { .. })));
}

#[test]
fn a_body_that_ends_in_order_and_too_early_has_ended_early() {
    let short = |path: &str, before| {
        let body = crate::http::full(vec![0; 4_000]);
        let answer =
            Response::builder().header(header::CONTENT_LENGTH, 10_000).header(header::ETAG, "\"x\"").body(body);
        (path.ends_with(".tgz") && before == 0).then(|| answer.unwrap())
    };
    let once = Choices { transfer: Transfer::CurlOnce, ..Choices::upstream() };
    let failed = Bench::new(parameters()).answering(short).fetch(once).0.unwrap_err();
    assert_eq!(failed.exit_code(), 18, "{failed}");
}

#[test]
fn a_login_page_costs_no_part() {
    let portal = |path: &str, before| (path.ends_with(".tgz") && before == 1).then(|| page(200));
    let bench = Bench::new(parameters()).answering(portal);
    assert_eq!(bench.fetch(Choices::hardened()), (Ok(()), 1));
    assert_eq!(bench.file_requests()[2].1, Some("bytes=4000-".to_owned()));
}

#[test]
fn a_broken_protocol_is_left() {
    let broken = Parameters { http2_cut_off: CutOff::After(secs(0)), http1_cut_off: CutOff::Never, ..parameters() };
    let bench = Bench::new(broken.clone());
    assert_eq!(bench.fetch(Choices::hardened()), (Ok(()), 1));
    assert_eq!(bench.file_requests().len(), 2);
    let alone = Bench::new(broken);
    assert!(alone.fetch(with(|it| it.protocol = Protocol::Http2Alone)).0.is_err());
    assert!(alone.clock.now() >= BUDGET - secs(60));
}

#[test]
fn silence_ends_an_attempt() {
    let silent = |path: &str, before| {
        let body = http_body_util::StreamBody::new(futures_util::stream::pending());
        (path.ends_with(".tgz") && before == 0).then(|| Response::new(body.boxed_unsync()))
    };
    let took = |stall| {
        let bench = Bench::new(Parameters { http2_cut_off: CutOff::Never, ..parameters() }).answering(silent);
        assert_eq!(bench.fetch(with(|it| it.stall = stall)), (Ok(()), 1));
        bench.clock.now()
    };
    assert!(took(Stall::Guard) < secs(30 + 170));
    assert!(took(Stall::MaxTime) > secs(300));
}

#[test]
fn the_cache_spares_a_download_and_its_poison_is_noticed() {
    let mut bench = Bench::new(parameters());
    bench.use_cache = true;
    assert_eq!(bench.fetch(Choices::hardened()), (Ok(()), 1));
    assert_eq!(bench.cache.keys().len(), 1);
    let requests = bench.file_requests().len();
    let mut fresh = || {
        bench.files = Files::default();
        bench.fetch_as("job-2", Choices::hardened())
    };
    assert_eq!(fresh(), (Ok(()), 1));
    assert_eq!(bench.file_requests().len(), requests, "it came from the cache");
    assert_eq!(bench.cache.poison(), 1);
    bench.files = Files::default();
    assert_eq!(bench.fetch_as("job-3", with(|it| it.cache = choices::Cache::Unverified)), (Ok(()), 1));
    assert!(!bench.has_published());
    bench.files = Files::default();
    assert_eq!(bench.fetch_as("job-4", Choices::hardened()), (Ok(()), 1));
    assert!(bench.has_published() && bench.file_requests().len() > requests);
}

#[test]
fn what_a_killed_job_left_behind_is_refused_by_tool_cache_alone() {
    let refused = with(|it| it.destination = Destination::SharedAndNew);
    let bench = Bench::new(parameters());
    bench.files.write(&format!("{FINAL}.part"), b"left behind").unwrap();
    assert!(matches!(bench.fetch(refused).0, Err(Failure::Exists(_))));
    assert_eq!(bench.fetch(Choices::hardened()), (Ok(()), 1));
}

#[test]
fn tool_cache_is_as_patient_with_what_is_in_its_way_as_with_everything_else() {
    let choices =
        Choices { transfer: Transfer::ToolCache, destination: Destination::SharedAndNew, ..Choices::upstream() };
    let bench = Bench::new(parameters());
    bench.files.write(FINAL, b"left behind").unwrap();
    assert!(matches!(bench.fetch(choices).0, Err(Failure::Exists(_))));
    assert!(bench.file_requests().is_empty());
    assert!((20..=40).contains(&bench.clock.now().as_secs()), "{:?}", bench.clock.now());
    assert_eq!(bench.files.read(FINAL).unwrap(), b"left behind"[..]);
}

#[test]
fn tool_cache_speaks_one_version_of_http_whatever_comes_of_it() {
    let broken = Parameters { http1_cut_off: CutOff::After(secs(0)), http2_cut_off: CutOff::Never, ..parameters() };
    let bench = Bench::new(broken);
    let tool_cache = with(|it| it.transfer = Transfer::ToolCache);
    assert_eq!(
        bench.fetch(tool_cache).0,
        Err(Failure::Broken { error: TransportError::ClosedEarly, during: During::Body })
    );
    assert_eq!(bench.file_requests(), vec![(Version::HTTP_11, None); 3]);
}

#[test]
fn a_wrong_address_is_given_up_at_once() {
    let bench = Bench::new(parameters()).answering(|path, _| path.ends_with(".tgz").then(|| page(404)));
    let failed = bench.fetch(Choices::hardened()).0;
    assert_eq!(failed, Err(Failure::Status { status: StatusCode::NOT_FOUND, retry_after: None }));
    assert!(bench.clock.now() < secs(10));
}

/// Answers that make no sense, with every status and some headers.
fn senseless() -> impl Strategy<Value = (u16, Vec<(header::HeaderName, String)>, Vec<u8>)> {
    let names =
        [header::CONTENT_RANGE, header::ETAG, header::CONTENT_LENGTH, header::RETRY_AFTER, header::CONTENT_TYPE];
    let value = prop_oneof!["\\PC{0,20}", "bytes [0-9]{1,20}-[0-9]{1,20}/[0-9*]{1,20}", "[0-9]{1,25}"];
    let headers = prop::collection::vec((prop::sample::select(names.to_vec()), value), 0..4);
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        Just(br#"{"TarballsVersion": "../../etc", "Version": 7}"#.to_vec()),
        Just(br#"{"TarballsVersion": "a b\nc", "Version": "x"}"#.to_vec()),
        Just(br#"{"cacheKey": "k", "archiveLocation": "not an address"}"#.to_vec()),
    ];
    (200..600_u16, headers, body)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_ends_in_a_failure_or_in_the_right_file(
        answers in prop::collection::vec(prop::option::of(senseless()), 1..12),
        bug in 0..=Choices::choices().len(),
    ) {
        let count = Arc::new(Mutex::new(0_usize));
        let script = move |_: &str, _: usize| {
            let mut count = count.lock().unwrap();
            *count += 1;
            let (status, headers, body) = answers.get(*count - 1).cloned().flatten()?;
            let mut answer = Response::builder().status(status);
            for (name, value) in headers {
                if let Ok(value) = http::HeaderValue::try_from(value) {
                    answer = answer.header(name, value);
                }
            }
            Some(answer.body(crate::http::full(body)).unwrap())
        };
        let mut bench = Bench::new(parameters()).answering(script);
        bench.use_cache = true;
        let mut choices = Choices::hardened();
        if let Some(choice) = Choices::choices().get(bug) {
            (choice.put_back)(&mut choices);
        }
        let unverified = choices.cache != choices::Cache::Verified;
        let (done, installed) = bench.fetch(choices);
        prop_assert_eq!(done.is_ok(), installed == 1);
        prop_assert!(done.is_err() || unverified || bench.has_published());
        prop_assert!(bench.clock.now() <= BUDGET + Duration::from_secs(600), "{:?}", bench.clock.now());
    }
}
