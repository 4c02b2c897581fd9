//! Access tokens: who may have one, for how long it is good, and whom it speaks for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::deadlines::{Deadlines, after};
use crate::effect::OnEffect;

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    /// It was never issued, has been revoked, or ended so long ago that it is forgotten.
    #[error("the token is unknown")]
    Unknown,
    /// Its life has ended.
    #[error("the token has expired")]
    Expired,
}

#[derive(Clone, Debug)]
struct Issued<S> {
    subject: S,
    until: Timestamp,
    /// Somebody made it invalid, who hears each time that it is shown all the same.
    revoked: Option<OnEffect>,
}

/// A span of time in which a subject gets no token, and who hears of each that it does not get.
#[derive(Clone, Debug)]
struct Refusal {
    from: Timestamp,
    until: Timestamp,
    on_effect: OnEffect,
}

/// The tokens of a token service, and the spans of time in which it refuses a subject one.
#[derive(Clone, Debug)]
pub struct TokenIssuer<S> {
    tokens: BTreeMap<String, Issued<S>>,
    of_subjects: BTreeMap<S, BTreeSet<String>>,
    forget: Deadlines<String>,
    refused: BTreeMap<S, Vec<Refusal>>,
}

/// How long an expired token is remembered, so that it can be told from an unknown one.
const MEMORY: Duration = Duration::from_secs(3_600);

impl<S> Default for TokenIssuer<S> {
    fn default() -> Self {
        Self {
            tokens: BTreeMap::new(),
            of_subjects: BTreeMap::new(),
            forget: Deadlines::default(),
            refused: BTreeMap::new(),
        }
    }
}

impl<S: Ord + Clone> TokenIssuer<S> {
    /// Makes `token` speak for `subject` for `life`.
    pub fn issue(&mut self, token: String, subject: S, life: Duration, now: Timestamp) {
        while let Some(old) = self.forget.take_due(now) {
            self.remove(&old);
        }
        let until = after(now, life);
        self.forget.set(token.clone(), after(until, MEMORY));
        self.remove(&token);
        self.of_subjects.entry(subject.clone()).or_default().insert(token.clone());
        self.tokens.insert(token, Issued { subject, until, revoked: None });
    }

    fn remove(&mut self, token: &str) {
        let Some(issued) = self.tokens.remove(token) else { return };
        if let Some(others) = self.of_subjects.get_mut(&issued.subject) {
            others.remove(token);
            if others.is_empty() {
                self.of_subjects.remove(&issued.subject);
            }
        }
    }

    /// Whom a token speaks for.
    ///
    /// # Errors
    /// [`Unauthorized`].
    pub fn subject(&self, token: &str, now: Timestamp) -> Result<&S, Unauthorized> {
        let issued = self.tokens.get(token).ok_or(Unauthorized::Unknown)?;
        if let Some(revoked) = &issued.revoked {
            revoked.tell();
            return Err(Unauthorized::Unknown);
        }
        if issued.until <= now { Err(Unauthorized::Expired) } else { Ok(&issued.subject) }
    }

    /// Makes every token of a subject unknown. `on_effect` hears each time that one of them is shown.
    pub fn revoke(&mut self, subject: &S, on_effect: &OnEffect) {
        for token in self.of_subjects.get(subject).into_iter().flatten() {
            if let Some(issued) = self.tokens.get_mut(token) {
                issued.revoked.get_or_insert_with(|| on_effect.clone());
            }
        }
    }

    /// From `from` until `until` the subject gets no token, as if its registration did not exist. `on_effect` hears of
    /// each that it does not get.
    pub fn refuse(&mut self, subject: S, from: Timestamp, until: Timestamp, on_effect: OnEffect) {
        self.refused.entry(subject).or_default().push(Refusal { from, until, on_effect });
    }

    /// Is the subject, which asks for a token now, refused it?
    pub fn is_refused(&self, subject: &S, now: Timestamp) -> bool {
        let refusals = self.refused.get(subject).into_iter().flatten();
        let mut refusals = refusals.filter(|refusal| refusal.from <= now && now < refusal.until);
        refusals.next().inspect(|refusal| refusal.on_effect.tell()).is_some()
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::counted;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_registration_can_be_refused_for_a_while() {
        let mut issuer = TokenIssuer::default();
        let (told, on_effect) = counted();
        issuer.refuse(1, at(10), at(20), on_effect.clone());
        issuer.refuse(1, at(30), at(40), on_effect);
        let refused: Vec<i64> = (0..50).filter(|second| issuer.is_refused(&1, at(*second))).collect();
        assert_eq!(refused, (10..20).chain(30..40).collect::<Vec<i64>>());
        assert!(!issuer.is_refused(&2, at(10)));
        assert_eq!(told(), 20);
    }

    #[test]
    fn a_revocation_has_an_effect_each_time_that_a_token_is_shown() {
        let mut issuer = TokenIssuer::default();
        let (told, on_effect) = counted();
        issuer.issue("a".into(), 1, Duration::from_secs(60), at(0));
        issuer.issue("b".into(), 2, Duration::from_secs(60), at(0));
        issuer.revoke(&1, &on_effect);
        assert_eq!(told(), 0);
        assert_eq!(issuer.subject("a", at(1)), Err(Unauthorized::Unknown));
        assert_eq!(issuer.subject("b", at(1)), Ok(&2));
        assert_eq!(told(), 1);
        issuer.issue("a".into(), 1, Duration::from_secs(60), at(2));
        assert_eq!(issuer.subject("a", at(3)), Ok(&1));
        assert_eq!(told(), 1);
    }
}
