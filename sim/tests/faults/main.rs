//! Every kind of fault acts on a small world, is felt where its description says, and is over when the plan says.

mod gateway;
mod network;
mod node;
mod plan;
mod stage;
