//! What may be wrong inside the server for a while: its message broker, its database and the proxy before its services.

use std::time::Duration;

use rand::RngCore;

use crate::effect::OnEffect;
use crate::random::Random;

/// Something that is wrong inside the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nuisance {
    /// Events arrive so much later.
    EventsDelayed(Duration),
    /// Events arrive, and once more so much later.
    EventsDuplicated(Duration),
    /// Events arrive in any order within this time.
    EventsReordered(Duration),
    /// Each access to the database takes so long.
    DatabaseSlow(Duration),
    /// So many accesses in a hundred fail.
    DatabaseFails(u8),
    /// So many calls in a hundred are sent once more by the proxy, which has lost the connection to the service after it
    /// had sent them (nginx's `proxy_next_upstream ... non_idempotent`).
    CallsRepeated(u8),
}

pub(super) struct Active {
    pub(super) id: u64,
    pub(super) what: Nuisance,
    pub(super) on_effect: OnEffect,
}

/// When an event arrives, and by whom it is held back.
pub(super) struct Arrival {
    pub(super) after: Duration,
    pub(super) held_by: Option<u64>,
}

/// What is wrong at present.
#[derive(Default)]
pub(super) struct Nuisances {
    active: Vec<Active>,
}

impl Nuisances {
    pub(super) fn begin(&mut self, nuisance: Active) {
        self.active.push(nuisance);
    }

    pub(super) fn end(&mut self, id: u64) {
        self.active.retain(|active| active.id != id);
    }

    /// The arrivals of an event that is sent now: one, or more.
    pub(super) fn arrivals(&self, random: &mut Random) -> Vec<Arrival> {
        let mut first = Arrival { after: Duration::ZERO, held_by: None };
        let mut copies = Vec::new();
        for Active { id, what, on_effect } in &self.active {
            match *what {
                Nuisance::EventsDelayed(by) => {
                    first = Arrival { after: first.after + by, held_by: Some(*id) };
                }
                Nuisance::EventsReordered(within) => {
                    let by = crate::random::uniform(random, Duration::ZERO..within);
                    first = Arrival { after: first.after + by, held_by: Some(*id) };
                }
                Nuisance::EventsDuplicated(by) => copies.push(Arrival { after: by, held_by: Some(*id) }),
                Nuisance::DatabaseSlow(_) | Nuisance::DatabaseFails(_) | Nuisance::CallsRepeated(_) => continue,
            }
            on_effect.tell();
        }
        copies.insert(0, first);
        copies
    }

    /// How long an access to the database takes beyond its usual time.
    pub(super) fn database_delay(&self) -> Duration {
        let slow = self.active.iter().filter_map(|active| match active.what {
            Nuisance::DatabaseSlow(by) => Some((by, active)),
            _ => None,
        });
        slow.map(|(by, active)| {
            active.on_effect.tell();
            by
        })
        .max()
        .unwrap_or_default()
    }

    /// Does an access to the database fail?
    pub(super) fn database_fails(&self, random: &mut Random) -> bool {
        self.strikes(random, |what| if let Nuisance::DatabaseFails(percent) = what { Some(percent) } else { None })
    }

    /// Is a call sent once more?
    pub(super) fn call_is_repeated(&self, random: &mut Random) -> bool {
        self.strikes(random, |what| if let Nuisance::CallsRepeated(percent) = what { Some(percent) } else { None })
    }

    /// Does one of those act now that act so often in a hundred?
    fn strikes(&self, random: &mut Random, percent: impl Fn(Nuisance) -> Option<u8>) -> bool {
        self.active.iter().any(|active| match percent(active.what) {
            Some(percent) if random.next_u64() % 100 < u64::from(percent) => {
                active.on_effect.tell();
                true
            }
            _ => false,
        })
    }
}
