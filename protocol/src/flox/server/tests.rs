//! The servers, asked by hand.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Method, Request, StatusCode, Version, header};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::facts::Forget;
use crate::fakes::garbage;
use crate::virtual_clock::{VirtualClock, secs};

/// A file takes 100 s, in pieces of 500 bytes.
fn parameters() -> Parameters {
    Parameters {
        size_bytes: 10_000,
        rate_bytes_per_s: 100,
        pace: secs(5),
        http2_cut_off: CutOff::After(secs(40)),
        http1_cut_off: CutOff::Never,
        ..Parameters::default()
    }
}

const FILE: &str = "/stable/tailscale_1.82.0_amd64.tgz";

struct Bench {
    clock: VirtualClock,
    publisher: Publisher,
    router: Router,
}

/// An answer to its end: the bytes that came, and whether it broke off.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    broke_off: bool,
}

impl Answer {
    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Bench {
    fn new(parameters: Parameters) -> Self {
        let clock = VirtualClock::default();
        let publisher = Publisher::new(parameters, Arc::new(clock.clone()), Arc::new(Forget));
        let router = publisher.router();
        Self { clock, publisher, router }
    }

    fn archive() -> Self {
        let bench = Self::new(parameters());
        let archive = Archive::of(bench.publisher.clone(), 1_000, Arc::new(bench.clock.clone()), Arc::new(Forget));
        Self { router: archive.router(), ..bench }
    }

    fn cache() -> (Self, CacheService) {
        let service = CacheService::default();
        (Self { router: service.router(), ..Self::new(parameters()) }, service)
    }

    fn send(&self, request: Request<Body>) -> Answer {
        self.clock.run(async {
            let answer = self.router.clone().oneshot(request).await.unwrap();
            let (head, body) = answer.into_parts();
            let mut frames = body.into_data_stream();
            let (mut body, mut broke_off) = (Vec::new(), false);
            while let Some(frame) = frames.next().await {
                match frame {
                    Ok(bytes) => body.extend_from_slice(&bytes),
                    Err(_) => {
                        broke_off = true;
                        break;
                    }
                }
            }
            Answer { status: head.status, headers: head.headers, body: body.into(), broke_off }
        })
    }

    fn get(&self, path: &str, headers: &[(header::HeaderName, &str)]) -> Answer {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        self.send(request.body(Body::empty()).unwrap())
    }

    fn post(&self, method: Method, path: &str, body: impl Into<Body>) -> Answer {
        self.send(Request::builder().method(method).uri(path).body(body.into()).unwrap())
    }
}

#[test]
fn a_file_comes_at_its_rate_and_has_its_digest_beside_it() {
    let bench = Bench::new(parameters());
    let answer = bench.get(FILE, &[]);
    assert_eq!((answer.status, answer.body.len(), answer.broke_off), (StatusCode::OK, 10_000, false));
    // The first piece goes at once, the other nineteen 5 s apart.
    assert_eq!(bench.clock.now(), secs(95));
    assert_eq!(answer.header(header::CONTENT_LENGTH), "10000");
    assert_eq!(answer.header(header::ACCEPT_RANGES), "bytes");
    let digest = bench.get(&format!("{FILE}.sha256"), &[]);
    assert_eq!(digest.body, Digest::of(&answer.body).as_str());
}

#[test]
fn an_answer_that_takes_too_long_is_cut_off() {
    let bench = Bench::new(parameters());
    let request = Request::get(FILE).version(Version::HTTP_2).body(Body::empty()).unwrap();
    let answer = bench.send(request);
    assert_eq!((answer.status, answer.body.len(), answer.broke_off), (StatusCode::OK, 4_000, true));
    assert_eq!(bench.clock.now().as_secs(), 40);
    bench.publisher.cut_off_sooner(secs(12), secs(30));
    assert_eq!(bench.get(FILE, &[]).body.len(), 1_500);
    bench.clock.run(bench.clock.sleep(secs(30)));
    assert_eq!(bench.get(FILE, &[]).body.len(), 10_000);
}

#[test]
fn ranges_are_sent_as_long_as_the_object_is_the_same() {
    let bench = Bench::new(parameters());
    let whole = bench.get(FILE, &[]);
    let tag = whole.header(header::ETAG).to_owned();
    let rest = |condition: &str| bench.get(FILE, &[(header::RANGE, "bytes=9000-"), (header::IF_RANGE, condition)]);
    let part = rest(&tag);
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &whole.body[9_000..]));
    assert_eq!(part.header(header::CONTENT_RANGE), "bytes 9000-9999/10000");
    assert_eq!(rest("\"another\"").status, StatusCode::OK);
    bench.publisher.publish("1.82.0");
    let changed = rest(&tag);
    assert_eq!((changed.status, changed.body.len()), (StatusCode::OK, 10_000));
    assert_ne!(changed.body, whole.body);
    let spliced = bench.get(FILE, &[(header::RANGE, "bytes=9000-")]);
    assert_eq!((spliced.status, &spliced.body[..]), (StatusCode::PARTIAL_CONTENT, &changed.body[9_000..]));
    let beyond = bench.get(FILE, &[(header::RANGE, "bytes=10000-")]);
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(beyond.header(header::CONTENT_RANGE), "bytes */10000");
}

