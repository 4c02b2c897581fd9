//! From events to the lines of a story: requests joined with their answers, facts and faults in words.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use super::cast::{Cast, names};
use super::quiet::{Quiet, Telling};
use super::series::{FEW, FEW_OF_LOG};
use super::words;
use crate::journal::Entry;
use crate::time::SimTime;
use crate::trace::{Event, NodeId, What};
use squall_protocol::Fact;

/// One line of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) at: SimTime,
    pub(crate) node: NodeId,
    pub(crate) text: String,
    /// Set for what repeats: lines that follow each other and agree in it may be told as one.
    pub(crate) series: Option<Series>,
    /// Whom or what the line is about: nodes, agents, sessions, jobs.
    pub(crate) about: Vec<String>,
}

/// What makes lines alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Series {
    /// What is done again and again, such as polling a queue.
    pub(crate) what: String,
    /// How it came out; a different outcome begins a new series.
    pub(crate) outcome: String,
    /// So many are told one by one.
    pub(crate) few: usize,
}

/// The story of a run, by time: all that concerns `cast`.
pub(crate) fn lines(report: &Report<'_>, cast: &Cast) -> Vec<Line> {
    let ended = &report.trial.ended;
    let mut teller = Teller {
        report,
        quiet: Quiet::of(&ended.journal, &report.trial.outcome.verdict),
        told_by_supervisors: told_by_supervisors(&ended.journal),
        open: BTreeMap::new(),
        lines: Vec::new(),
    };
    ended.events.iter().for_each(|event| teller.hear(event));
    let unanswered = std::mem::take(&mut teller.open);
    unanswered.values().for_each(|request| teller.unanswered(request));
    let mut lines = teller.lines;
    lines.retain(|line| cast.concerns(&line.about));
    lines.sort_by_key(|line| line.at);
    lines
}

struct Teller<'a> {
    report: &'a Report<'a>,
    quiet: Quiet,
    /// Where and when supervisors tell of the start or the end of a process.
    told_by_supervisors: BTreeSet<(SimTime, NodeId)>,
    /// Requests that wait for their answer, by their number.
    open: BTreeMap<u64, Request>,
    lines: Vec<Line>,
}

struct Request {
    sent_at: SimTime,
    node: NodeId,
    method: String,
    url: String,
}

impl Teller<'_> {
    fn hear(&mut self, event: &Event) {
        match &event.what {
            What::RequestSent { id, to, method, path } => {
                let (method, url) = (method.clone(), format!("{to}{path}"));
                self.open.insert(*id, Request { sent_at: event.at, node: event.node, method, url });
            }
            What::Answered { id, status } => self.answered(event.at, *id, &status.to_string()),
            What::RequestFailed { id, error } => self.answered(event.at, *id, &format!("failed: {error}")),
            What::RequestDropped { id } => self.answered(event.at, *id, "its sender stops waiting"),
            What::ProcessStarted { process } => self.lifecycle(event, format!("process {process} starts")),
            What::ProcessEnded { process, how } => self.lifecycle(event, format!("process {process} {how}")),
            What::Fault { fault, kind, what } => self.fault(event, *fault, kind, what),
            What::Healed => {
                let text = "every fault is over".to_owned();
                self.lines.push(Line { at: event.at, node: event.node, text, series: None, about: Vec::new() });
            }
            // A request that is sent tells of itself.
            What::Fact { fact: Fact::ClientAskedAgain { .. } | Fact::CallRepeated { .. } } => {}
            // Sums over the whole run, written at its end: for invariants, not for readers.
            What::Fact { fact: Fact::ClientLoad { .. } | Fact::ClientRefused { .. } | Fact::MinuteLoad { .. } } => {}
            What::Fact { fact } => self.fact(event, fact),
            What::Log { level, message } if is_told(level) => {
                let what = format!("{}: {}", self.name(event.node), without_details(message));
                self.tell_again(event, format!("{level}: {message}"), what, level.clone());
            }
            _ => {}
        }
    }

    fn answered(&mut self, at: SimTime, id: u64, outcome: &str) {
        let Some(request) = self.open.remove(&id) else { return };
        let took = words::duration(at.since(request.sent_at));
        self.request(&request, at, outcome, &format!("after {took}"));
    }

    fn unanswered(&mut self, request: &Request) {
        self.request(request, request.sent_at, "no answer", "before the end");
    }

    fn request(&mut self, request: &Request, at: SimTime, outcome: &str, took: &str) {
        let Request { node, method, url, .. } = request;
        let what = format!("{}: {method} {}", self.name(*node), without_digits(without_query(url)));
        let text = format!("{method} {} → {outcome} {took}", without_query(url));
        let series = Some(Series { what, outcome: outcome.to_owned(), few: FEW });
        self.lines.push(Line { at, node: *node, text, series, about: vec![self.name(*node)] });
    }

    fn lifecycle(&mut self, event: &Event, text: String) {
        if self.told_by_supervisors.contains(&(event.at, event.node)) {
            return;
        }
        let about = vec![self.name(event.node)];
        self.lines.push(Line { at: event.at, node: event.node, text, series: None, about });
    }

    fn fault(&mut self, event: &Event, id: usize, family: &str, what: &str) {
        if self.report.trial.ended.effects.of(id) == 0 {
            // The list of faults has it; nothing came of it.
            return;
        }
        let (at, node) = (event.at, event.node);
        let fault = self.report.case.plan.faults.get(id);
        let targets = fault.into_iter().flat_map(|fault| [&fault.target.node, &fault.target.peer]);
        let about = targets.flatten().cloned().collect();
        let (text, series) = match (what, fault) {
            ("begins", Some(fault)) => (format!("fault {id} begins: {}", words::fault(fault)), None),
            ("ends", _) => (format!("fault {id} ({family}) ends"), None),
            _ => {
                let what = without_query(what);
                let series =
                    Series { what: format!("fault {id}: {}", without_digits(what)), outcome: String::new(), few: FEW };
                (format!("fault {id} acts: {what}"), Some(series))
            }
        };
        self.lines.push(Line { at, node, text, series, about });
    }

    fn fact(&mut self, event: &Event, fact: &Fact) {
        match self.quiet.telling(fact) {
            Telling::Nothing => return,
            Telling::JobDone(job, quiet) => {
                let (queued, agent) = (quiet.queued_at, &quiet.agent);
                let text = format!("{job}, queued at {queued}, has been done by {agent}: nothing of note");
                let what = format!("jobs done by {agent}");
                let (series, about) =
                    (Some(Series { what, outcome: String::new(), few: FEW }), vec![agent.to_string()]);
                return self.lines.push(Line { at: event.at, node: event.node, text, series, about });
            }
            Telling::Full => {}
        }
        let text = words::fact(fact);
        match routine(fact) {
            Some(what) => {
                let series = Some(Series { what, outcome: String::new(), few: FEW });
                self.lines.push(Line { at: event.at, node: event.node, text, series, about: names(fact) });
            }
            None => {
                let about = names(fact);
                self.lines.push(Line { at: event.at, node: event.node, text, series: None, about });
            }
        }
    }

    fn tell_again(&mut self, event: &Event, text: String, what: String, outcome: String) {
        let (about, series) = (vec![self.name(event.node)], Some(Series { what, outcome, few: FEW_OF_LOG }));
        self.lines.push(Line { at: event.at, node: event.node, text, series, about });
    }

    fn name(&self, node: NodeId) -> String {
        self.report.trial.ended.nodes.get(node.0 as usize).cloned().unwrap_or_default()
    }
}

