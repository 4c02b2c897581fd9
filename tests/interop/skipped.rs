//! Saying that a client cannot be had.

use std::io::Write;

/// Says why a test checks nothing. What a test prints is held back when it passes; what it writes to standard error itself
/// is not.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("skipped: {}: {why}\n", thread.name().unwrap_or("a test"));
    std::io::stderr().write_all(line.as_bytes()).expect("standard error is open");
}

/// Does a tool say that it could not reach the network, and not that something is wrong with what it was given?
pub fn is_unreachable(told: &str) -> bool {
    const SIGNS: [&str; 12] = [
        "dial tcp",
        "no such host",
        "i/o timeout",
        "TLS handshake",
        "connection re",
        "ENOTFOUND",
        "EAI_AGAIN",
        "ECONNREFUSED",
        "ECONNRESET",
        "ETIMEDOUT",
        "ENETUNREACH",
        "ERR_SOCKET_TIMEOUT",
    ];
    // Proxies say so by a status.
    let refused = ["502 Bad Gateway", "503 Service", "504 Gateway", "module lookup disabled"];
    SIGNS.iter().chain(&refused).any(|sign| told.contains(sign))
}
