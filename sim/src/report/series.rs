//! What repeats is told once: the first line in full, then how often again and until when.

use std::collections::BTreeMap;

use super::story::{Line, Series};

/// So many like lines are told one by one: a summary would not be shorter.
pub(crate) const FEW: usize = 2;
/// So many like lines of a log are: whoever knows the log looks for them.
pub(crate) const FEW_OF_LOG: usize = 5;
/// Whose outcome changes more often than this is told by outcome, no longer in turns.
const CHANGES_TOLD: u32 = 4;

/// Folds series of like lines.
pub(crate) fn fold(lines: Vec<Line>) -> Vec<Line> {
    let members = members(&lines);
    let mut folded = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        match members.get(&place).map(Vec::as_slice) {
            // Told with the series' second line.
            Some([]) => {}
            Some([_, again @ ..]) if line.series.as_ref().is_some_and(|series| again.len() + 1 > series.few) => {
                folded.push((place, line.clone()));
                let (second, last) = (&lines[again[0]], &lines[again[again.len() - 1]]);
                let text = format!("{} (and {} more like it, the last at {})", second.text, again.len() - 1, last.at);
                folded.push((again[0], Line { text, series: None, ..second.clone() }));
            }
            Some(few) => folded.extend(few.iter().map(|place| (*place, lines[*place].clone()))),
            None => folded.push((place, line.clone())),
        }
    }
    folded.sort_by_key(|(place, _)| *place);
    folded.into_iter().map(|(_, line)| line).collect()
}

/// What is done again and again, since when, and how it came out.
struct Open<'a> {
    about: &'a [String],
    /// How it came out last.
    outcome: &'a str,
    changes: u32,
    /// The first line of each series that may go on, by its outcome.
    first: BTreeMap<&'a str, usize>,
}

/// For the first line of each series all its places, for its other lines nothing.
fn members(lines: &[Line]) -> BTreeMap<usize, Vec<usize>> {
    let mut open: BTreeMap<&str, Open<'_>> = BTreeMap::new();
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, line) in lines.iter().enumerate() {
        let Some(Series { what, outcome, .. }) = &line.series else {
            open.retain(|_, other| !other.about.iter().any(|name| line.about.contains(name)));
            continue;
        };
        let current = open.entry(what).or_insert_with(|| Open {
            about: &line.about,
            outcome,
            changes: 0,
            first: BTreeMap::new(),
        });
        if current.outcome != outcome {
            current.outcome = outcome;
            current.changes += 1;
            if current.changes <= CHANGES_TOLD {
                current.first.clear();
            }
        }
        match current.first.get(outcome.as_str()) {
            Some(first) => {
                members.entry(*first).or_default().push(place);
                members.insert(place, Vec::new());
            }
            None => {
                current.first.insert(outcome, place);
                members.insert(place, vec![place]);
            }
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SimTime;
    use crate::trace::NodeId;

    fn poll(second: u64, node: &str, outcome: &str) -> Line {
        let series = Some(Series { what: format!("{node}: GET"), outcome: outcome.to_owned(), few: FEW });
        Line { series, ..notable(second, node, &format!("{node} GET {outcome}")) }
    }

    fn notable(second: u64, node: &str, text: &str) -> Line {
        let about = vec![node.to_owned()];
        Line { at: SimTime::from_secs(second), node: NodeId(1), text: text.to_owned(), series: None, about }
    }

    fn texts(lines: Vec<Line>) -> Vec<String> {
        fold(lines).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn many_polls_are_two_lines() {
        let polls = (0..41).map(|second| poll(second, "a", "202")).collect();
        assert_eq!(texts(polls), ["a GET 202", "a GET 202 (and 39 more like it, the last at 0:00:40.000)"]);
    }

    #[test]
    fn two_polls_are_told_as_they_are() {
        assert_eq!(texts(vec![poll(0, "a", "202"), poll(1, "a", "202")]), ["a GET 202", "a GET 202"]);
    }

    #[test]
    fn a_few_lines_of_a_log_are_told_one_by_one() {
        let logged = |lines: u64| {
            let of_log = |line: Line| Line { series: line.series.map(|it| Series { few: FEW_OF_LOG, ..it }), ..line };
            (0..lines).map(|second| of_log(poll(second, "a", "503"))).collect()
        };
        assert_eq!(texts(logged(5)), ["a GET 503"; 5]);
        assert_eq!(texts(logged(6)), ["a GET 503", "a GET 503 (and 4 more like it, the last at 0:00:05.000)"]);
    }

    #[test]
    fn lines_of_one_instant_stay_in_their_order() {
        let lines = vec![poll(0, "a", "202"), notable(1, "b", "b crashes"), poll(1, "a", "202")];
        assert_eq!(texts(lines), ["a GET 202", "b crashes", "a GET 202"]);
    }

    #[test]
    fn another_outcome_or_an_event_ends_a_series_and_another_node_does_not() {
        let mut lines: Vec<Line> = (0..3).map(|second| poll(second, "a", "202")).collect();
        lines.push(notable(3, "b", "b crashes"));
        lines.push(poll(4, "a", "202"));
        lines.push(poll(5, "a", "503"));
        lines.push(poll(6, "a", "202"));
        lines.push(notable(7, "a", "a crashes"));
        lines.push(poll(8, "a", "202"));
        let told = [
            "a GET 202",
            "a GET 202 (and 2 more like it, the last at 0:00:04.000)",
            "b crashes",
            "a GET 503",
            "a GET 202",
            "a crashes",
            "a GET 202",
        ];
        assert_eq!(texts(lines), told);
    }

    #[test]
    fn what_goes_back_and_forth_is_told_by_outcome() {
        let polls = (0..100).map(|second| poll(second, "a", if second % 2 == 0 { "202" } else { "503" })).collect();
        let told = [
            "a GET 202",
            "a GET 503",
            "a GET 202",
            "a GET 503",
            "a GET 202",
            "a GET 503",
            "a GET 202 (and 46 more like it, the last at 0:01:38.000)",
            "a GET 503 (and 46 more like it, the last at 0:01:39.000)",
        ];
        assert_eq!(texts(polls), told);
    }
}
