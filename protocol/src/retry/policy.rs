//! A policy as plain data.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::breaker::Breaker;
use super::budget::Budget;
use super::caller::Hedge;
use super::conditions::RetryOn;
use super::generator::Generator;
use super::heed::{Combine, RetryAfter};
use super::span::Span;
use super::throttle::Throttle;
use super::wait::{Exponential, Jitter, Stage, Wait};
use super::{Composed, Nested, RetryPolicy};

/// So many attempts a second are a rush.
const RUSH_PER_S: u32 = 11;
/// More retries of one call than this are as good as no limit.
const MANY_RETRIES: u32 = 100;

/// A retry policy: how long to wait, how often, after what, and what else has a say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Policy {
    /// How long to wait.
    pub wait: Wait,
    /// Retries of a call; without a number until it succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Which failures are retried.
    #[serde(default)]
    pub retry_on: RetryOn,
    /// What is done about a server's Retry-After.
    #[serde(default)]
    pub retry_after: RetryAfter,
    /// Where jitter comes from.
    #[serde(default)]
    pub generator: Generator,
    /// When waits start from the shortest again.
    #[serde(default)]
    pub reset: Reset,
    /// What retries are paid from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// What stops retries while too many attempts fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// What the client does to its own attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    /// How long a call may take over all its attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// What an attempt is expected to take: with less than that before the deadline there is no retry.
    #[serde(default)]
    pub expected: Span,
    /// What becomes of retries that the deadline comes before.
    #[serde(default)]
    pub on_deadline: OnDeadline,
    /// What waiting means to who holds a lease.
    #[serde(default)]
    pub on_lease: OnLease,
    /// Which clock waits are measured with.
    #[serde(default)]
    pub timer: Timer,
    /// How many layers retry, each with this same policy.
    #[serde(default = "one")]
    pub layers: u32,
    /// Copies of a request that is slow to be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
}

fn one() -> u32 {
    1
}

/// When waits start from the shortest again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// When a call succeeds.
    #[default]
    OnSuccess,
    /// When a call begins, whatever became of the last.
    EachCall,
    /// When the server answers at all, be it with an error.
    OnConnect,
}

/// What becomes of a retry that would come after the deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnDeadline {
    /// It is not made.
    #[default]
    GivesUp,
    /// It is made all the same.
    Ignored,
}

/// What waiting means to who holds a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnLease {
    /// Work stops when the lease ends, waiting or not.
    #[default]
    Stops,
    /// Nobody looks at the lease before the wait is over.
    SleepsThrough,
}

/// Which clock waits are measured with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Timer {
    /// The monotonic one.
    #[default]
    Monotonic,
    /// The wall clock, which may be set.
    Wall,
}

/// Why a policy makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The cap would shorten even the first wait.
    #[error("the cap of {cap} is below the base of {base}, so no wait would ever grow")]
    CapBelowBase {
        /// The first wait.
        base: Span,
        /// The longest.
        cap: Span,
    },
    /// A factor that is none.
    #[error("a factor of {0} is none; it takes a number from 0.1 to 100")]
    Factor(String),
    /// Jitter that is none.
    #[error("jitter of {0} is none; it takes a share from 0 to 10")]
    Jitter(String),
    /// A share of something that is none.
    #[error("{what} of {value} is none; it takes a number from 0 to 1000")]
    Share {
        /// What it is.
        what: &'static str,
        /// The field that has it.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// No stages, or one that ends before it begins.
    #[error("stages need at least one, each with a start that is not after its end")]
    Stages,
    /// Too many layers.
    #[error("{0} layers of retries are none; it takes 1 to 8")]
    Layers(u32),
    /// Too many copies.
    #[error("{0} copies of a request are none; it takes 1 to 10")]
    Copies(u32),
}

impl PolicyError {
    /// The field that is to blame, as files name it.
    pub fn field(&self) -> &'static str {
        match self {
            PolicyError::CapBelowBase { .. } => "cap",
            PolicyError::Factor(_) => "factor",
            PolicyError::Jitter(_) => "jitter",
            PolicyError::Share { field, .. } => field,
            PolicyError::Stages => "stages",
            PolicyError::Layers(_) => "layers",
            PolicyError::Copies(_) => "copies",
        }
    }
}

