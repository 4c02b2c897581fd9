//! Values of options, each with a sentence on what is accepted.

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use jiff::SignedDuration;
use squall_sim::explore::Shard;

/// More threads than this are a slip of the finger.
const JOBS_MAX: usize = 512;
/// More jobs than this at once are one, too.
const QUEUED_MAX: u32 = 100_000;

pub(super) fn seeds(text: &str) -> Result<NonZeroU64, String> {
    text.parse().map_err(|_| "it takes a whole number of seeds, at least 1".to_owned())
}

pub(super) fn triggers(text: &str) -> Result<NonZeroU64, String> {
    text.parse().map_err(|_| "it takes a whole number of triggers, at least 1".to_owned())
}

pub(super) fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("a seed is a whole number from 0 to {}", u64::MAX))
}

pub(super) fn jobs(text: &str) -> Result<NonZeroUsize, String> {
    let jobs = text.parse().ok().filter(|jobs: &NonZeroUsize| jobs.get() <= JOBS_MAX);
    jobs.ok_or_else(|| format!("it takes a number of threads from 1 to {JOBS_MAX}"))
}

pub(super) fn queued_jobs(text: &str) -> Result<u32, String> {
    let jobs = text.parse().ok().filter(|jobs| *jobs <= QUEUED_MAX);
    jobs.ok_or_else(|| format!("it takes a number of jobs from 0 to {QUEUED_MAX}"))
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let resolved = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    resolved.ok_or_else(|| "it takes an address and a port, such as 127.0.0.1:0 or localhost:8080".to_owned())
}

pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "it takes NAME=VALUE".to_owned())
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    let time = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    time.filter(|time| !time.is_zero())
        .ok_or_else(|| "it takes a duration above zero, such as 30s, 10m or 2h".to_owned())
}

pub(super) fn shard(text: &str) -> Result<Shard, String> {
    text.parse().map_err(|error: squall_sim::explore::ShardError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_people_write_them() {
        assert_eq!(time("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(time("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        for text in ["10parsecs", "10", "", "0s", "-5s", "m"] {
            assert!(time(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn addresses_have_a_port() {
        assert_eq!(address("127.0.0.1:80"), Ok(SocketAddr::from(([127, 0, 0, 1], 80))));
        assert!(address("[::1]:0").is_ok());
        for text in ["", "127.0.0.1", "here", ":80", "127.0.0.1:99999", "999.1.1.1:80"] {
            assert!(address(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn no_job_may_be_queued() {
        assert_eq!((queued_jobs("0"), queued_jobs("7")), (Ok(0), Ok(7)));
        assert!(["-1", "many", "1.5", "100001"].iter().all(|text| queued_jobs(text).is_err()));
    }

    #[test]
    fn counts_start_at_one() {
        assert!(["0", "-5", "many", "1.5"].iter().all(|text| seeds(text).is_err() && jobs(text).is_err()));
        assert!(jobs("513").is_err() && jobs("512").is_ok());
        assert!(seeds("18446744073709551615").is_ok() && seeds("18446744073709551616").is_err());
    }
}
