//! Leases: a holder may use a resource until an instant, and each lease has a larger token than all before it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::deadlines::{Deadlines, after};

/// Does the token that a holder presents count?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fencing {
    /// No: who knows the resource may renew and release its lease, even an earlier holder of it.
    Ignored,
    /// Yes: only the token of the present lease renews and releases it.
    Checked,
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease<H> {
    /// Who has it.
    pub holder: H,
    /// Larger than every token that was allotted before it.
    pub token: u64,
    /// Until when, if nobody renews it.
    pub until: Timestamp,
}

/// Why a lease was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<H> {
    /// Who has it.
    pub by: H,
}

/// Why a lease was not renewed or released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLease {
    /// Nobody holds the resource.
    #[error("nobody holds a lease")]
    NotHeld,
    /// Another lease holds it.
    #[error("the lease is another one")]
    Stale,
}

/// The leases of a server.
#[derive(Clone, Debug)]
pub struct LeaseTable<R, H> {
    life: Duration,
    fencing: Fencing,
    last_token: u64,
    leases: BTreeMap<R, Lease<H>>,
    ends: Deadlines<R>,
}

impl<R: Ord + Clone, H: Clone> LeaseTable<R, H> {
    /// A table whose leases live for `life` after they are granted or renewed.
    pub fn new(life: Duration, fencing: Fencing) -> Self {
        Self { life, fencing, last_token: 0, leases: BTreeMap::new(), ends: Deadlines::default() }
    }

    /// The token of a lease that will be granted: it can be told to the holder before.
    pub fn allot(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    /// Grants a lease with an allotted token. What has ended by `now` must have been taken out with [`LeaseTable::expire`].
    ///
    /// # Errors
    /// [`Held`] when there is one.
    pub fn grant(&mut self, resource: R, holder: H, token: u64, now: Timestamp) -> Result<Lease<H>, Held<H>> {
        if let Some(held) = self.leases.get(&resource) {
            return Err(Held { by: held.holder.clone() });
        }
        let lease = Lease { holder, token, until: after(now, self.life) };
        self.ends.set(resource.clone(), lease.until);
        self.leases.insert(resource, lease.clone());
        Ok(lease)
    }

    /// Extends a lease; `token` is what its holder presents.
    ///
    /// # Errors
    /// [`NoLease`].
    pub fn renew(&mut self, resource: &R, token: Option<u64>, now: Timestamp) -> Result<Lease<H>, NoLease> {
        self.check(resource, token)?;
        let lease = self.leases.get_mut(resource).ok_or(NoLease::NotHeld)?;
        lease.until = after(now, self.life);
        self.ends.set(resource.clone(), lease.until);
        Ok(lease.clone())
    }

    /// Ends a lease; `token` is what its holder presents.
    ///
    /// # Errors
    /// [`NoLease`].
    pub fn release(&mut self, resource: &R, token: Option<u64>) -> Result<Lease<H>, NoLease> {
        self.check(resource, token)?;
        self.revoke(resource).ok_or(NoLease::NotHeld)
    }

    /// May somebody who presents `token` act on the resource?
    ///
    /// # Errors
    /// [`NoLease`].
    pub fn check(&self, resource: &R, token: Option<u64>) -> Result<&Lease<H>, NoLease> {
        let lease = self.leases.get(resource).ok_or(NoLease::NotHeld)?;
        match self.fencing {
            Fencing::Checked if token != Some(lease.token) => Err(NoLease::Stale),
            Fencing::Checked | Fencing::Ignored => Ok(lease),
        }
    }

    /// Ends a lease without asking its holder.
    pub fn revoke(&mut self, resource: &R) -> Option<Lease<H>> {
        self.ends.clear(resource);
        self.leases.remove(resource)
    }

    /// Ends one lease that nobody renewed in time; to be called until it says `None`.
    pub fn expire(&mut self, now: Timestamp) -> Option<(R, Lease<H>)> {
        let resource = self.ends.take_due(now)?;
        let lease = self.leases.remove(&resource)?;
        Some((resource, lease))
    }

    /// When the next lease will end by itself.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.ends.next()
    }

