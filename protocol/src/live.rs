//! The seams over real tokio and real sockets.
