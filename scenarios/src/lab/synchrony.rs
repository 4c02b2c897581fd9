//! The synchrony index: do requests of many agents keep coming at the same moments?
//!
//! It is the largest autocorrelation of arrivals, 0 to 1, with three things taken out that are not agents in step:
//!
//! * **The trend.** A fleet that comes back sends less from second to second, or more, and what rises or falls slowly is
//!   like itself a few seconds later. So it is not the arrivals that are correlated but what is left of them when their
//!   moving mean is taken away.
//! * **An agent's own rhythm.** Each agent polls at an interval and is in step with itself. At any lag each arrival can be
//!   the echo of one of the same agent's, so as many pairs as there are arrivals say nothing; nor do those that are there
//!   because some agents began in the same second by chance and stay together.
//! * **Small swings.** In a large fleet chance is small, and a swing by a few percent that comes again correlates as well
//!   as a burst. What swings by less than a quarter of the mean counts for little: that is added to the variance.
//!
//! Seconds and those a lag later are compared with the variance of whichever has less of it, and not with the mean of both:
//! the return of all agents at once is a burst that dwarfs those that follow, and would hide that they do.

/// Arrivals are counted by the second: who comes within the same second comes together.
const BUCKETS_PER_SECOND: usize = 10;
/// The moving mean goes over so many seconds before and after each: twice this is longer than the time from one poll to
/// the next, so a burst at every poll is none of the trend.
const TREND_REACH_S: usize = 10;
/// The first lag, in seconds. Within less than that a single burst is like itself.
const LAG_MIN_S: usize = 2;
/// So many standard deviations are left to chance.
const CHANCE: f64 = 2.0;
/// A swing of this share of the mean counts for half.
const SWING: f64 = 0.25;

/// The index of arrivals in buckets of 100 ms.
pub fn synchrony(buckets: &[u32]) -> f64 {
    let arrivals: Vec<f64> =
        buckets.chunks_exact(BUCKETS_PER_SECOND).map(|second| f64::from(second.iter().sum::<u32>())).collect();
    let residuals: Vec<f64> = arrivals.iter().zip(trend(&arrivals)).map(|(arrived, trend)| arrived - trend).collect();
    // With more than half of the time between them, too few seconds are left to compare.
    (LAG_MIN_S..=arrivals.len() / 2).map(|lag| correlation(&arrivals, &residuals, lag)).fold(0.0, f64::max).min(1.0)
}

/// The mean of each second and of its neighbours.
fn trend(arrivals: &[f64]) -> impl Iterator<Item = f64> {
    (0..arrivals.len()).map(|at| {
        let around = &arrivals[at.saturating_sub(TREND_REACH_S)..(at + TREND_REACH_S + 1).min(arrivals.len())];
        around.iter().sum::<f64>() / around.len() as f64
    })
}

/// How much seconds are like those that are `lag` later.
///
/// Who polls once in `lag` seconds begins in any of so many. If agents do so by chance, those of a second are a Poisson
/// number of mean `m`, and its squares about the mean have a variance of `2 m^2 + m`: the echoes of all of these seconds
/// are off by `sqrt((2 + 1/m) / lag)` of themselves.
fn correlation(arrivals: &[f64], residuals: &[f64], lag: usize) -> f64 {
    let count = arrivals.len() - lag;
    let (first, second) = (&residuals[..count], &residuals[lag..]);
    let (sent_first, sent_second) = (arrivals[..count].iter().sum::<f64>(), arrivals[lag..].iter().sum::<f64>());
    let echoes = sent_first.min(sent_second);
    if echoes == 0.0 {
        return 0.0;
    }
    let by_chance = CHANCE * ((2.0 + count as f64 / echoes) / lag as f64).sqrt();
    let alike: f64 = first.iter().zip(second).map(|(a, b)| a * b).sum();
    let variance = |residuals: &[f64], sent: f64| {
        let squares: f64 = residuals.iter().map(|residual| residual * residual).sum();
        squares + (SWING * sent).powi(2) / count as f64
    };
    (alike - echoes * (1.0 + by_chance)) / variance(first, sent_first).min(variance(second, sent_second))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const FLEETS: [u32; 4] = [10, 100, 1_000, 10_000];
    const MINUTE_MS: u64 = 60_000;

    /// A minute's arrivals, at these times in milliseconds.
    fn minute(arrivals: impl Iterator<Item = u64>) -> Vec<u32> {
        let mut buckets = vec![0; MINUTE_MS as usize / 100];
        for at in arrivals.filter(|at| *at < MINUTE_MS) {
            buckets[at as usize / 100] += 1;
        }
        buckets
    }

    /// Each agent comes at any time of the minute, the sooner the likelier.
    fn falling(agents: u32) -> Vec<u32> {
        let mut random = ChaCha8Rng::seed_from_u64(u64::from(agents));
        minute((0..agents).map(|_| (MINUTE_MS as f64 * (1.0 - random.random::<f64>().sqrt())) as u64))
    }

    /// Each agent begins at any time and polls every ten seconds.
    fn polling(agents: u32, seed: u64) -> Vec<u32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        minute((0..agents).flat_map(|_| {
            let first = random.random_range(0..10_000);
            (0..6).map(move |poll| first + poll * 10_000)
        }))
    }

    /// All agents come within half a second, and again each time they have waited, fewer from time to time.
    fn in_step(agents: u32, wait_s: u64) -> Vec<u32> {
        let mut random = ChaCha8Rng::seed_from_u64(u64::from(agents));
        let burst = |n: u64| {
            let left = u64::from(agents) * (20 - n) / 20;
            (0..left).map(move |_| 3_000 + n * wait_s * 1_000)
        };
        let arrivals = (0..10).flat_map(burst).map(|at| at + random.random_range(0..500));
        minute(arrivals)
    }

    #[test]
    fn a_trend_is_not_synchrony() {
        for agents in FLEETS {
            let index = synchrony(&falling(agents));
            assert!(index < 0.1, "{agents} agents: {index}");
        }
    }

    #[test]
    fn an_agents_own_rhythm_is_not_synchrony() {
        for agents in FLEETS {
            let mut indices: Vec<f64> = (0..9).map(|seed| synchrony(&polling(agents, seed))).collect();
            indices.sort_by(f64::total_cmp);
            assert!(indices[4] < 0.05 && indices[7] < 0.2, "{agents} agents: {indices:?}");
        }
    }

    #[test]
    fn agents_in_step_are_synchronous_whatever_their_trend() {
        for agents in FLEETS {
            // A fixed wait, and an exponential one at its cap.
            for wait_s in [10, 16] {
                let index = synchrony(&in_step(agents, wait_s));
                assert!(index > 0.8, "{agents} agents, every {wait_s} s: {index}");
            }
        }
    }

    #[test]
    fn nothing_and_a_steady_stream_have_no_step() {
        assert_eq!(synchrony(&[]), 0.0);
        assert_eq!(synchrony(&[0; 600]), 0.0);
        assert_eq!(synchrony(&[7; 600]), 0.0);
    }
}