fn told_by_supervisors(journal: &[Entry]) -> BTreeSet<(SimTime, NodeId)> {
    let of_supervisor = |entry: &&Entry| matches!(entry.fact, Fact::AgentUp { .. } | Fact::AgentDown { .. });
    journal.iter().filter(of_supervisor).map(|entry| (entry.at, entry.node)).collect()
}

fn is_told(level: &str) -> bool {
    matches!(level, "error" | "warn" | "info")
}

/// Facts that say that something goes on as before: what.
pub(super) fn routine(fact: &Fact) -> Option<String> {
    match fact {
        Fact::SessionRefreshed { session } => Some(format!("{session} is refreshed")),
        Fact::SessionAnswered { session } => Some(format!("{session} is answered")),
        Fact::LeaseRenewed { job, attempt, .. } => Some(format!("{job} is renewed in attempt {attempt}")),
        Fact::LeaseAnswered { job, attempt, .. } => Some(format!("{job} has its answer in attempt {attempt}")),
        Fact::LookUpAnswered { job, what, .. } => Some(format!("{what} has been looked up for {job}")),
        Fact::JobCancelAnswered { job, attempt } => {
            Some(format!("the worker of {job} is answered in attempt {attempt}"))
        }
        Fact::JobEffect { job, worker, .. } => Some(format!("{job} has effects through {worker}")),
        Fact::AgentShown { agent, online, busy } => Some(format!("{agent} is shown {online} {busy}")),
        _ => None,
    }
}

/// Segments with digits in them are names of single things; without them a kind of request is left.
fn without_digits(text: &str) -> String {
    let plain = |word: &str| if word.contains(|c: char| c.is_ascii_digit()) { "#".to_owned() } else { word.to_owned() };
    let parts: Vec<String> = text.split(['/', ' ']).map(plain).collect();
    parts.join("/")
}

/// Log lines that say the same about other things. A digit that stands alone says which of a few it is, as in `Attempt 2
/// of`, and is no such detail.
fn without_details(message: &str) -> String {
    let is_digit = |word: &str| word.len() == 1 && word.chars().all(|c| c.is_ascii_digit());
    let words = message.split(' ');
    let plain = words.map(|word| if is_digit(word) { word.to_owned() } else { without_digits(word) });
    plain.collect::<Vec<String>>().join(" ")
}

/// The path says what is asked for; the query is for programs.
fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}
