//! The rules that gateways go by at present, and the decisions that they draw.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use event_listener::{Event, EventListener};

use crate::effects::{Effects, FaultId};
use crate::fault::{Fault, FaultKind, Target, When};
use crate::mutex::lock;
use crate::random::{Streams, chance};

/// When a gateway acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// A request has come; the server has not seen it.
    Arrival,
    /// The server has answered; the caller has not seen it.
    Answer,
}

/// What gateways are to do at present. Handles share it; one serves any number of gateways.
#[derive(Clone)]
pub struct Rules {
    shared: Arc<Shared>,
}

struct Shared {
    streams: Streams,
    effects: Effects,
    /// By their place in the plan.
    rules: Mutex<Vec<Arc<Rule>>>,
    /// Spares the lock while nothing is wrong, which is nearly always.
    any: AtomicBool,
    healed: Event,
}

/// One fault that gateways carry out.
pub(super) struct Rule {
    fault: FaultId,
    moment: Moment,
    percent: u8,
    key: String,
    kind: FaultKind,
    target: Target,
    /// How many exchanges of each link it was asked about.
    asked: Mutex<BTreeMap<String, u64>>,
    lifted: AtomicBool,
}

impl Rules {
    /// No rules yet. Decisions are drawn from `streams`, and what rules did is counted in `effects`.
    pub fn new(streams: Streams, effects: Effects) -> Self {
        let (rules, any, healed) = (Mutex::default(), AtomicBool::new(false), Event::new());
        Self { shared: Arc::new(Shared { streams, effects, rules, any, healed }) }
    }

    /// Lets gateways carry out a fault from now on.
    ///
    /// Returns whether it is one that gateways know.
    pub fn impose(&self, fault: FaultId, what: &Fault) -> bool {
        let Some((moment, percent)) = moment_and_percent(&what.kind) else { return false };
        let rule = Rule {
            fault,
            moment,
            percent,
            key: what.key(),
            kind: what.kind.clone(),
            target: what.target.clone(),
            asked: Mutex::default(),
            lifted: AtomicBool::new(false),
        };
        let mut rules = lock(&self.shared.rules);
        rules.push(Arc::new(rule));
        rules.sort_by_key(|rule| rule.fault);
        self.shared.any.store(true, Ordering::Relaxed);
        true
    }

    /// Ends a fault. Requests and answers that it holds back stay back for their time.
    pub fn lift(&self, fault: FaultId) {
        let mut rules = lock(&self.shared.rules);
        rules.retain(|rule| {
            let stays = rule.fault != fault;
            rule.lifted.fetch_or(!stays, Ordering::Relaxed);
            stays
        });
        self.shared.any.store(!rules.is_empty(), Ordering::Relaxed);
    }

    /// Ends every fault, and lets go of what is held back.
    pub fn heal(&self) {
        for rule in lock(&self.shared.rules).drain(..) {
            rule.lifted.store(true, Ordering::Relaxed);
        }
        self.shared.any.store(false, Ordering::Relaxed);
        self.shared.healed.notify(usize::MAX);
    }

    /// Ends when every fault is ended.
    pub(super) fn healed(&self) -> EventListener {
        self.shared.healed.listen()
    }

    /// The rules that hit an exchange at this moment, in the order of the plan.
    pub(super) fn hits(&self, moment: Moment, server: &str, caller: &str, path: &str) -> Vec<Arc<Rule>> {
        if !self.shared.any.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let rules = lock(&self.shared.rules);
        let concerned = rules.iter().filter(|rule| rule.moment == moment && rule.concerns(server, path));
        concerned.filter(|rule| rule.hits(&self.shared.streams, server, caller)).cloned().collect()
    }

    /// A rule has changed one exchange.
    pub(super) fn count(&self, rule: &Rule) {
        self.shared.effects.count(rule.fault);
    }
}

impl Rule {
    pub(super) fn fault(&self) -> FaultId {
        self.fault
    }

    pub(super) fn kind(&self) -> &FaultKind {
        &self.kind
    }

    /// Has its fault ended?
    pub(super) fn is_lifted(&self) -> bool {
        self.lifted.load(Ordering::Relaxed)
    }

    fn concerns(&self, server: &str, path: &str) -> bool {
        self.target.node.as_deref().is_none_or(|node| node == server)
            && self.target.route.as_deref().is_none_or(|route| path.contains(route))
    }

    /// Draws by fault, link and ordinal alone, so that no other fault and no other caller shifts what comes out.
    fn hits(&self, streams: &Streams, server: &str, caller: &str) -> bool {
        let link = format!("gateway:{}:{caller}->{server}", self.key);
        let mut asked = lock(&self.asked);
        let ordinal = asked.entry(link.clone()).or_default();
        *ordinal += 1;
        chance(streams.decision(&link, *ordinal), self.percent)
    }
}

/// When a gateway carries out a fault of this kind, and on how many exchanges in a hundred.
fn moment_and_percent(kind: &FaultKind) -> Option<(Moment, u8)> {
    match kind {
        FaultKind::Status { when, percent, .. } | FaultKind::StreamReset { when, percent, .. } => match when {
            When::BeforeCommit => Some((Moment::Arrival, *percent)),
            When::AfterCommit => Some((Moment::Answer, *percent)),
        },
        FaultKind::Late { percent, .. } | FaultKind::LoginPage { percent } => Some((Moment::Arrival, *percent)),
        FaultKind::DropReply { percent }
        | FaultKind::Delay { percent, .. }
        | FaultKind::Truncate { percent, .. }
        | FaultKind::Stall { percent, .. }
        | FaultKind::GoAway { percent } => Some((Moment::Answer, *percent)),
        _ => None,
    }
}