#[test]
fn servers_may_know_no_ranges_and_no_strong_tags() {
    let bench = Bench::new(Parameters { ranges: Ranges::Ignored, validator: Validator::Absent, ..parameters() });
    let answer = bench.get(FILE, &[(header::RANGE, "bytes=9000-")]);
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 10_000));
    assert_eq!((answer.header(header::ETAG), answer.header(header::ACCEPT_RANGES)), ("", ""));
    let weak = Bench::new(Parameters { validator: Validator::Weak, ..parameters() });
    let tag = weak.get(FILE, &[]).header(header::ETAG).to_owned();
    assert!(tag.starts_with("W/"));
    let headers = [(header::RANGE, "bytes=9000-"), (header::IF_RANGE, tag.as_str())];
    assert_eq!(weak.get(FILE, &headers).status, StatusCode::OK, "a weak tag puts no bytes together");
}

#[test]
fn the_newest_version_is_listed() {
    let list = Bench::new(parameters()).get("/stable/?mode=json", &[]).json();
    assert_eq!(list["TarballsVersion"], "1.82.0");
    assert_eq!(list["Tarballs"]["amd64"], "tailscale_1.82.0_amd64.tgz");
}

#[test]
fn what_is_not_there_is_a_page_for_people() {
    let bench = Bench::new(parameters());
    for path in ["/stable/tailscale_9.9.9_amd64.tgz", "/stable/tailscale_9.9.9_amd64.tgz.sha256", "/unstable/", "/x"] {
        let answer = bench.get(path, &[]);
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.header(header::CONTENT_TYPE).starts_with("text/html"), "{path}");
    }
    assert_eq!(bench.post(Method::POST, FILE, "").status, StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn an_archive_knows_every_content_by_its_digest() {
    let bench = Bench::archive();
    bench.publisher.publish("1.82.0");
    for digest in bench.publisher.published("1.82.0") {
        let answer = bench.get(&format!("/sha256/{digest}"), &[]);
        assert_eq!((answer.status, Digest::of(&answer.body)), (StatusCode::OK, digest));
    }
    for unknown in [Digest::of(b"x").as_str(), "junk"] {
        assert_eq!(bench.get(&format!("/sha256/{unknown}"), &[]).status, StatusCode::NOT_FOUND);
    }
}

const CACHES: &str = "/_apis/artifactcache/caches";

fn upload(bench: &Bench, id: u64, range: &str, bytes: &'static [u8]) -> StatusCode {
    let request = Request::patch(format!("{CACHES}/{id}")).header(header::CONTENT_RANGE, range);
    bench.send(request.body(Body::from(bytes)).unwrap()).status
}

#[test]
fn the_cache_keeps_what_was_committed_and_never_changes_it() {
    let (bench, service) = Bench::cache();
    let reserve = json!({"key": "k", "version": "v", "cacheSize": 6}).to_string();
    let look_up = || bench.get("/_apis/artifactcache/cache?keys=none,k&version=v", &[(header::HOST, "cache")]);
    let id = bench.post(Method::POST, CACHES, reserve.clone()).json()["cacheId"].as_u64().unwrap();
    assert_eq!(look_up().status, StatusCode::NO_CONTENT, "it is not complete");
    assert_eq!(upload(&bench, id, "bytes 0-2/*", b"abc"), StatusCode::NO_CONTENT);
    assert_eq!(upload(&bench, id, "bytes 4-5/*", b"ef"), StatusCode::BAD_REQUEST, "something is left out");
    assert_eq!(upload(&bench, id, "bytes 3-5/*", b"def"), StatusCode::NO_CONTENT);
    let commit = |size: u64| bench.post(Method::POST, &format!("{CACHES}/{id}"), json!({ "size": size }).to_string());
    assert_eq!(commit(5).status, StatusCode::BAD_REQUEST);
    assert_eq!(commit(6).status, StatusCode::NO_CONTENT);
    assert_eq!(bench.post(Method::POST, CACHES, reserve).status, StatusCode::CONFLICT);
    let found = look_up().json();
    assert_eq!(found["cacheKey"], "k");
    let archive = found["archiveLocation"].as_str().unwrap().strip_prefix("http://cache").unwrap().to_owned();
    assert_eq!(bench.get(&archive, &[]).body, "abcdef");
    assert_eq!(service.poison(), 1);
    assert_ne!(bench.get(&archive, &[]).body, "abcdef");
}

#[test]
fn a_range_of_more_bytes_than_can_be_counted_is_refused() {
    let (bench, _) = Bench::cache();
    let reserve = json!({"key": "k", "version": "v"}).to_string();
    let id = bench.post(Method::POST, CACHES, reserve).json()["cacheId"].as_u64().unwrap();
    for bytes in [&b""[..], b"x"] {
        assert_eq!(upload(&bench, id, "bytes 0-18446744073709551615/*", bytes), StatusCode::BAD_REQUEST);
    }
    assert_eq!(upload(&bench, id, "bytes 0-0/*", b"x"), StatusCode::NO_CONTENT);
}

#[test]
fn the_cache_refuses_oversized_bodies_in_its_own_words() {
    let (bench, _) = Bench::cache();
    let reserve = json!({"key": "k", "version": "v"}).to_string();
    let id = bench.post(Method::POST, CACHES, reserve).json()["cacheId"].as_u64().unwrap();
    let entry = format!("{CACHES}/{id}");
    for (method, path) in [(Method::POST, CACHES), (Method::POST, &entry), (Method::PATCH, &entry)] {
        let pieces = vec![Bytes::from_static(&[b' '; 1 << 20]); cache::PIECE_MAX_BYTES / (1 << 20) + 1];
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_RANGE, "bytes 0-9/*");
        let body = Body::from_stream(futures_util::stream::iter(pieces).map(Ok::<_, std::io::Error>));
        let answer = bench.send(request.body(body).unwrap());
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert_eq!(answer.header(header::CONTENT_TYPE), "application/json");
        assert_eq!(answer.json()["message"], "The request body is too large.");
    }
}

