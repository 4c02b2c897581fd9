//! What is wrong with the network at present.

use std::time::Duration;

use crate::effects::FaultId;
use crate::trace::NodeId;

/// Something that is wrong with the way from one node to another. Never with a machine's way to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
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

/// A condition, where it holds, and the fault that brought it.
#[derive(Clone, Copy, Debug)]
pub struct Active {
    /// Whose effects are counted, and by whom the condition is lifted.
    pub fault: FaultId,
    /// The node that sends or connects; `None` stands for every node.
    pub from: Option<NodeId>,
    /// The node that receives or listens; `None` stands for every node.
    pub to: Option<NodeId>,
    /// What is wrong.
    pub what: Condition,
}

impl Active {
    pub(super) fn holds_for(&self, from: NodeId, to: NodeId) -> bool {
        from != to && self.from.is_none_or(|node| node == from) && self.to.is_none_or(|node| node == to)
    }
}