/// What makes a policy dangerous although it makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// Nothing stands between two attempts.
    #[error("it may retry without any wait, as fast as failures come back")]
    Hammers,
    /// Hardly anything does.
    #[error("it may retry more than ten times a second for as long as calls fail")]
    Rushes,
    /// The server's word is law.
    #[error("it waits as long as Retry-After says, however long that is")]
    TrustsRetryAfter,
    /// Whoever is told the same comes back together.
    #[error("all who are told the same Retry-After come back together")]
    Clusters,
}

impl Policy {
    /// A policy that only waits, for ever, after what is worth a retry.
    pub const fn of(wait: Wait) -> Self {
        Self {
            wait,
            retries: None,
            retry_on: RetryOn::Transient,
            retry_after: RetryAfter::IGNORED,
            generator: Generator::Own,
            reset: Reset::OnSuccess,
            budget: None,
            breaker: None,
            throttle: None,
            deadline: None,
            expected: Span::ZERO,
            on_deadline: OnDeadline::GivesUp,
            on_lease: OnLease::Stops,
            timer: Timer::Monotonic,
            layers: 1,
            hedge: None,
        }
    }

    /// A client's state of this policy.
    pub fn start(&self) -> Box<dyn RetryPolicy> {
        let layer = || -> Box<dyn RetryPolicy> { Box::new(Composed::new(self)) };
        (1..self.layers).fold(layer(), |inner, _| Box::new(Nested::new(inner, layer())))
    }

    /// Does it make sense?
    ///
    /// # Errors
    /// [`PolicyError`] when it does not. Otherwise what is dangerous about it.
    pub fn check(&self) -> Result<Vec<Warning>, PolicyError> {
        self.wait.check()?;
        self.check_shares()?;
        if !(1..=8).contains(&self.layers) {
            return Err(PolicyError::Layers(self.layers));
        }
        if let Some(hedge) = &self.hedge
            && !(1..=10).contains(&hedge.copies)
        {
            return Err(PolicyError::Copies(hedge.copies));
        }
        Ok(self.warnings())
    }

    fn check_shares(&self) -> Result<(), PolicyError> {
        let share = match self.budget {
            Some(Budget::Throttling { ratio, .. } | Budget::TokenBucket { ratio, .. }) => {
                ("a budget's ratio", "ratio", ratio)
            }
            Some(Budget::Window { share, .. } | Budget::Concurrency { share, .. }) => {
                ("a budget's share", "share", share)
            }
            _ => ("a budget's ratio", "ratio", 0.0),
        };
        let multiplier = if let Some(Throttle::Sre { k, .. }) = self.throttle { k } else { 0.0 };
        for (what, field, value) in [share, ("the multiplier", "k", multiplier)] {
            if !(0.0..=1_000.0).contains(&value) {
                return Err(PolicyError::Share { what, field, value: value.to_string() });
            }
        }
        Ok(())
    }

    fn warnings(&self) -> Vec<Warning> {
        let RetryAfter { combine, cap, spread } = self.retry_after;
        let minds = combine != Combine::Ignored;
        let paced = !matches!(self.throttle, None | Some(Throttle::Pace { per_second: RUSH_PER_S.., .. }));
        let limited = self.retries.is_some_and(|retries| retries <= MANY_RETRIES) || self.budget.is_some() || paced;
        let (none, longest) = (self.wait.is_none(), self.wait.longest());
        let told = [
            (none && !limited, Warning::Hammers),
            (!none && !limited && longest.0 * RUSH_PER_S < Duration::from_secs(1), Warning::Rushes),
            (minds && cap.is_none(), Warning::TrustsRetryAfter),
            (minds && spread == Span::ZERO && !(combine == Combine::Sum && self.wait.is_drawn()), Warning::Clusters),
        ];
        told.into_iter().filter_map(|(holds, warning)| holds.then_some(warning)).collect()
    }
}

impl Wait {
    fn check(&self) -> Result<(), PolicyError> {
        match self {
            Wait::Exponential(shape) => shape.check(),
            Wait::Linear { step: base, cap } | Wait::Decorrelated { base, cap } => not_below(*base, *cap),
            Wait::Stages(stages) => {
                let ordered = |stage: &Stage| stage.from <= stage.to;
                (!stages.is_empty() && stages.iter().all(ordered)).then_some(()).ok_or(PolicyError::Stages)
            }
            _ => Ok(()),
        }
    }

