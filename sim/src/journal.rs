//! Ground truth: every fact, with true time and place.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use squall_protocol::{Fact, Ledger};

use crate::kernel::Kernel;
use crate::one_thread::OneThread;
use crate::time::SimTime;
use crate::trace::{NodeId, Trace, What, hash};

/// A fact, when and where it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// True time.
    pub at: SimTime,
    /// The node whose part of the world wrote it.
    pub node: NodeId,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
}

/// The journal of one world. Handles share it.
#[derive(Clone)]
pub(crate) struct Journal {
    kernel: Arc<Kernel>,
    trace: Arc<Trace>,
    entries: Arc<OneThread<Vec<Entry>>>,
}

impl Journal {
    pub(crate) fn new(kernel: Arc<Kernel>, trace: Arc<Trace>) -> Self {
        Self { kernel, trace, entries: Arc::default() }
    }

    pub(crate) fn record(&self, node: NodeId, fact: Fact) {
        let at = self.kernel.now();
        let told = serde_json::to_vec(&fact).expect("facts are plain data");
        self.trace.add(at, node, &[6, hash(&told)], || What::Fact { fact: fact.clone() });
        self.entries.borrow_mut().push(Entry { at, node, fact });
    }

    pub(crate) fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.entries.borrow_mut())
    }
}

/// The journal as one node writes it.
pub(crate) struct NodeLedger {
    pub(crate) journal: Journal,
    pub(crate) node: NodeId,
}

impl Ledger for NodeLedger {
    fn record(&self, fact: Fact) {
        self.journal.record(self.node, fact);
    }
}
