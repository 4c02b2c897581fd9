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
mod model;

#[cfg(test)]
mod tests {
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
}
