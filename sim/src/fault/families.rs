//! The families of faults that every world knows, and what a fault of each is drawn to be.

use super::generate::{Draw, Swarm};
use super::{FaultKind, RetryAfter, Target, When};

/// How faults of one family are drawn.
pub(super) struct Family {
    pub(super) name: &'static str,
    /// Is there anything that it could act on?
    pub(super) applies: fn(&Swarm) -> bool,
    pub(super) draw: fn(&mut Draw<'_>) -> (FaultKind, Target),
}

const fn family(
    name: &'static str,
    applies: fn(&Swarm) -> bool,
    draw: fn(&mut Draw<'_>) -> (FaultKind, Target),
) -> Family {
    Family { name, applies, draw }
}

/// Every family but those of single systems.
pub(super) const FAMILIES: &[Family] = &[
    family("latency", has_links, latency),
    family("bandwidth", has_links, bandwidth),
    family("partition", has_links, partition),
    family("refuse", has_peers, refuse),
    family("reset", has_links, reset),
    family("dns", has_links, dns),
    family("status", has_peers, status),
    family("drop-reply", has_peers, drop_reply),
    family("delay", has_peers, delay),
    family("late", has_peers, late),
    family("truncate", has_peers, truncate),
    family("stall", has_peers, stall),
    family("login-page", has_peers, login_page),
    family("stream-reset", has_peers, stream_reset),
    family("go-away", has_peers, go_away),
    family("crash", has_nodes, crash),
    family("kill", has_services, kill),
    family("stop", has_services, stop),
    family("pause", has_nodes, pause),
    family("suspend", has_nodes, suspend),
    family("clock-step", has_nodes, clock_step),
    family("clock-drift", has_nodes, clock_drift),
    family("disk-full", has_nodes, disk_full),
];

/// The names of the families that every world knows.
pub fn families() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.name)
}

/// The same but for some.
///
/// # Panics
/// When there is no family of one of these names: a misspelt one would leave nothing out.
pub fn families_but(unfit: &[&str]) -> Vec<String> {
    for name in unfit {
        assert!(families().any(|family| family == *name), "no family of faults is called {name:?}");
    }
    families().filter(|family| !unfit.contains(family)).map(str::to_owned).collect()
}

fn has_nodes(swarm: &Swarm) -> bool {
    !swarm.nodes.is_empty()
}

fn has_peers(swarm: &Swarm) -> bool {
    !swarm.peers.is_empty()
}

fn has_links(swarm: &Swarm) -> bool {
    has_nodes(swarm) && has_peers(swarm)
}

fn has_services(swarm: &Swarm) -> bool {
    !swarm.services.is_empty()
}

fn latency(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    let add_ms = draw.pick(&[20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000]);
    (FaultKind::Latency { add_ms, direction: draw.direction() }, draw.link())
}

fn bandwidth(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    let bytes_per_s = draw.pick(&[100, 500, 1_000, 5_000, 20_000, 100_000]);
    (FaultKind::Bandwidth { bytes_per_s, direction: draw.direction() }, draw.link())
}

fn partition(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    (FaultKind::Partition { direction: draw.direction() }, draw.link())
}

/// The whole server refuses, or one node's path to it does.
fn refuse(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    let host = draw.pick_name(&draw.swarm.peers);
    let refused = has_nodes(draw.swarm) && draw.below(2) == 0;
    let peer = refused.then(|| draw.pick_name(&draw.swarm.nodes)).filter(|peer| *peer != host);
    (FaultKind::Refuse, Target { node: Some(host), peer, route: None })
}

fn reset(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    let bytes = draw.pick(&[0, 1, 100, 500, 1_000, 5_000, 20_000, 100_000]);
    let kind = match draw.below(2) {
        0 => FaultKind::Reset,
        _ => FaultKind::ResetAfter { bytes, direction: draw.direction() },
    };
    (kind, draw.link())
}

fn dns(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    (FaultKind::Dns, draw.link())
}

fn status(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    let status = draw.pick(&[500, 502, 503, 504, 429]);
    let retry_after = match draw.below(8) {
        0 | 1 => Some(RetryAfter::Seconds(draw.pick(&[0, 1, 5, 30, 60, 300]))),
        2 => Some(RetryAfter::Date(draw.pick(&[1, 10, 60]))),
        3 => Some(RetryAfter::Absurd(draw.pick(&["-1", "soon", "", "1e9", "99999999999999999999"]).to_owned())),
        4 | 5 => Some(RetryAfter::Seconds(draw.pick(&[600, 3_600, 86_400, 31_536_000, u64::MAX]))),
        _ => None,
    };
    (FaultKind::Status { status, when: draw.when(), retry_after, percent: draw.percent() }, draw.gateway())
}

fn drop_reply(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    (FaultKind::DropReply { percent: draw.percent() }, draw.gateway())
}

fn delay(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    let by_ms = draw.pick(&[100, 500, 1_000, 5_000, 20_000, 60_000, 120_000]);
    (FaultKind::Delay { by_ms, percent: draw.percent() }, draw.gateway())
}

/// From what nobody notices to what outlasts every caller's patience. Seldom all requests: those that are not late
/// overtake those that are.
fn late(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    let by_ms = draw.pick(&[1_000, 5_000, 20_000, 40_000, 60_000, 120_000]);
    (FaultKind::Late { by_ms, percent: draw.pick(&[20, 50, 50, 80, 100]) }, draw.gateway())
}

fn truncate(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    (FaultKind::Truncate { bytes: draw.pick(&[0, 1, 10, 100, 1_000]), percent: draw.percent() }, draw.gateway())
}

fn stall(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    (FaultKind::Stall { bytes: draw.pick(&[0, 1, 10, 100, 1_000]), percent: draw.percent() }, draw.gateway())
}

fn login_page(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    (FaultKind::LoginPage { percent: draw.percent() }, draw.gateway())
}

/// RFC 9113 section 7: PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM.
fn stream_reset(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    let code = draw.pick(&[0x1, 0x2, 0x7, 0x8, 0xb]);
    // Only what the server never saw may be refused.
    let when = if code == 0x7 { When::BeforeCommit } else { draw.when() };
    (FaultKind::StreamReset { code, when, percent: draw.percent() }, draw.gateway())
}

fn go_away(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    (FaultKind::GoAway { percent: draw.percent() }, draw.gateway())
}

fn crash(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    (FaultKind::Crash, draw.node())
}

fn kill(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    let (service, target) = draw.service();
    (FaultKind::Kill { service }, target)
}

fn stop(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    let (service, target) = draw.service();
    (FaultKind::Stop { service, grace_ms: draw.pick(&[0, 100, 1_000, 10_000, 90_000]) }, target)
}

fn pause(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    (FaultKind::Pause, draw.node())
}

fn suspend(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    (FaultKind::Suspend, draw.node())
}

fn clock_step(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    let size_ms = draw.pick(&[100, 1_000, 10_000, 60_000, 300_000, 3_600_000, 86_400_000]);
    (FaultKind::ClockStep { by_ms: if draw.below(2) == 0 { size_ms } else { -size_ms } }, draw.node())
}

fn clock_drift(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    let size_ppm = draw.pick(&[50, 200, 1_000, 10_000, 100_000]);
    (FaultKind::ClockDrift { ppm: if draw.below(2) == 0 { size_ppm } else { -size_ppm } }, draw.node())
}

fn disk_full(draw: &mut Draw<'_>) -> (FaultKind, Target) {
    (FaultKind::DiskFull, draw.node())
}
