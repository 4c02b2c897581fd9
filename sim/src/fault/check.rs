//! Does a plan fit the world that it is for?

use std::collections::BTreeSet;

use http::header::HeaderValue;
use thiserror::Error;

use super::{Fault, FaultKind, FaultPlan, RetryAfter};
use crate::clock::CLOCK_DRIFT_PPM_MAX;
use crate::effects::FaultId;

/// The most that a clock may run fast or slow.
const DRIFT_PPM_MAX: u32 = CLOCK_DRIFT_PPM_MAX.unsigned_abs();
/// Ten years: several such steps still end at a date that can be written.
const CLOCK_STEP_MS_MAX: u64 = 10 * 366 * 86_400_000;
/// The statuses that a gateway may answer with.
const STATUSES: std::ops::RangeInclusive<u16> = 200..=599;

/// What there is in a world for faults to act on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inhabitants {
    /// The machines' names.
    pub nodes: BTreeSet<String>,
    /// The services: machine's name and own name.
    pub services: BTreeSet<(String, String)>,
    /// The faults that only this system knows.
    pub system_faults: BTreeSet<String>,
}

/// Why a plan does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A fault acts on a node that does not exist.
    #[error("fault {fault} ({kind}) acts on node {node:?}; the nodes are {known}")]
    NoSuchNode {
        /// The fault's place in the plan.
        fault: FaultId,
        /// Its family.
        kind: String,
        /// The name.
        node: String,
        /// The names there are.
        known: String,
    },
    /// A fault acts on one node and names none.
    #[error("fault {fault} ({kind}) has to name the node it acts on")]
    NoNode {
        /// The fault's place in the plan.
        fault: FaultId,
        /// Its family.
        kind: String,
    },
    /// A fault acts on a service that does not exist.
    #[error("fault {fault} ({kind}) acts on service {service:?} of node {node:?}; its services are {known}")]
    NoSuchService {
        /// The fault's place in the plan.
        fault: FaultId,
        /// Its family.
        kind: String,
        /// The node.
        node: String,
        /// The name.
        service: String,
        /// The names there are on this node.
        known: String,
    },
    /// A fault that this system does not know.
    #[error("fault {fault} is {name:?}, which this system does not know; it knows {known}")]
    NoSuchSystemFault {
        /// The fault's place in the plan.
        fault: FaultId,
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A number or a text is out of its range.
    #[error("fault {fault} ({kind}): {why}")]
    OutOfRange {
        /// The fault's place in the plan.
        fault: FaultId,
        /// Its family.
        kind: String,
        /// What is wrong.
        why: String,
    },
}

impl PlanError {
    /// The fault that acts on something which does not exist: without it the plan may fit.
    pub fn of_nothing(&self) -> Option<FaultId> {
        match self {
            PlanError::NoSuchNode { fault, .. } | PlanError::NoSuchService { fault, .. } => Some(*fault),
            _ => None,
        }
    }
}

impl FaultPlan {
    /// Does every fault name what exists, and is every number in its range?
    ///
    /// # Errors
    /// [`PlanError`] for the first fault that does not fit.
    pub fn check(&self, world: &Inhabitants) -> Result<(), PlanError> {
        self.faults.iter().enumerate().try_for_each(|(id, fault)| Checked { id, fault, world }.check())
    }
}

struct Checked<'a> {
    id: FaultId,
    fault: &'a Fault,
    world: &'a Inhabitants,
}

