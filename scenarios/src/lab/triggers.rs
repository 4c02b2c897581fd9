//! Triggers: fleets and fault plans that may hurt a policy, drawn, changed and made smaller.

use rand::RngCore;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use squall_protocol::random::pick;
use squall_protocol::retry::Policy;
use squall_sim::case::Case;
use squall_sim::fault::{Fault, FaultKind, FaultPlan, Target};

use super::fleet::{FRONTS, Fleet, Transport};
use super::run::{Observed, observe_plan};
use super::scenario;
use super::trial::{SLOW, TOKENS_EXPIRE, TROUBLE_AT_MS, away, everywhere, unavailable};

/// How long a fleet is watched after heal, in milliseconds.
const WATCHED_MS: u64 = 20 * 60_000;
/// A run ends when so many requests were sent for each agent: a policy that sends more is hurt enough.
const REQUESTS_MAX: u64 = 1_000;
/// Fewer agents are no fleet.
const AGENTS_MIN: u32 = 5;
/// A span that no server should ask for.
const ABSURD_S: u64 = 1_000_000_000;

/// A fleet, its server, and what befalls them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// How many agents.
    pub agents: u32,
    /// What renewals alone use of the server, in percent.
    pub load_percent: u32,
    /// What an overloaded server says in Retry-After.
    pub retry_after_s: Option<u64>,
    /// The agents renew in step before trouble begins.
    #[serde(default)]
    pub in_step: bool,
    /// What goes wrong, one after another or at once.
    pub troubles: Vec<Trouble>,
    /// The world's seed.
    pub seed: u64,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What.
    pub kind: Kind,
    /// How long after the beginning of trouble, in seconds.
    pub after_s: u64,
    /// How long, in seconds.
    pub for_s: u64,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The server is away.
    Away,
    /// So many requests in a hundred are told 503.
    Unavailable {
        /// How many.
        percent: u8,
        /// What they are told in Retry-After.
        retry_after_s: Option<u64>,
    },
    /// The server does so many percent of its work.
    Slow {
        /// How many.
        percent: u8,
    },
    /// So many answers in a hundred are lost.
    Lost {
        /// How many.
        percent: u8,
    },
    /// Every token becomes invalid.
    Tokens,
    /// The wall clock of every fourth agent is set by so many seconds.
    Clocks {
        /// Forward if positive.
        by_s: i32,
    },
}

impl Trigger {
    /// The plainest triggers, one of each kind, for agents in step.
    pub fn plain() -> Vec<Self> {
        let told = |retry_after_s| Kind::Unavailable { percent: 100, retry_after_s };
        let kinds = [
            (Kind::Away, 300),
            (Kind::Away, 10),
            (told(None), 120),
            (told(Some(30)), 30),
            (told(Some(ABSURD_S)), 10),
            (Kind::Slow { percent: 10 }, 120),
            (Kind::Lost { percent: 100 }, 30),
            (Kind::Tokens, 1),
        ];
        let of = |(kind, for_s)| Self {
            agents: 20,
            load_percent: 10,
            retry_after_s: None,
            in_step: true,
            troubles: vec![Trouble { kind, after_s: 0, for_s }],
            seed: 0,
        };
        let mut plain = kinds.map(of).to_vec();
        // Clocks that are wrong hurt who waits meanwhile.
        let mut outage = plain[0].clone();
        outage.troubles.push(Trouble { kind: Kind::Clocks { by_s: 900 }, after_s: 200, for_s: 60 });
        plain.push(outage);
        plain
    }

    /// Any trigger.
    pub fn draw(random: &mut ChaCha8Rng) -> Self {
        let troubles = (0..=random.next_u64() % 2).map(|_| Trouble::draw(random)).collect();
        Self {
            agents: pick(random, &[10, 20, 40, 80]),
            load_percent: pick(random, &[10, 20, 50, 80]),
            retry_after_s: pick(random, &[None, None, Some(5), Some(30)]),
            in_step: pick(random, &[true, false]),
            troubles,
            seed: random.next_u64() % 1_000,
        }
    }

