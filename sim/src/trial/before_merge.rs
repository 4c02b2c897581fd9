use std::collections::BTreeMap;

use crate::fault::{FaultKind, FaultPlan};
use crate::invariant::{History, Invariant};
use crate::time::SimTime;
use crate::verdict::Finding;
use crate::world::{Ended, World};

pub(super) fn inject(world: &World, plan: &FaultPlan) -> Result<(), String> {
    for (id, fault) in plan.faults.iter().enumerate() {
        let name = fault.target.node.as_deref().unwrap_or_default();
        let Some(node) = world.find(name) else { return Err(format!("fault {id} acts on node {name:?}")) };
        let (world_in, fault, effects) = (world.clone(), fault.clone(), world.effects().clone());
        world.spawn(&format!("fault {id}"), async move {
            world_in.sleep_until(SimTime::from_millis(fault.at_ms)).await;
            if matches!(fault.kind, FaultKind::Crash) && node.crash() > 0 {
                effects.count(id);
            }
            world_in.sleep_until(SimTime::from_millis(fault.at_ms + fault.for_ms)).await;
            node.boot();
        });
    }
    Ok(())
}

pub(super) fn judge(
    invariants: &[Box<dyn Invariant>],
    plan: &FaultPlan,
    ended: &Ended,
    end: SimTime,
) -> (Vec<Finding>, BTreeMap<String, u64>) {
    let history = History { journal: &ended.journal, heal_at: SimTime::from_millis(plan.heal_at_ms), end };
    let mut findings = Vec::new();
    let mut subjects = BTreeMap::new();
    for invariant in invariants {
        let judgement = invariant.judge(&history);
        findings.extend(judgement.findings);
        *subjects.entry(invariant.name().to_owned()).or_default() += judgement.subjects;
    }
    (findings, subjects)
}
