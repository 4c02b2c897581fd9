//! What each family of faults means in the world.

/// Every family that every world knows, with a sentence about it.
pub fn catalogue() -> &'static [(&'static str, &'static str)] {
    &[
        ("latency", "Packets between two nodes take longer."),
        ("bandwidth", "A link carries only so many bytes a second."),
        ("partition", "Nothing gets through, in one direction or both; senders retransmit and connecting hangs."),
        ("refuse", "A host refuses connections as if nothing listened."),
        ("reset", "Something in between resets connections, at once or after so many bytes."),
        ("dns", "A node cannot resolve the name of another."),
        ("status", "A gateway answers with an error status, before or after the server has acted."),
        ("drop-reply", "The server acts, and its answer is lost."),
        ("delay", "A gateway holds answers back."),
        ("late", "A gateway holds requests back, and the server acts on them even if their callers have gone."),
        ("truncate", "The body of an answer ends early."),
        ("stall", "The body of an answer stops coming while the connection stays open."),
        ("login-page", "A captive portal answers 200 with a page of HTML."),
        ("stream-reset", "HTTP/2: a stream is reset in place of the answer."),
        ("go-away", "HTTP/2: the connection is going away; HTTP/1.1: it closes after the answer."),
        ("crash", "A machine loses power, and what its disk had not synced, and boots again."),
        ("kill", "A process is killed; its supervisor notices."),
        ("stop", "A service is stopped in an orderly way, killed after its grace period, and started again."),
        ("pause", "A machine is suspended by whoever runs it: its clocks go on and its timers come late."),
        ("suspend", "A machine falls asleep: its monotonic clock stands still as well."),
        ("clock-step", "A machine's wall clock jumps."),
        ("clock-drift", "A machine's clocks run fast or slow."),
        ("disk-full", "A machine's disk has no room left."),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::families::families;

    #[test]
    fn every_family_is_explained() {
        let explained: Vec<&str> = catalogue().iter().map(|(name, _)| *name).collect();
        assert_eq!(explained, families().collect::<Vec<_>>());
    }
}
