//! The issuer beside lists that do the same.

use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;
use crate::effect::counted;

const TOKENS: [&str; 5] = ["a", "b", "c", "d", "e"];
const SUBJECTS: std::ops::Range<u8> = 0..3;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[derive(Clone, Debug)]
struct Model {
    now: i64,
    tokens: Vec<Known>,
    refusals: Vec<Span>,
    /// How often each revocation and each refusal was told that it had an effect, in the order in which they came.
    told: Vec<u64>,
    /// What the last step came to.
    answer: Answer,
}

#[derive(Clone, Debug)]
struct Known {
    token: &'static str,
    subject: u8,
    end: i64,
    /// Which of `told` revoked it.
    revoked_by: Option<usize>,
}

#[derive(Clone, Debug)]
struct Span {
    subject: u8,
    from: i64,
    until: i64,
    /// Which of `told` it is.
    is: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Issue {
        token: &'static str,
        subject: u8,
        life: i64,
    },
    Show(&'static str),
    Revoke(u8),
    /// From so many seconds from now for so many seconds.
    Refuse {
        subject: u8,
        from: i64,
        seconds: i64,
    },
    Ask(u8),
    Wait(i64),
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Nothing,
    SpeaksFor(Result<u8, Unauthorized>),
    Refused(bool),
}

impl Model {
    fn issue(&mut self, token: &'static str, subject: u8, life: i64) {
        self.tokens.retain(|known| known.token != token && self.now < known.end + MEMORY.as_secs() as i64);
        self.tokens.push(Known { token, subject, end: self.now + life, revoked_by: None });
    }

    fn show(&mut self, token: &str) -> Result<u8, Unauthorized> {
        let known = self.tokens.iter().find(|known| known.token == token).ok_or(Unauthorized::Unknown)?;
        match known.revoked_by {
            Some(revocation) => {
                self.told[revocation] += 1;
                Err(Unauthorized::Unknown)
            }
            None if self.now >= known.end => Err(Unauthorized::Expired),
            None => Ok(known.subject),
        }
    }

    /// A token that is revoked already stays revoked by whoever did it first.
    fn revoke(&mut self, subject: u8) {
        self.told.push(0);
        for known in self.tokens.iter_mut().filter(|known| known.subject == subject && known.revoked_by.is_none()) {
            known.revoked_by = Some(self.told.len() - 1);
        }
    }

    fn refuse(&mut self, subject: u8, from: i64, until: i64) {
        self.told.push(0);
        self.refusals.push(Span { subject, from, until, is: self.told.len() - 1 });
    }

    /// Of several refusals at once the first has the effect.
    fn ask(&mut self, subject: u8) -> bool {
        let now = self.now;
        let mut refusals = self.refusals.iter().filter(|refusal| refusal.subject == subject);
        let Some(refusal) = refusals.find(|refusal| (refusal.from..refusal.until).contains(&now)) else {
            return false;
        };
        self.told[refusal.is] += 1;
        true
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        let (tokens, refusals, told) = (Vec::new(), Vec::new(), Vec::new());
        Just(Self { now: 0, tokens, refusals, told, answer: Answer::Nothing }).boxed()
    }

    /// Times are such that lives and memories often end at the very second of a step.
    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let (token, life) = (|| select(&TOKENS[..]), select(&[5, 10][..]));
        let wait = prop_oneof![4 => select(&[0, 1, 4, 5, 10][..]), 1 => select(&[3_590, 3_595, 3_599, 3_600][..])];
        prop_oneof![
            4 => (token(), SUBJECTS, life).prop_map(|(token, subject, life)| Step::Issue { token, subject, life }),
            4 => token().prop_map(Step::Show),
            1 => SUBJECTS.prop_map(Step::Revoke),
            1 => (SUBJECTS, -5i64..10, 0i64..15)
                .prop_map(|(subject, from, seconds)| Step::Refuse { subject, from, seconds }),
            2 => SUBJECTS.prop_map(Step::Ask),
            3 => wait.prop_map(Step::Wait),
        ]
        .boxed()
    }

    fn apply(mut model: Self, step: &Step) -> Self {
        model.answer = Answer::Nothing;
        match *step {
            Step::Issue { token, subject, life } => model.issue(token, subject, life),
            Step::Show(token) => model.answer = Answer::SpeaksFor(model.show(token)),
            Step::Revoke(subject) => model.revoke(subject),
            Step::Refuse { subject, from, seconds } => {
                let from = model.now + from;
                model.refuse(subject, from, from + seconds);
            }
            Step::Ask(subject) => model.answer = Answer::Refused(model.ask(subject)),
            Step::Wait(seconds) => model.now += seconds,
        }
        model
    }
}

/// An issuer, and what revocations and refusals were told.
#[derive(Default)]
struct Told {
    issuer: TokenIssuer<u8>,
    told: Vec<Box<dyn Fn() -> u64>>,
}

impl Told {
    fn on_effect(&mut self) -> OnEffect {
        let (told, on_effect) = counted();
        self.told.push(Box::new(told));
        on_effect
    }
}

struct Comparison;

impl StateMachineTest for Comparison {
    type SystemUnderTest = Told;
    type Reference = Model;

    fn init_test(_: &Model) -> Told {
        Told::default()
    }

    fn apply(mut told: Told, model: &Model, step: Step) -> Told {
        let (now, mut answer) = (at(model.now), Answer::Nothing);
        match step {
            Step::Issue { token, subject, life } => {
                told.issuer.issue(token.to_owned(), subject, Duration::from_secs(life as u64), now);
            }
            Step::Show(token) => answer = Answer::SpeaksFor(told.issuer.subject(token, now).copied()),
            Step::Revoke(subject) => {
                let on_effect = told.on_effect();
                told.issuer.revoke(&subject, &on_effect);
            }
            Step::Refuse { subject, from, seconds } => {
                let (from, on_effect) = (model.now + from, told.on_effect());
                told.issuer.refuse(subject, at(from), at(from + seconds), on_effect);
            }
            Step::Ask(subject) => answer = Answer::Refused(told.issuer.is_refused(&subject, now)),
            Step::Wait(_) => {}
        }
        assert_eq!(answer, model.answer);
        told
    }

    fn check_invariants(real: &Told, model: &Model) {
        assert_eq!(real.told.iter().map(|told| told()).collect::<Vec<_>>(), model.told);
    }
}

prop_state_machine! {
    #[test]
    fn it_does_what_lists_do(sequential 1..60 => Comparison);
}
