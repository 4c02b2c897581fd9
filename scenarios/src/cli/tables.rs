//! Tables for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use squall_sim::coverage::{Family, Found, Gap};
use squall_sim::explore::Summary;

use super::explore::Featured;
use super::judgement::Mark;
use super::list::{Catalogue, Named};
use super::{UPSTREAM, replay_found};

/// Everything that has a name, list by list.
pub(super) fn catalogue(catalogue: &Catalogue) -> String {
    let named = |list: &[Named]| list.iter().map(|it| (it.name.clone(), it.summary.clone())).collect();
    let bugs = catalogue.bugs.iter().map(|bug| {
        let shows = bug.shows_when.as_ref().map_or_else(String::new, |when| format!("; shows when {when}"));
        (bug.name.clone(), format!("{} ({}{shows})", bug.summary, bug.upstream))
    });
    let lists: [(&str, Vec<(String, String)>); 5] = [
        ("scenarios", named(&catalogue.scenarios)),
        ("bugs", bugs.collect()),
        ("faults", named(&catalogue.faults)),
        ("invariants", named(&catalogue.invariants)),
        ("policies", named(&catalogue.policies)),
    ];
    let told = lists.iter().filter(|(_, list)| !list.is_empty());
    told.map(|(title, list)| format!("{title}\n{}", names(list))).collect::<Vec<_>>().join("\n")
}

fn names(list: &[(String, String)]) -> String {
    let width = list.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    list.iter().map(|(name, summary)| format!("  {name:<width$}  {summary}\n")).collect()
}

/// One line a campaign.
pub(super) fn campaigns(summaries: &[Summary]) -> String {
    let mut table = table(&["scenario", "variant", "seeds", "failed", "failures", "worst", "seeds/s"], &[2, 3, 4, 6]);
    for summary in summaries {
        table.add_row([
            summary.scenario.clone(),
            summary.variant.clone(),
            match summary.cases {
                0 => summary.seeds.to_string(),
                cases => format!("{cases} + {}", summary.seeds),
            },
            summary.failed.to_string(),
            summary.coverage.fingerprints.len().to_string(),
            summary.worst.to_string(),
            format!("{:.1}", summary.seeds_per_s()),
        ]);
    }
    format!("{table}\n")
}

/// One line a scenario: how upstream was caught, and that hardened is clean.
pub(super) fn tour(summaries: &[Summary], featured: &BTreeMap<String, Featured>) -> String {
    let mut table = table(&["scenario", "upstream is caught by", "seed", "faults", "hardened", "time"], &[2, 3, 5]);
    let mut scenarios: Vec<&str> = summaries.iter().map(|summary| summary.scenario.as_str()).collect();
    scenarios.dedup();
    for scenario in scenarios {
        let of = |wanted: fn(&&Summary) -> bool| {
            summaries.iter().filter(|summary| summary.scenario == scenario).find(wanted)
        };
        let upstream = of(|summary| summary.variant == UPSTREAM);
        let hardened = of(|summary| summary.variant != UPSTREAM);
        let (caught, seed, faults) = upstream.map_or_else(Default::default, |it| caught(it, featured.get(scenario)));
        let wall = [upstream, hardened].into_iter().flatten().map(|summary| summary.wall).sum::<Duration>();
        let hardened = hardened.map_or_else(String::new, |summary| match Mark::of(summary) {
            Mark::Clean if summary.seeds == 1 => "1 seed clean".to_owned(),
            Mark::Clean => format!("{} seeds clean", summary.seeds),
            mark => format!("{mark}, {} of {}", summary.failed, summary.seeds),
        });
        table.add_row([scenario.to_owned(), caught, seed, faults, hardened, format!("{:.1} s", wall.as_secs_f64())]);
    }
    let all_well = summaries.iter().all(|summary| Mark::of(summary).is_as_expected());
    let verdict =
        if all_well { "every upstream variant was caught, every hardened one is clean" } else { "NOT as it should be" };
    format!("{table}\n{verdict}\n")
}

/// By what an upstream variant was caught, by which seed, and how few faults it takes.
fn caught(upstream: &Summary, featured: Option<&Featured>) -> (String, String, String) {
    let Some((fingerprint, found)) = first(upstream) else {
        return (format!("{} in {} seeds", Mark::of(upstream), upstream.seeds), String::new(), String::new());
    };
    let invariant = fingerprint.split('/').next().unwrap_or_default();
    let caught = match upstream.coverage.fingerprints.len() - 1 {
        0 => invariant.to_owned(),
        more => format!("{invariant} and {more} more"),
    };
    let faults = featured.map(|featured| format!("{} → {}", featured.faults_before, featured.faults_after));
    (caught, found.first_seed.to_string(), faults.unwrap_or_default())
}

/// The failure of the first seed that failed.
pub(super) fn first(summary: &Summary) -> Option<(&String, &Found)> {
    let seeds = summary.coverage.fingerprints.iter().filter(|(_, found)| found.file.is_none());
    seeds.min_by_key(|(_, found)| found.first_seed)
}

/// The failures that were found, each with a seed that shows it.
pub(super) fn failures(summaries: &[Summary]) -> String {
    let mut table = table(&["failure", "verdict", "seeds", "the first of them"], &[2]);
    for summary in summaries {
        for (fingerprint, found) in &summary.coverage.fingerprints {
            table.add_row([
                fingerprint.clone(),
                found.verdict.to_string(),
                found.trials.to_string(),
                replay_found(summary, found),
            ]);
        }
    }
    if table.is_empty() { String::new() } else { format!("{table}\n") }
}

/// What the faults of each family did, over all campaigns.
pub(super) fn families(summaries: &[Summary]) -> String {
    let mut families: BTreeMap<&str, Family> = BTreeMap::new();
    for (name, more) in summaries.iter().flat_map(|summary| &summary.coverage.families) {
        families.entry(name).or_default().add(more);
    }
    let mut table = table(&["fault", "drawn", "began", "had effects", "effects"], &[1, 2, 3, 4]);
    for (name, family) in families {
        let Family { drawn, began, effective, effects } = family;
        table.add_row([
            name.to_owned(),
            drawn.to_string(),
            began.to_string(),
            effective.to_string(),
            effects.to_string(),
        ]);
    }
    if table.is_empty() { String::new() } else { format!("{table}\n") }
}

/// What was not tried, a sentence each. Those for which a campaign fails are marked.
pub(super) fn gaps(summaries: &[Summary]) -> String {
    let mut told = String::new();
    for summary in summaries {
        let mut few = Vec::new();
        for gap in summary.coverage.gaps() {
            let mark = match (gap.is_certain(summary.coverage.trials), &gap) {
                (true, _) => "FAILS",
                (false, Gap::NoEffect { family, drawn }) => {
                    few.push(format!("{family} ({drawn})"));
                    continue;
                }
                (false, _) => "note",
            };
            writeln!(told, "{mark}: {} {}: {gap}", summary.scenario, summary.variant).expect("a string takes all");
        }
        if !few.is_empty() {
            let (scenario, variant, few) = (&summary.scenario, &summary.variant, few.join(", "));
            writeln!(told, "note: {scenario} {variant}: too few faults to tell, and none changed anything: {few}")
                .expect("a string takes all");
        }
    }
    told
}

fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(header);
    for column in right {
        let column = table.column_mut(*column).expect("a column of the header");
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