    /// A neighbour: one thing is different.
    pub fn changed(&self, random: &mut ChaCha8Rng) -> Self {
        let (mut changed, other) = (self.clone(), Self::draw(random));
        match random.next_u64() % 7 {
            5 => changed.in_step = !changed.in_step,
            0 => changed.agents = other.agents,
            1 => changed.load_percent = other.load_percent,
            2 => changed.retry_after_s = other.retry_after_s,
            3 => changed.troubles = other.troubles,
            4 => changed.troubles.push(Trouble::draw(random)),
            _ => {
                let at = random.next_u64() as usize % changed.troubles.len();
                changed.troubles[at].for_s = (changed.troubles[at].for_s * 2).min(1_800);
            }
        }
        changed.troubles.truncate(3);
        changed
    }

    /// Smaller triggers, the most daring first.
    pub fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for n in 0..self.troubles.len() {
            if self.troubles.len() > 1 {
                let mut without = self.clone();
                without.troubles.remove(n);
                all.push(without);
            }
        }
        if self.agents > AGENTS_MIN {
            all.push(Self { agents: (self.agents / 2).max(AGENTS_MIN), ..self.clone() });
        }
        all.extend(self.retry_after_s.map(|_| Self { retry_after_s: None, ..self.clone() }));
        if self.in_step {
            all.push(Self { in_step: false, ..self.clone() });
        }
        if self.load_percent != 50 {
            all.push(Self { load_percent: 50, ..self.clone() });
        }
        for n in 0..self.troubles.len() {
            for smaller in self.troubles[n].smaller() {
                let mut changed = self.clone();
                changed.troubles[n] = smaller;
                all.push(changed);
            }
        }
        all
    }

    /// The fleet, with a policy.
    pub fn fleet(&self, policy: &Policy) -> Fleet {
        Fleet {
            load_percent: self.load_percent,
            retry_after_s: self.retry_after_s,
            transport: Transport::Exchange,
            in_step: self.in_step,
            requests_max: REQUESTS_MAX * u64::from(self.agents),
            ..Fleet::of(self.agents, policy.clone())
        }
    }

    /// The plan of its faults.
    pub fn plan(&self) -> FaultPlan {
        let faults: Vec<Fault> = self.troubles.iter().flat_map(|trouble| trouble.faults(self.agents)).collect();
        let heal_at_ms = faults.iter().map(|fault| fault.at_ms + fault.for_ms).max().unwrap_or(TROUBLE_AT_MS) + 1;
        FaultPlan { faults, heal_at_ms }
    }

    fn end_ms(&self) -> u64 {
        self.plan().heal_at_ms + WATCHED_MS
    }

    /// Puts a policy through it.
    pub fn observe(&self, policy: &Policy) -> Observed {
        observe_plan(&self.fleet(policy), &self.plan(), self.end_ms(), self.seed)
    }

    /// As a case that can be replayed.
    pub fn case(&self, policy: &Policy) -> Case {
        scenario::case(&self.fleet(policy), &self.plan(), self.end_ms(), self.seed)
    }
}

impl Trouble {
    fn draw(random: &mut ChaCha8Rng) -> Self {
        let percent = pick(random, &[10, 50, 90, 100]);
        let kind = match random.next_u64() % 8 {
            0 | 1 => Kind::Away,
            2 | 3 => {
                let retry_after_s = pick(random, &[None, Some(5), Some(30), Some(30), Some(ABSURD_S)]);
                Kind::Unavailable { percent, retry_after_s }
            }
            4 => Kind::Slow { percent: pick(random, &[1, 10, 50]) },
            5 => Kind::Lost { percent },
            6 => Kind::Tokens,
            _ => Kind::Clocks { by_s: pick(random, &[-86_400, -3_600, -60, 60, 3_600]) },
        };
        Self { kind, after_s: pick(random, &[0, 0, 5, 30]), for_s: pick(random, &[2, 10, 30, 60, 120, 300, 600]) }
    }

    fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        if self.after_s > 0 {
            all.push(Self { after_s: 0, ..*self });
        }
        if self.for_s > 1 {
            all.push(Self { for_s: self.for_s / 2, ..*self });
            all.push(Self { for_s: self.for_s - (self.for_s / 4).max(1), ..*self });
        }
        let kind = match self.kind {
            Kind::Unavailable { percent, retry_after_s: Some(_) } => {
                Some(Kind::Unavailable { percent, retry_after_s: None })
            }
            Kind::Unavailable { percent, retry_after_s } if percent > 10 => {
                Some(Kind::Unavailable { percent: percent / 2, retry_after_s })
            }
            Kind::Lost { percent } if percent > 10 => Some(Kind::Lost { percent: percent / 2 }),
            Kind::Slow { percent } if percent < 50 => Some(Kind::Slow { percent: percent * 2 }),
            Kind::Clocks { by_s } if by_s.abs() > 60 => Some(Kind::Clocks { by_s: by_s / 2 }),
            _ => None,
        };
        all.extend(kind.map(|kind| Self { kind, ..*self }));
        all
    }

    fn faults(&self, agents: u32) -> Vec<Fault> {
        let (at_ms, for_ms) = (TROUBLE_AT_MS + self.after_s * 1_000, self.for_s * 1_000);
        let system = |name: &str, amount| FaultKind::System { name: name.to_owned(), amount };
        match self.kind {
            Kind::Away => (0..FRONTS).map(|front| away(front, at_ms, for_ms)).collect(),
            Kind::Unavailable { percent, retry_after_s } => {
                vec![everywhere(unavailable(percent, retry_after_s), at_ms, for_ms)]
            }
            Kind::Slow { percent } => vec![everywhere(system(SLOW, i64::from(percent)), at_ms, for_ms)],
            Kind::Lost { percent } => vec![everywhere(FaultKind::DropReply { percent }, at_ms, for_ms)],
            Kind::Tokens => vec![everywhere(system(TOKENS_EXPIRE, 100), at_ms, 0)],
            Kind::Clocks { by_s } => {
                let step = |agent: u32| {
                    let target = Target { node: Some(format!("agent-{agent}")), ..Target::default() };
                    Fault { kind: FaultKind::ClockStep { by_ms: i64::from(by_s) * 1_000 }, target, at_ms, for_ms }
                };
                (0..agents).step_by(4).map(step).collect()
            }
        }
    }
}

impl std::fmt::Display for Trigger {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let in_step = if self.in_step { " in step" } else { "" };
        write!(to, "{} agents{in_step} at {} % load", self.agents, self.load_percent)?;
        if let Some(seconds) = self.retry_after_s {
            write!(to, ", overload told Retry-After: {seconds}")?;
        }
        for trouble in &self.troubles {
            write!(to, "; {trouble}")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, after_s, for_s } = self;
        match kind {
            Kind::Away => write!(to, "the server is away for {for_s} s")?,
            Kind::Unavailable { percent, retry_after_s } => {
                write!(to, "{percent} % are told 503 for {for_s} s")?;
                if let Some(seconds) = retry_after_s {
                    write!(to, " with Retry-After: {seconds}")?;
                }
            }
            Kind::Slow { percent } => write!(to, "the server does {percent} % of its work for {for_s} s")?,
            Kind::Lost { percent } => write!(to, "{percent} % of the answers are lost for {for_s} s")?,
            Kind::Tokens => write!(to, "all tokens expire")?,
            Kind::Clocks { by_s } => write!(to, "every fourth clock is set by {by_s} s for {for_s} s")?,
        }
        if *after_s > 0 { write!(to, " after {after_s} s") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn making_smaller_comes_to_an_end() {
        for seed in 0..20 {
            let mut trigger = Trigger::draw(&mut ChaCha8Rng::seed_from_u64(seed));
            let mut steps = 0;
            while let Some(smaller) = trigger.smaller().into_iter().next() {
                trigger = smaller;
                steps += 1;
                assert!(steps < 200, "{trigger}");
            }
        }
    }

    #[test]
    fn the_same_draws_make_the_same_trigger() {
        let draw = |seed| Trigger::draw(&mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
