//! Tables for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};
use squall_sim::coverage::Family;
use squall_sim::explore::Summary;

use super::list::{Catalogue, Named};
use super::replay_command;

/// Everything that has a name, list by list.
pub(super) fn catalogue(catalogue: &Catalogue) -> String {
    let named = |list: &[Named]| list.iter().map(|it| (it.name.clone(), it.summary.clone())).collect();
    let bugs = catalogue.bugs.iter().map(|bug| (bug.name.clone(), format!("{} ({})", bug.summary, bug.upstream)));
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

/// One line a campaign; `judged` says for each whether it came out as it should.
pub(super) fn campaigns(summaries: &[Summary], judged: &[String]) -> String {
    let mut table =
        table(&["scenario", "variant", "seeds", "failed", "failures", "worst", "seeds/s", ""], &[2, 3, 4, 6]);
    for (summary, judged) in summaries.iter().zip(judged) {
        table.add_row([
            summary.scenario.clone(),
            summary.variant.clone(),
            summary.seeds.to_string(),
            summary.failed.to_string(),
            summary.coverage.fingerprints.len().to_string(),
            summary.worst.to_string(),
            format!("{:.1}", summary.seeds_per_s()),
            judged.clone(),
        ]);
    }
    format!("{table}\n")
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
                replay_command(&summary.scenario, found.first_seed, &summary.variant),
            ]);
        }
    }
    if table.is_empty() { String::new() } else { format!("{table}\n") }
}

/// What the faults of each family did, over all campaigns.
pub(super) fn families(summaries: &[Summary]) -> String {
    let mut families: BTreeMap<&str, Family> = BTreeMap::new();
    for (name, more) in summaries.iter().flat_map(|summary| &summary.coverage.families) {
        let family = families.entry(name).or_default();
        family.drawn += more.drawn;
        family.began += more.began;
        family.effective += more.effective;
        family.effects += more.effects;
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

/// What was not tried, a sentence each.
pub(super) fn gaps(summaries: &[Summary]) -> String {
    let mut told = String::new();
    for summary in summaries {
        for gap in summary.coverage.gaps() {
            writeln!(told, "{} {}: {gap}", summary.scenario, summary.variant).expect("a string takes all");
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
