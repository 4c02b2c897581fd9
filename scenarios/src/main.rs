//! The command `squall`.

use std::process::ExitCode;

fn main() -> ExitCode {
    squall::cli::main(&squall::registry::scenarios())
}