    /// What it waits in the end.
    fn longest(&self) -> Span {
        match self {
            Wait::None => Span::ZERO,
            Wait::Fixed { wait } => *wait,
            Wait::Linear { cap, .. } | Wait::Decorrelated { cap, .. } => *cap,
            Wait::Exponential(shape) if shape.factor <= 1.0 => shape.base,
            Wait::Exponential(shape) => shape.cap,
            Wait::Stages(stages) => stages.last().map_or(Span::ZERO, |stage| stage.to),
            Wait::Vss { .. } | Wait::RunnerPoll => Span::ENDLESS,
        }
    }

    /// Is there a retry that waits for nothing?
    fn is_none(&self) -> bool {
        let zero = Span::ZERO;
        match self {
            Wait::None => true,
            Wait::Fixed { wait } => *wait == zero,
            Wait::Linear { step, cap } => *step == zero || *cap == zero,
            Wait::Exponential(shape) => shape.base == zero || shape.cap == zero,
            Wait::Decorrelated { base, .. } => *base == zero,
            Wait::Stages(stages) => stages.iter().any(|stage| stage.to == zero),
            Wait::Vss { .. } | Wait::RunnerPoll => false,
        }
    }

    /// Does it draw anything?
    fn is_drawn(&self) -> bool {
        match self {
            Wait::Exponential(shape) => shape.jitter != Jitter::None,
            Wait::Decorrelated { .. } | Wait::Stages(_) | Wait::Vss { .. } => true,
            Wait::None | Wait::Fixed { .. } | Wait::Linear { .. } | Wait::RunnerPoll => false,
        }
    }
}

impl Exponential {
    fn check(&self) -> Result<(), PolicyError> {
        if !(0.1..=100.0).contains(&self.factor) {
            return Err(PolicyError::Factor(self.factor.to_string()));
        }
        if let Jitter::Add(share) = self.jitter
            && !(0.0..=10.0).contains(&share)
        {
            return Err(PolicyError::Jitter(share.to_string()));
        }
        not_below(self.base, self.cap)
    }
}

fn not_below(base: Span, cap: Span) -> Result<(), PolicyError> {
    if cap < base { Err(PolicyError::CapBelowBase { base, cap }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(shape: Exponential) -> Policy {
        Policy::of(Wait::Exponential(shape))
    }

    #[test]
    fn nonsense_gets_a_sentence() {
        let told = |policy: Policy| policy.check().expect_err("nonsense").to_string();
        let sound = Exponential::doubling(Span::secs(1), Span::secs(60));
        let cap = Exponential { cap: Span::millis(1), ..sound.clone() };
        assert_eq!(told(exponential(cap)), "the cap of 1ms is below the base of 1s, so no wait would ever grow");
        assert!(told(exponential(sound.clone().jittered(Jitter::Add(-1.0)))).starts_with("jitter of -1"));
        assert!(told(exponential(Exponential { factor: f64::NAN, ..sound })).starts_with("a factor of NaN"));
        assert!(told(Policy::of(Wait::Stages(Vec::new()))).starts_with("stages need"));
        assert!(told(Policy { layers: 0, ..Policy::of(Wait::None) }).starts_with("0 layers"));
    }

    #[test]
    fn danger_is_named() {
        let hammer = Policy::of(Wait::None);
        assert_eq!(hammer.check(), Ok(vec![Warning::Hammers]));
        let millions = Policy::of(Wait::Fixed { wait: Span(Duration::from_micros(1)) });
        assert_eq!(millions.check(), Ok(vec![Warning::Rushes]));
        let paced = |per_second| Policy { throttle: Some(Throttle::Pace { per_second, burst: 1 }), ..hammer.clone() };
        assert_eq!(paced(1_000_000).check(), Ok(vec![Warning::Hammers]));
        assert_eq!(paced(1).check(), Ok(Vec::new()));
        assert_eq!(Policy { retries: Some(1_000_000), ..hammer.clone() }.check(), Ok(vec![Warning::Hammers]));
        let trusting = Policy { retry_after: RetryAfter::TRUSTED, ..Policy::of(Wait::Fixed { wait: Span::secs(1) }) };
        assert_eq!(trusting.check(), Ok(vec![Warning::TrustsRetryAfter, Warning::Clusters]));
    }
}
