//! The behaviour of connections, one test for each line of what a real network does.

#[path = "connections/backpressure.rs"]
mod backpressure;
#[path = "connections/closing.rs"]
mod closing;
#[path = "connections/connecting.rs"]
mod connecting;
#[path = "connections/http1.rs"]
mod http1;
#[path = "connections/http2.rs"]
mod http2;
#[path = "connections/machines.rs"]
mod machines;
#[path = "connections/partitions.rs"]
mod partitions;
#[path = "connections/resets.rs"]
mod resets;
#[path = "connections/stage.rs"]
mod stage;
