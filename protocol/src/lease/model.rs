//! The table beside a list that does the same.

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;

const LIFE: i64 = 10;
const RESOURCES: std::ops::Range<u8> = 0..3;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[derive(Clone, Debug)]
struct Model {
    fencing: Fencing,
    now: i64,
    last_token: u64,
    leased: Vec<Leased>,
    /// What the last step came to.
    answer: Answer,
}

#[derive(Clone, Copy, Debug)]
struct Leased {
    resource: u8,
    holder: u8,
    token: u64,
    end: i64,
}

#[derive(Clone, Debug)]
enum Step {
    Allot,
    Grant {
        resource: u8,
        holder: u8,
        token: u64,
    },
    Renew {
        resource: u8,
        token: Option<u64>,
    },
    Release {
        resource: u8,
        token: Option<u64>,
    },
    Revoke(u8),
    /// Time passes, and what has ended by then is taken out.
    Wait(i64),
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Nothing,
    Token(u64),
    Granted(Result<Lease<u8>, Held<u8>>),
    Found(Result<Lease<u8>, NoLease>),
    Revoked(Option<Lease<u8>>),
    Ended(Vec<(u8, Lease<u8>)>),
}

impl Leased {
    fn lease(&self) -> Lease<u8> {
        Lease { holder: self.holder, token: self.token, until: at(self.end) }
    }
}

impl Model {
    fn get(&self, resource: u8) -> Option<Lease<u8>> {
        self.leased.iter().find(|leased| leased.resource == resource).map(Leased::lease)
    }

    fn check(&self, resource: u8, token: Option<u64>) -> Result<Lease<u8>, NoLease> {
        let lease = self.get(resource).ok_or(NoLease::NotHeld)?;
        let counts = self.fencing == Fencing::Checked;
        if counts && token != Some(lease.token) { Err(NoLease::Stale) } else { Ok(lease) }
    }

    fn grant(&mut self, resource: u8, holder: u8, token: u64) -> Result<Lease<u8>, Held<u8>> {
        if let Some(lease) = self.get(resource) {
            return Err(Held { by: lease.holder });
        }
        let leased = Leased { resource, holder, token, end: self.now + LIFE };
        self.leased.push(leased);
        Ok(leased.lease())
    }

    fn renew(&mut self, resource: u8, token: Option<u64>) -> Result<Lease<u8>, NoLease> {
        let lease = self.check(resource, token)?;
        self.revoke(resource);
        let renewed = Leased { resource, holder: lease.holder, token: lease.token, end: self.now + LIFE };
        self.leased.push(renewed);
        Ok(renewed.lease())
    }

    fn release(&mut self, resource: u8, token: Option<u64>) -> Result<Lease<u8>, NoLease> {
        let lease = self.check(resource, token)?;
        self.revoke(resource);
        Ok(lease)
    }

    fn revoke(&mut self, resource: u8) -> Option<Lease<u8>> {
        let lease = self.get(resource);
        self.leased.retain(|leased| leased.resource != resource);
        lease
    }

    /// The earliest end comes first, and of several the smallest resource.
    fn expire(&mut self) -> Vec<(u8, Lease<u8>)> {
        let (mut ended, kept): (Vec<_>, Vec<_>) = self.leased.iter().partition(|leased| self.now >= leased.end);
        self.leased = kept;
        ended.sort_by_key(|leased| (leased.end, leased.resource));
        ended.iter().map(|leased| (leased.resource, leased.lease())).collect()
    }

    /// No token, each that was allotted, and two that were not.
    fn tokens(&self) -> impl Iterator<Item = Option<u64>> {
        (0..=self.last_token + 1).map(Some).chain([None])
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        proptest::sample::select(&[Fencing::Ignored, Fencing::Checked][..])
            .prop_map(|fencing| Self { fencing, now: 0, last_token: 0, leased: Vec::new(), answer: Answer::Nothing })
            .boxed()
    }

    fn transitions(model: &Self) -> BoxedStrategy<Step> {
        let holder = 0u8..3;
        // The token in force is presented about as often as all others together.
        let in_force = model.leased.iter().map(|leased| Some(leased.token)).cycle().take(model.leased.len() * 3);
        let token = proptest::sample::select(in_force.chain(model.tokens()).collect::<Vec<_>>());
        let presented = (RESOURCES, token);
        prop_oneof![
            2 => Just(Step::Allot),
            3 => (RESOURCES, holder, 1..=model.last_token.max(1))
                .prop_map(|(resource, holder, token)| Step::Grant { resource, holder, token }),
            3 => presented.clone().prop_map(|(resource, token)| Step::Renew { resource, token }),
            2 => presented.prop_map(|(resource, token)| Step::Release { resource, token }),
            1 => RESOURCES.prop_map(Step::Revoke),
            3 => (0i64..8).prop_map(Step::Wait),
        ]
        .boxed()
    }

    /// Leases are granted with allotted tokens.
    fn preconditions(model: &Self, step: &Step) -> bool {
        !matches!(step, Step::Grant { token, .. } if *token > model.last_token)
    }

    fn apply(mut model: Self, step: &Step) -> Self {
        model.answer = match *step {
            Step::Allot => {
                model.last_token += 1;
                Answer::Token(model.last_token)
            }
            Step::Grant { resource, holder, token } => Answer::Granted(model.grant(resource, holder, token)),
            Step::Renew { resource, token } => Answer::Found(model.renew(resource, token)),
            Step::Release { resource, token } => Answer::Found(model.release(resource, token)),
            Step::Revoke(resource) => Answer::Revoked(model.revoke(resource)),
            Step::Wait(seconds) => {
                model.now += seconds;
                Answer::Ended(model.expire())
            }
        };
        model
    }
}

struct Comparison;

impl StateMachineTest for Comparison {
    type SystemUnderTest = LeaseTable<u8, u8>;
    type Reference = Model;

    fn init_test(model: &Model) -> LeaseTable<u8, u8> {
        LeaseTable::new(Duration::from_secs(LIFE as u64), model.fencing)
    }

    fn apply(mut table: LeaseTable<u8, u8>, model: &Model, step: Step) -> LeaseTable<u8, u8> {
        let now = at(model.now);
        let answer = match step {
            Step::Allot => Answer::Token(table.allot()),
            Step::Grant { resource, holder, token } => Answer::Granted(table.grant(resource, holder, token, now)),
            Step::Renew { resource, token } => Answer::Found(table.renew(&resource, token, now)),
            Step::Release { resource, token } => Answer::Found(table.release(&resource, token)),
            Step::Revoke(resource) => Answer::Revoked(table.revoke(&resource)),
            Step::Wait(_) => Answer::Ended(std::iter::from_fn(|| table.expire(now)).collect()),
        };
        assert_eq!(answer, model.answer);
        table
    }

    fn check_invariants(table: &LeaseTable<u8, u8>, model: &Model) {
        assert_eq!(table.next_end(), model.leased.iter().map(|leased| at(leased.end)).min());
        for resource in RESOURCES {
            assert_eq!(table.get(&resource), model.get(resource).as_ref(), "on {resource}");
            for token in model.tokens() {
                let found = table.check(&resource, token).cloned();
                assert_eq!(found, model.check(resource, token), "on {resource} with {token:?}");
            }
        }
    }
}

prop_state_machine! {
    #[test]
    fn it_does_what_a_list_does(sequential 1..60 => Comparison);
}
