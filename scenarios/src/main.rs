//! The command `squall`.

use std::process::ExitCode;

use squall::registry;

fn main() -> ExitCode {
    squall::cli::main(&registry::scenarios(), &registry::servers())
}