    /// The lease on a resource.
    pub fn get(&self, resource: &R) -> Option<&Lease<H>> {
        self.leases.get(resource)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn grant(table: &mut LeaseTable<u8, u8>, holder: u8, now: i64) -> Result<Lease<u8>, Held<u8>> {
        let token = table.allot();
        table.grant(1, holder, token, at(now))
    }

    fn table(fencing: Fencing) -> LeaseTable<u8, u8> {
        LeaseTable::new(Duration::from_secs(10), fencing)
    }

    #[test]
    fn a_lease_ends_unless_it_is_renewed() {
        let mut table = table(Fencing::Ignored);
        assert_eq!(grant(&mut table, 7, 0), Ok(Lease { holder: 7, token: 1, until: at(10) }));
        assert_eq!(grant(&mut table, 8, 5), Err(Held { by: 7 }));
        assert_eq!(table.renew(&1, None, at(9)).map(|lease| lease.until), Ok(at(19)));
        assert_eq!(table.expire(at(18)), None);
        assert_eq!(table.expire(at(19)).map(|(resource, lease)| (resource, lease.holder)), Some((1, 7)));
        assert_eq!(table.renew(&1, None, at(20)), Err(NoLease::NotHeld));
    }

    #[test]
    fn an_earlier_holder_is_fenced_off() {
        let mut fenced = table(Fencing::Checked);
        let first = grant(&mut fenced, 7, 0).unwrap();
        fenced.expire(at(10)).unwrap();
        let second = grant(&mut fenced, 8, 10).unwrap();
        assert!(second.token > first.token);
        assert_eq!(fenced.renew(&1, Some(first.token), at(11)), Err(NoLease::Stale));
        assert_eq!(fenced.renew(&1, None, at(11)), Err(NoLease::Stale));
        assert_eq!(fenced.release(&1, Some(first.token)), Err(NoLease::Stale));
        assert_eq!(fenced.release(&1, Some(second.token)).map(|lease| lease.holder), Ok(8));

        let mut open = table(Fencing::Ignored);
        let first = grant(&mut open, 7, 0).unwrap();
        open.expire(at(10)).unwrap();
        grant(&mut open, 8, 10).unwrap();
        assert_eq!(open.renew(&1, Some(first.token), at(11)).map(|lease| lease.holder), Ok(8));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Grant(u8, u8),
        Renew(u8, Option<u64>),
        Release(u8, Option<u64>),
        Wait(i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let token = || proptest::option::of(1u64..8);
        let step = prop_oneof![
            (0u8..3, 0u8..3).prop_map(|(resource, holder)| Step::Grant(resource, holder)),
            (0u8..3, token()).prop_map(|(resource, token)| Step::Renew(resource, token)),
            (0u8..3, token()).prop_map(|(resource, token)| Step::Release(resource, token)),
            (0i64..8).prop_map(Step::Wait),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn it_does_what_a_map_would_do(checked in any::<bool>(), steps in steps()) {
            let mut table = table(if checked { Fencing::Checked } else { Fencing::Ignored });
            let mut model: BTreeMap<u8, (u8, u64, i64)> = BTreeMap::new();
            let (mut now, mut last) = (0, 0);
            for step in steps {
                let may = |model: &BTreeMap<u8, (u8, u64, i64)>, resource: u8, token: Option<u64>| match model.get(&resource) {
                    None => Err(NoLease::NotHeld),
                    Some((_, held, _)) if checked && token != Some(*held) => Err(NoLease::Stale),
                    Some(_) => Ok(()),
                };
                match step {
                    Step::Grant(resource, holder) => {
                        let token = table.allot();
                        let answer = table.grant(resource, holder, token, at(now));
                        match model.get(&resource) {
                            Some((by, ..)) => prop_assert_eq!(answer, Err(Held { by: *by })),
                            None => {
                                prop_assert!(answer.is_ok_and(|lease| lease.token == token));
                                prop_assert!(token > last, "tokens grow");
                                last = token;
                                model.insert(resource, (holder, token, now + 10));
                            }
                        }
                    }
                    Step::Renew(resource, token) => {
                        let meant = may(&model, resource, token);
                        prop_assert_eq!(table.renew(&resource, token, at(now)).map(drop), meant);
                        if meant.is_ok() {
                            model.entry(resource).and_modify(|(.., end)| *end = now + 10);
                        }
                    }
                    Step::Release(resource, token) => {
                        let meant = may(&model, resource, token);
                        prop_assert_eq!(table.release(&resource, token).map(drop), meant);
                        if meant.is_ok() {
                            model.remove(&resource);
                        }
                    }
                    Step::Wait(seconds) => {
                        now += seconds;
                        while let Some((resource, _)) = table.expire(at(now)) {
                            let (.., end) = model.remove(&resource).expect("it was held");
                            prop_assert!(end <= now);
                        }
                        prop_assert!(model.values().all(|(.., end)| *end > now));
                    }
                }
                prop_assert_eq!(table.next_end(), model.values().map(|(.., end)| at(*end)).min());
                for (resource, (holder, token, end)) in &model {
                    let lease = Lease { holder: *holder, token: *token, until: at(*end) };
                    prop_assert_eq!(table.get(resource), Some(&lease));
                }
            }
        }
    }
}
