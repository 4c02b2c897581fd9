//! The program.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A server that is ready.
pub struct Program {
    running: Child,
    out: BufReader<ChildStdout>,
    pub ready: Value,
}

/// How it ended.
pub struct Ended {
    pub code: Option<i32>,
    pub verdict: Value,
}

impl Program {
    pub fn start(options: &[&str]) -> Self {
        Self::serving("actions-idle-runner", options)
    }

    pub fn serving(scenario: &str, options: &[&str]) -> Self {
        let mut squall = Command::new(env!("CARGO_BIN_EXE_squall"));
        squall.args(["serve", scenario]).args(options).stdout(Stdio::piped());
        let mut running = squall.spawn().expect("the program starts");
        let mut out = BufReader::new(running.stdout.take().expect("piped"));
        let mut first = String::new();
        out.read_line(&mut first).expect("text");
        let ready = serde_json::from_str(&first).unwrap_or_else(|_| panic!("no ready line: {first:?}"));
        Self { running, out, ready }
    }

    /// Sends it a signal and waits for its end.
    pub fn interrupt(mut self, signal: &str) -> Ended {
        let kill = format!("kill -{signal} {}", self.running.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("text");
        let code = self.running.wait().expect("it ends").code();
        Ended { code, verdict: serde_json::from_str(&rest).unwrap_or_else(|_| panic!("no verdict: {rest:?}")) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A test that fails leaves nothing behind; one that is through has waited already.
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}
