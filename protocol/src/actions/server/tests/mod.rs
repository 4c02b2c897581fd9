//! The router driven in-process by raw requests, on a clock that the test moves.
