//! How errors of hyper become errors of the transport.

use std::error::Error;
use std::io;

use crate::http::TransportError;

/// What an error of hyper says about the transport.
pub fn transport_error(error: &hyper::Error) -> TransportError {
    if let Some(reset) = cause::<h2::Error>(error) {
        return of_h2(reset);
    }
    if let Some(broken) = cause::<io::Error>(error) {
        return of_io(broken.kind());
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() || error.is_body_write_aborted() {
        return TransportError::ClosedEarly;
    }
    match cause::<TransportError>(error) {
        Some(own) => own.clone(),
        None => TransportError::Protocol(error.to_string()),
    }
}

/// What an error of a socket says about the transport.
pub fn of_io(kind: io::ErrorKind) -> TransportError {
    match kind {
        io::ErrorKind::ConnectionRefused => TransportError::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => TransportError::Reset,
        io::ErrorKind::TimedOut => TransportError::TimedOut,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => TransportError::Unreachable,
        // A broken pipe among them: the peer had ended the connection in an orderly way before.
        _ => TransportError::ClosedEarly,
    }
}

fn of_h2(error: &h2::Error) -> TransportError {
    if let Some(broken) = error.get_io() {
        return of_io(broken.kind());
    }
    let code = error.reason().map_or(h2::Reason::INTERNAL_ERROR.into(), u32::from);
    if error.is_reset() {
        TransportError::StreamReset { code }
    } else if error.is_go_away() {
        TransportError::GoAway { code }
    } else {
        TransportError::Protocol(error.to_string())
    }
}

/// The first of an error's causes, itself included, that has a certain type.
pub fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}
