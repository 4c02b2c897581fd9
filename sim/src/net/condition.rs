//! What is wrong with the network at present.

use std::time::Duration;

use crate::effects::FaultId;
use crate::trace::NodeId;

/// Something that is wrong with the way from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Nothing gets through. Senders retransmit; whoever connects hangs.
    Cut,
    /// Everything takes so much longer.
    Slow(Duration),
    /// At most so many bytes a second get through.
    Narrow(u64),
    /// Something in between resets a connection once so many bytes of it have passed in this direction.
    ResetAfter(u64),
    /// The host answers that nothing listens.
    Refuse,
    /// The name of the host cannot be resolved.
    NoName,
}

/// A condition, where it holds, and the fault that brought it. `None` stands for every node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Active {
    pub(crate) fault: FaultId,
    pub(crate) from: Option<NodeId>,
    pub(crate) to: Option<NodeId>,
    pub(crate) what: Condition,
}

impl Active {
    pub(crate) fn holds_for(&self, from: NodeId, to: NodeId) -> bool {
        from != to && self.from.is_none_or(|node| node == from) && self.to.is_none_or(|node| node == to)
    }
}
