//! The run as Chrome trace JSON, which the Perfetto UI opens: a process for each machine, a thread for each kind of thing.

use serde_json::{Value, json};

use super::Report;
use super::scene::Scene;

/// The threads of a machine, in the order in which they are shown.
const THREADS: [&str; 7] = ["faults", "session", "lease", "job", "lock", "requests", "events"];
/// The process of a machine is its number and this: process 0 is not shown by every viewer.
const FIRST_PROCESS: u32 = 1;

/// The run as one JSON object with `traceEvents`. Times are microseconds of true time.
pub fn perfetto(report: &Report<'_>) -> String {
    let scene = Scene::of(report);
    let mut events = names(&scene);
    events.extend(faults(&scene));
    events.extend(
        scene
            .bars
            .iter()
            .map(|bar| span(bar.lane, bar.kind, &bar.name, (bar.from_ms, bar.to_ms), json!({"end": bar.end}))),
    );
    events.extend(scene.requests.iter().enumerate().flat_map(|(id, request)| {
        let details = json!({"outcome": request.outcome, "to": request.to.map(|lane| &scene.lanes[lane as usize])});
        let (process, thread) = (request.from + FIRST_PROCESS, thread("requests"));
        // Requests of one machine may overlap without being nested: they are asynchronous slices.
        let slice = move |phase: &str, at_ms: f64, args: Value| {
            json!({"ph": phase, "cat": "request", "id": id, "name": request.what, "ts": at_ms * 1e3, "pid": process,
                "tid": thread, "args": args})
        };
        [slice("b", request.sent_ms, details), slice("e", request.ended_ms, json!({}))]
    }));
    events.extend(scene.marks.iter().map(|mark| instant(mark.lane, &mark.text, mark.at_ms, mark.kind, "t")));
    events.extend(scene.findings.iter().map(|found| {
        let name = format!("{}: {}", found.severity, found.invariant);
        let mut event = instant(0, &name, found.at_ms, "finding", "g");
        event["args"] = json!({"message": found.message});
        event
    }));
    let data = json!({"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"replay": report.replay}});
    serde_json::to_string(&data).expect("plain data") + "\n"
}

fn names(scene: &Scene) -> Vec<Value> {
    let mut events = Vec::new();
    for (lane, name) in scene.lanes.iter().enumerate() {
        let process = lane as u32 + FIRST_PROCESS;
        events.push(json!({"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}}));
        for name in THREADS {
            events.push(json!({"ph": "M", "name": "thread_name", "pid": process, "tid": thread(name),
                "args": {"name": name}}));
        }
    }
    events
}

/// A fault is shown on every machine that it acts on; on the world's own row when it acts on none by name.
fn faults(scene: &Scene) -> Vec<Value> {
    let on = |lanes: &[u32]| if lanes.is_empty() { vec![0] } else { lanes.to_vec() };
    let shown = scene.bands.iter().flat_map(|band| on(&band.lanes).into_iter().map(move |lane| (lane, band)));
    shown
        .enumerate()
        .flat_map(|(id, (lane, band))| {
            let (process, thread) = (lane + FIRST_PROCESS, thread("faults"));
            let slice = |phase: &str, at_ms: f64| {
                json!({"ph": phase, "cat": "fault", "id": format!("fault-{id}"), "name": band.what, "ts": at_ms * 1e3,
                    "pid": process, "tid": thread, "args": {"family": band.family, "effects": band.effects}})
            };
            [slice("b", band.from_ms), slice("e", band.to_ms)]
        })
        .collect()
}

fn span(lane: u32, kind: &str, name: &str, (from_ms, to_ms): (f64, f64), args: Value) -> Value {
    json!({"ph": "X", "cat": kind, "name": name, "ts": from_ms * 1e3, "dur": (to_ms - from_ms) * 1e3,
        "pid": lane + FIRST_PROCESS, "tid": thread(kind), "args": args})
}

fn instant(lane: u32, name: &str, at_ms: f64, kind: &str, scope: &str) -> Value {
    json!({"ph": "i", "cat": kind, "name": name, "ts": at_ms * 1e3, "pid": lane + FIRST_PROCESS,
        "tid": thread("events"), "s": scope})
}

fn thread(name: &str) -> usize {
    THREADS.iter().position(|thread| *thread == name).map_or(THREADS.len(), |place| place) + 1
}