fn garbage() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,30}",
        Just("bytes=18446744073709551615-".to_owned()),
        Just("bytes=-18446744073709551615".to_owned())
    ]
}

/// Ranges of an upload that fit no body of fewer than 60 bytes.
fn content_ranges() -> impl Strategy<Value = String> {
    let edges = || prop_oneof![0..3_u64, (u64::MAX - 3)..=u64::MAX];
    let size = prop_oneof![Just("*".to_owned()), edges().prop_map(|size| size.to_string())];
    let any = (edges(), edges(), size)
        .prop_filter("it fits", |(first, last, _)| first > last || last - first > 60)
        .prop_map(|(first, last, size)| format!("bytes {first}-{last}/{size}"));
    prop_oneof![2 => any, 1 => Just(format!("bytes 0-{}/*", u64::MAX))]
}

/// Bytes, and JSON of shapes that nothing takes.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    garbage::bodies(&[
        "[]",
        "{}",
        "{\"key\":7,\"version\":\"v\"}",
        "{\"key\":\"k\",\"version\":\"v\",\"cacheSize\":-1}",
        "{\"key\":\"open\",\"version\":\"v\"}",
        "{\"size\":\"0\"}",
        "{\"size\":18446744073709551615}",
        "{\"size\":18446744073709551616}",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_in_headers_never_gets_more_than_the_file(range in garbage(), condition in garbage()) {
        let bench = Bench::new(parameters());
        let mut request = Request::get(FILE);
        for (name, value) in [(header::RANGE, &range), (header::IF_RANGE, &condition)] {
            if let Ok(value) = http::HeaderValue::try_from(value) {
                request = request.header(name, value);
            }
        }
        let answer = bench.send(request.body(Body::empty()).unwrap());
        prop_assert!([200, 206, 416].contains(&answer.status.as_u16()));
        prop_assert!(answer.body.len() <= 10_000);
    }

    /// Of two entries, number 0 is being uploaded and number 1 is complete.
    #[test]
    fn garbage_is_refused_by_the_cache_and_leaves_nothing_behind(
        body in bodies(),
        id in prop_oneof![
            3 => Just("0".to_owned()),
            1 => Just("1".to_owned()),
            1 => Just("-1".to_owned()),
            1 => Just("%ff".to_owned()),
            1 => "[0-9]{20}",
            1 => "[a-z]{1,5}",
        ],
        range in prop_oneof![content_ranges(), garbage()],
    ) {
        let (bench, service) = Bench::cache();
        for key in ["open", "whole"] {
            let answer = bench.post(Method::POST, CACHES, json!({"key": key, "version": "v"}).to_string());
            prop_assert_eq!(answer.status, StatusCode::CREATED);
        }
        prop_assert_eq!(upload(&bench, 1, "bytes 0-2/*", b"abc"), StatusCode::NO_CONTENT);
        let whole = format!("{CACHES}/1");
        prop_assert_eq!(bench.post(Method::POST, &whole, "{\"size\":3}").status, StatusCode::NO_CONTENT);
        let entry = format!("{CACHES}/{id}");
        let mut answers = vec![
            bench.post(Method::POST, CACHES, body.clone()),
            bench.post(Method::POST, &entry, body.clone()),
        ];
        if id != "1" {
            answers.push(bench.get(&format!("/_apis/artifactcache/artifacts/{id}"), &[]));
        }
        if let Ok(range) = http::HeaderValue::try_from(&range) {
            let request = Request::patch(&entry).header(header::CONTENT_RANGE, range);
            answers.push(bench.send(request.body(Body::from(body)).unwrap()));
        }
        for answer in answers {
            prop_assert!(answer.status.is_client_error(), "{}", answer.status);
            prop_assert!(answer.json()["message"].is_string());
        }
        prop_assert_eq!(service.keys(), ["whole"]);
        prop_assert_eq!(bench.get("/_apis/artifactcache/artifacts/1", &[]).body, "abc");
    }
}

/// The time that a test takes is virtual: a file of the incident takes no longer than a small one.
#[test]
fn the_incident_s_file_dies_at_its_time() {
    let bench = Bench::new(Parameters { pace: Duration::from_millis(500), ..Parameters::default() });
    let request = Request::get(FILE).version(Version::HTTP_2).body(Body::empty()).unwrap();
    let answer = bench.send(request);
    assert!(answer.broke_off);
    let mib = answer.body.len() as f64 / f64::from(1 << 20);
    assert!((14.3..14.4).contains(&mib), "{mib}");
}
