//! What the environment asks of checks.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use jiff::SignedDuration;
use thiserror::Error;

/// The environment's wishes; they take precedence over those of the code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// `SQUALL_SEED`: run this seed alone, and tell its story.
    pub(super) seed: Option<u64>,
    /// `SQUALL_SEEDS`: how many seeds.
    pub(super) seeds: Option<NonZeroU64>,
    /// `SQUALL_TIME`: how long, in real time.
    pub(super) time: Option<Duration>,
    /// `SQUALL_JOBS`: on how many threads.
    pub(super) jobs: Option<NonZeroUsize>,
}

/// A variable of the environment has a value that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name}={value} is not understood: {accepted}")]
pub(super) struct SettingError {
    name: &'static str,
    value: String,
    accepted: &'static str,
}

impl Settings {
    /// Reads the variables through `lookup`.
    pub(super) fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SettingError> {
        let number = "it takes a whole number, at least 1";
        Ok(Self {
            seed: setting(&lookup, "SQUALL_SEED", |text| text.parse().ok(), "it takes a whole number, a seed")?,
            seeds: setting(&lookup, "SQUALL_SEEDS", |text| text.parse().ok(), number)?,
            time: setting(&lookup, "SQUALL_TIME", duration, "it takes a duration such as 30s, 10m or 2h")?,
            jobs: setting(&lookup, "SQUALL_JOBS", |text| text.parse().ok(), number)?,
        })
    }
}

fn setting<T>(
    lookup: impl Fn(&str) -> Option<String>,
    name: &'static str,
    parse: impl Fn(&str) -> Option<T>,
    accepted: &'static str,
) -> Result<Option<T>, SettingError> {
    match lookup(name).filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(value) => match parse(value.trim()) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(SettingError { name, value, accepted }),
        },
    }
}

fn duration(text: &str) -> Option<Duration> {
    let duration = Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()?;
    Some(duration).filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &'static str, value: &'static str) -> Result<Settings, SettingError> {
        Settings::read(|asked| (asked == name).then(|| value.to_owned()))
    }

    #[test]
    fn the_environment_is_read() {
        assert_eq!(read("SQUALL_SEED", "17").unwrap().seed, Some(17));
        assert_eq!(read("SQUALL_SEEDS", " 500").unwrap().seeds, NonZeroU64::new(500));
        assert_eq!(read("SQUALL_TIME", "10m").unwrap().time, Some(Duration::from_secs(600)));
        assert_eq!(read("SQUALL_JOBS", "2").unwrap().jobs, NonZeroUsize::new(2));
        assert_eq!(read("SQUALL_JOBS", "").unwrap(), Settings::default());
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_is_accepted() {
        for (name, value) in [("SQUALL_SEED", "x"), ("SQUALL_SEEDS", "0"), ("SQUALL_TIME", "10"), ("SQUALL_JOBS", "-1")]
        {
            let refused = read(name, value).expect_err("it means nothing").to_string();
            assert!(refused.starts_with(&format!("{name}={value} is not understood: it takes")), "{refused}");
        }
    }
}
