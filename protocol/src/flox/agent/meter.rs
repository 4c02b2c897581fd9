//! curl's progress meter.

use std::fmt;
use std::time::Duration;

use crate::clock::Mono;

/// How far an attempt has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    /// When the attempt began.
    pub(super) began: Mono,
    /// Bytes that came.
    pub(super) received: u64,
    /// Bytes that were announced.
    pub(super) announced: Option<u64>,
}

impl Meter {
    pub(super) fn started(now: Mono) -> Self {
        Self { began: now, received: 0, announced: None }
    }

    /// Bytes that were announced and did not come.
    pub(super) fn missing(&self) -> Option<u64> {
        self.announced.map(|announced| announced.saturating_sub(self.received))
    }

    /// The meter's last line: percent, total, received, average speed, time in total, spent and left.
    pub(super) fn line(&self, now: Mono) -> impl fmt::Display + use<> {
        Line { meter: *self, spent: now.since(self.began) }
    }
}

struct Line {
    meter: Meter,
    spent: Duration,
}

impl fmt::Display for Line {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Meter { received, announced, .. } = self.meter;
        let total = announced.unwrap_or(received);
        let percent = (received * 100).checked_div(total).unwrap_or(0);
        let speed = u128::from(received) * 1_000 / self.spent.as_millis().max(1);
        let speed = u64::try_from(speed).unwrap_or(u64::MAX);
        let whole = total.checked_div(speed).unwrap_or(0);
        let left = whole.saturating_sub(self.spent.as_secs());
        write!(
            to,
            "{percent:3} {} {percent:3} {}    0     0 {}      0 {} {} {} {}",
            Size(total),
            Size(received),
            Size(speed),
            Clock(whole),
            Clock(self.spent.as_secs()),
            Clock(left),
            Size(speed)
        )
    }
}

/// A number of bytes in five characters: what comes after the last of them is left out, not rounded (`max5data`,
/// `lib/progress.c`).
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        match self.0 {
            bytes if bytes < 100_000 => write!(to, "{bytes:5}"),
            bytes if bytes < 10_000 * KIB => write!(to, "{:4}k", bytes / KIB),
            bytes if bytes < 100 * MIB => write!(to, "{:2}.{}M", bytes / MIB, bytes % MIB / (MIB / 10)),
            bytes => write!(to, "{:4}M", bytes / MIB),
        }
    }
}

/// Seconds as `0:01:20`.
struct Clock(u64);

impl fmt::Display for Clock {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:2}:{:02}:{:02}", self.0 / 3_600, self.0 / 60 % 60, self.0 % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_incident_reads_as_it_did() {
        let meter = Meter { began: Mono::default(), received: 15_043_840, announced: Some(30 << 20) };
        let told = meter.line(Mono::from_start(Duration::from_millis(80_450))).to_string();
        assert_eq!(told, " 47 30.0M  47 14.3M    0     0  182k      0  0:02:48  0:01:20  0:01:28  182k");
    }

    #[test]
    fn sizes_are_cut_to_five_characters() {
        let told = [0, 99_999, 100_000, 10_239_999, 10_240_000, 104_857_599, 104_857_600].map(|n| Size(n).to_string());
        assert_eq!(told, ["    0", "99999", "  97k", "9999k", " 9.7M", "99.10M", " 100M"]);
    }
}
