//! The simulated network and a real one, side by side: the same code runs on both and must see the same.
//!
//! Linux is the reference; its loopback interface can show everything that does not need a lost packet or a dead host.

#[path = "parity/agent.rs"]
mod agent;
#[path = "parity/exchanges.rs"]
mod exchanges;
#[path = "parity/ground.rs"]
mod ground;
#[path = "parity/machine.rs"]
mod machine;
#[path = "parity/sockets.rs"]
mod sockets;
