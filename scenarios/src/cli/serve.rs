//! `squall serve`.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use serde::Serialize;
use squall_protocol::actions::server::Encryption;
use squall_protocol::live::LiveClock;
use squall_sim::invariant::Judged;
use squall_sim::scenario::Scenario;
use squall_sim::verdict::{Finding, Severity};
use tokio::runtime;

use super::refusal::Refusal;
use super::{Surroundings, exit_code, named, values};
use crate::live_calls::LiveCalls;
use crate::live_journal::LiveJournal;
use crate::serve::{Admin, Offer, Serve, Settings, Wanted, until_stopped};

/// Serves until SIGINT or SIGTERM, then prints the verdict on what the server saw and ends with its exit code.
///
/// When it is ready it prints one JSON line: the URL, the administration (POST {"name": "job-7"} to its URL with /jobs
/// behind it queues a job) and the credentials of an agent that is registered. What clients of flox-download do with its
/// files is not seen from there, so they are not judged.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The scenario.
    scenario: String,
    /// Where to listen; port 0 takes any that is free.
    #[arg(long, value_name = "ADDRESS", value_parser = values::address, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How many jobs to queue at the start: job-1, job-2, ...
    #[arg(long, value_name = "N", value_parser = values::queued_jobs, default_value = "0", allow_negative_numbers = true)]
    jobs: u32,
    /// A file for the facts of the server's store, one JSON object a line, written as they happen.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// A file for the calls that the server answers, one JSON object a line: method, path, status and the like.
    #[arg(long, value_name = "FILE")]
    calls: Option<PathBuf>,
    /// How messages travel to agents that hold a session.
    #[arg(long, value_enum, default_value_t = Travel::KeyUnderRsa)]
    encryption: Travel,
    /// A setting of this very server, such as how much goes wrong; a name that there is none of lists those that there
    /// are. May be given many times.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = values::setting)]
    settings: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Travel {
    /// As plain text.
    Plain,
    /// Encrypted, with the key in clear in the session.
    KeyInClear,
    /// Encrypted, with the key in the session under the agent's public key.
    KeyUnderRsa,
}

impl From<Travel> for Encryption {
    fn from(travel: Travel) -> Self {
        match travel {
            Travel::Plain => Encryption::Plain,
            Travel::KeyInClear => Encryption::KeyInClear,
            Travel::KeyUnderRsa => Encryption::KeyUnderRsa,
        }
    }
}

pub(super) fn run(
    arguments: &Arguments,
    scenarios: &[&'static dyn Scenario],
    servers: &[&'static dyn Serve],
    around: &mut Surroundings<'_>,
) -> Result<u8, Refusal> {
    let server = server_of(&arguments.scenario, scenarios, servers)?;
    let refused = |why| Refusal::Setting { name: server.name(), why };
    let settings = Settings::of(server, arguments.settings.iter().cloned()).map_err(refused)?;
    let clock = LiveClock::start();
    let (listener, address) = listen(arguments.listen)?;
    let journal = LiveJournal::start(clock, arguments.journal.as_deref())
        .map_err(|why| Refusal::JournalUnwritable { path: arguments.journal.clone().unwrap_or_default(), why })?;
    let calls = arguments
        .calls
        .as_ref()
        .map(|path| LiveCalls::start(clock, path).map_err(|why| Refusal::CallsUnwritable { path: path.clone(), why }));
    let calls = calls.transpose()?;
    let stop = (around.interrupted)();
    let origin = format!("http://{address}");
    let offer = server.offer(Wanted {
        origin: origin.clone(),
        jobs: arguments.jobs,
        encryption: arguments.encryption.into(),
        clock: Arc::new(clock),
        ledger: Arc::new(journal.clone()),
        settings,
    });
    let offer = offer.map_err(refused)?;
    let Offer { router, background, admin, credentials, invariants } = offer;
    let router = match &calls {
        Some(calls) => calls.of(router),
        None => router,
    };
    let ready = Ready { ready: true, scenario: server.name(), url: origin, admin, credentials };
    writeln!(around.out, "{}", line(&ready))?;
    around.out.flush()?;
    serve(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        until_stopped(listener, router, background, clock, stop).await;
        Ok(())
    })?;
    let judged = journal.judge(&invariants);
    let (facts, served) = journal.extent();
    if judged.tallies.iter().all(|tally| tally.subjects == 0) {
        writeln!(
            around.err,
            "squall: nothing that the server saw is for an invariant to judge; its verdict says nothing"
        )?;
    }
    let told = Told::of(server.name(), &judged, facts, served.as_millis());
    writeln!(around.out, "{}", line(&told))?;
    if let (Some(why), Some(path)) = (journal.failure(), &arguments.journal) {
        return Err(Refusal::JournalCutShort { path: path.clone(), why });
    }
    if let (Some(why), Some(path)) = (calls.and_then(|calls| calls.failure()), &arguments.calls) {
        return Err(Refusal::CallsCutShort { path: path.clone(), why });
    }
    Ok(exit_code(judged.verdict.severity()))
}

/// The server of the scenario of this name.
fn server_of(
    name: &str,
    scenarios: &[&'static dyn Scenario],
    servers: &[&'static dyn Serve],
) -> Result<&'static dyn Serve, Refusal> {
    let scenario = named(name, scenarios)?;
    let found = servers.iter().find(|server| server.name() == scenario.name());
    found.copied().ok_or_else(|| Refusal::NotServed {
        name: name.to_owned(),
        served: servers.iter().map(|server| server.name()).collect::<Vec<_>>().join(", "),
    })
}

/// Listens, and says under which address clients on this machine get there.
fn listen(asked: SocketAddr) -> Result<(TcpListener, SocketAddr), Refusal> {
    let refused = |why| Refusal::CannotListen { address: asked, why };
    let listener = TcpListener::bind(asked).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let mut address = listener.local_addr().map_err(refused)?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Ok((listener, address))
}

/// Runs on real tokio; whatever is still under way when it ends is dropped.
fn serve(work: impl Future<Output = io::Result<()>>) -> Result<(), Refusal> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Refusal::NoRuntime)?;
    runtime.block_on(work).map_err(Refusal::NoRuntime)
}

/// The line that says that clients may come.
#[derive(Serialize)]
struct Ready<'a> {
    ready: bool,
    scenario: &'a str,
    url: String,
    admin: Admin,
    credentials: serde_json::Value,
}

/// The line that says what the server saw of them.
#[derive(Serialize)]
struct Told<'a> {
    scenario: &'a str,
    verdict: Severity,
    invariant: Option<&'a str>,
    fingerprint: Option<String>,
    served_ms: u64,
    facts: usize,
    findings: &'a [Finding],
    /// How many things each invariant applied to.
    invariants: BTreeMap<&'a str, u64>,
}

impl<'a> Told<'a> {
    fn of(scenario: &'a str, judged: &'a Judged, facts: usize, served_ms: u64) -> Self {
        let worst = judged.verdict.worst();
        Self {
            scenario,
            verdict: judged.verdict.severity(),
            invariant: worst.map(|worst| worst.invariant.as_str()),
            fingerprint: worst.map(Finding::fingerprint),
            served_ms,
            facts,
            findings: &judged.verdict.findings,
            invariants: judged.tallies.iter().map(|tally| (tally.invariant.as_str(), tally.subjects)).collect(),
        }
    }
}

fn line(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect("it is plain data")
}