impl Checked<'_> {
    fn check(&self) -> Result<(), PlanError> {
        let target = &self.fault.target;
        [&target.node, &target.peer].into_iter().flatten().try_for_each(|node| self.node(node))?;
        match &self.fault.kind {
            FaultKind::Latency { .. } | FaultKind::Partition { .. } => Ok(()),
            FaultKind::Reset | FaultKind::ResetAfter { .. } => Ok(()),
            FaultKind::Bandwidth { bytes_per_s: 0, .. } => self.out_of_range("a link has at least one byte a second"),
            FaultKind::Bandwidth { .. } => Ok(()),
            FaultKind::Status { status, retry_after, percent, .. } => {
                self.status(*status, retry_after.as_ref())?;
                self.percent(*percent)
            }
            FaultKind::DropReply { percent }
            | FaultKind::Delay { percent, .. }
            | FaultKind::Late { percent, .. }
            | FaultKind::Truncate { percent, .. }
            | FaultKind::Stall { percent, .. }
            | FaultKind::LoginPage { percent }
            | FaultKind::StreamReset { percent, .. }
            | FaultKind::GoAway { percent } => self.percent(*percent),
            FaultKind::Refuse | FaultKind::Dns | FaultKind::Crash | FaultKind::Pause | FaultKind::Suspend => {
                self.names_node()
            }
            FaultKind::DiskFull => self.names_node(),
            FaultKind::Kill { service } | FaultKind::Stop { service, .. } => self.service(service),
            FaultKind::ClockStep { by_ms } if by_ms.unsigned_abs() > CLOCK_STEP_MS_MAX => {
                self.out_of_range(&format!("a clock is stepped by at most {CLOCK_STEP_MS_MAX} ms, not {by_ms}"))
            }
            FaultKind::ClockStep { .. } => self.names_node(),
            FaultKind::ClockDrift { ppm } if ppm.unsigned_abs() > DRIFT_PPM_MAX => {
                self.out_of_range(&format!("a clock drifts by at most {DRIFT_PPM_MAX} ppm, not {ppm}"))
            }
            FaultKind::ClockDrift { .. } => self.names_node(),
            FaultKind::System { name, .. } if self.world.system_faults.contains(name) => Ok(()),
            FaultKind::System { name, .. } => Err(PlanError::NoSuchSystemFault {
                fault: self.id,
                name: name.clone(),
                known: list(self.world.system_faults.iter()),
            }),
        }
    }

    fn kind(&self) -> String {
        self.fault.kind.family().to_owned()
    }

    fn node(&self, node: &str) -> Result<(), PlanError> {
        if self.world.nodes.contains(node) {
            return Ok(());
        }
        let known = list(self.world.nodes.iter());
        Err(PlanError::NoSuchNode { fault: self.id, kind: self.kind(), node: node.to_owned(), known })
    }

    fn names_node(&self) -> Result<(), PlanError> {
        match self.fault.target.node {
            Some(_) => Ok(()),
            None => Err(PlanError::NoNode { fault: self.id, kind: self.kind() }),
        }
    }

    fn service(&self, service: &str) -> Result<(), PlanError> {
        self.names_node()?;
        let node = self.fault.target.node.clone().unwrap_or_default();
        if self.world.services.contains(&(node.clone(), service.to_owned())) {
            return Ok(());
        }
        let known = list(self.world.services.iter().filter(|(on, _)| *on == node).map(|(_, name)| name));
        Err(PlanError::NoSuchService { fault: self.id, kind: self.kind(), node, service: service.to_owned(), known })
    }

    fn status(&self, status: u16, retry_after: Option<&RetryAfter>) -> Result<(), PlanError> {
        if !STATUSES.contains(&status) {
            return self.out_of_range(&format!("{status} is no status that ends a request"));
        }
        match retry_after {
            Some(RetryAfter::Absurd(text)) if HeaderValue::from_str(text).is_err() => {
                self.out_of_range("the text of retry_after does not fit into a header")
            }
            _ => Ok(()),
        }
    }

    fn percent(&self, percent: u8) -> Result<(), PlanError> {
        match percent {
            1..=100 => Ok(()),
            _ => self.out_of_range(&format!("percent is from 1 to 100, not {percent}")),
        }
    }

    fn out_of_range(&self, why: &str) -> Result<(), PlanError> {
        Err(PlanError::OutOfRange { fault: self.id, kind: self.kind(), why: why.to_owned() })
    }
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Target, When};

    fn world() -> Inhabitants {
        Inhabitants {
            nodes: ["server", "agent"].map(str::to_owned).into(),
            services: [("agent".to_owned(), "runner".to_owned())].into(),
            system_faults: ["starve-worker".to_owned()].into(),
        }
    }

    fn said(kind: FaultKind, node: Option<&str>) -> String {
        let target = Target { node: node.map(str::to_owned), ..Target::default() };
        let plan = FaultPlan { faults: vec![Fault { kind, target, at_ms: 0, for_ms: 1 }], heal_at_ms: 1 };
        plan.check(&world()).map_or_else(|error| error.to_string(), |()| "fits".to_owned())
    }

    #[test]
    fn what_a_plan_names_has_to_exist() {
        assert_eq!(said(FaultKind::Crash, Some("agent")), "fits");
        assert_eq!(said(FaultKind::Crash, None), "fault 0 (crash) has to name the node it acts on");
        assert_eq!(
            said(FaultKind::Crash, Some("agnet")),
            "fault 0 (crash) acts on node \"agnet\"; the nodes are agent, server"
        );
        let kill = |service: &str| FaultKind::Kill { service: service.to_owned() };
        assert_eq!(said(kill("runner"), Some("agent")), "fits");
        assert_eq!(
            said(kill("runner"), Some("server")),
            "fault 0 (kill) acts on service \"runner\" of node \"server\"; its services are none"
        );
        let system = |name: &str| FaultKind::System { name: name.to_owned(), amount: 1 };
        assert_eq!(said(system("starve-worker"), None), "fits");
        assert_eq!(
            said(system("flood"), None),
            "fault 0 is \"flood\", which this system does not know; it knows starve-worker"
        );
    }

    #[test]
    fn numbers_and_texts_have_ranges() {
        let drift = |ppm| said(FaultKind::ClockDrift { ppm }, Some("agent"));
        assert_eq!(drift(-500_000), "fits");
        assert_eq!(drift(-1_000_000), "fault 0 (clock-drift): a clock drifts by at most 500000 ppm, not -1000000");
        let go_away = |percent| said(FaultKind::GoAway { percent }, None);
        assert_eq!(go_away(100), "fits");
        assert_eq!(go_away(0), "fault 0 (go-away): percent is from 1 to 100, not 0");
        let narrow = FaultKind::Bandwidth { bytes_per_s: 0, direction: Default::default() };
        assert_eq!(said(narrow, None), "fault 0 (bandwidth): a link has at least one byte a second");
        let status = |status, retry_after| {
            said(FaultKind::Status { status, when: When::BeforeCommit, retry_after, percent: 1 }, None)
        };
        assert_eq!(status(503, Some(RetryAfter::Seconds(u64::MAX))), "fits");
        assert_eq!(status(100, None), "fault 0 (status): 100 is no status that ends a request");
        assert_eq!(
            status(429, Some(RetryAfter::Absurd("a\r\nb".to_owned()))),
            "fault 0 (status): the text of retry_after does not fit into a header"
        );
    }
}
