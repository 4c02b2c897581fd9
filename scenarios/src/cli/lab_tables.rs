//! Tables of comparisons.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use squall_protocol::retry::Span;

use crate::lab::MEASURES;
use crate::lab::compare::{Row, Spread};
use crate::lab::families::Member;
use crate::lab::fuzz::{self, Wound};
use crate::lab::overload::Region;
use crate::lab::trial::Trial;

/// A table for each trial, a line for each policy: medians, with the distance between quartiles where there is any.
pub(super) fn text(rows: &[Row]) -> String {
    let mut trials: Vec<Trial> = rows.iter().map(|row| row.trial).collect();
    trials.dedup();
    let mut told = String::new();
    for trial in trials {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["policy"].into_iter().chain(MEASURES.iter().map(|measure| measure.short)));
        for row in rows.iter().filter(|row| row.trial == trial) {
            table.add_row([row.policy.clone()].into_iter().chain(row.values.iter().map(cell)));
        }
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        told += &format!("{trial}: {}\n{table}\n\n", trial.summary());
    }
    let notes =
        MEASURES.iter().map(|measure| format!("  {:<11} {} ({})\n", measure.short, measure.summary, measure.name));
    told + &notes.collect::<String>()
}

fn number(value: f64) -> String {
    if value.is_nan() {
        return "–".to_owned();
    }
    if value.fract() == 0.0 || value >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn cell(Spread { median, iqr }: &Spread) -> String {
    if *iqr == 0.0 || median.is_nan() {
        number(*median)
    } else {
        format!("{} ±{}", number(*median), number(iqr / 2.0))
    }
}

/// What hurts a policy, the worst first.
pub(super) fn wounds(policy: &str, wounds: &[Wound], cases: &[Option<String>]) -> String {
    if wounds.is_empty() {
        return format!("nothing was found that hurts {policy} twice as much as a sound policy\n");
    }
    let mut told = String::new();
    for (Wound { measure, value, sound, times, trigger, .. }, case) in wounds.iter().zip(cases) {
        let (value, sound, both) = (number(*value), number(*sound), number(fuzz::floor(measure)));
        told += &format!(
            "{}: {value} instead of {sound}, {times:.1} times as bad with {both} added to both\n",
            measure.name
        );
        told += &format!("  {}\n  {trigger}\n", measure.summary);
        if let Some(case) = case {
            told += &format!("  squall replay {case}\n");
        }
    }
    told
}

/// What of a family nothing beats, and the presets beside it, by recovery time.
pub(super) fn members(members: &[Member]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    let shown = ["recovery_ms_p99", "load_over_capacity", "attempts_per_success", "peak_to_mean", "leases_lost"];
    table.set_header(["", "policy"].into_iter().chain(shown));
    for member in members {
        let mark = if member.best { "*" } else { "" };
        let values = shown.iter().map(|name| number(member.row.value(name).median));
        table.add_row([mark.to_owned(), member.text.clone()].into_iter().chain(values));
    }
    table.column_iter_mut().skip(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    let about = "* nothing of the family is both faster back and lighter on the server after an outage of ten minutes";
    format!("{table}\n{about}; the others are presets.\n")
}

/// For each policy, from which overloads it returns.
pub(super) fn regions(regions: &[(String, Region)]) -> String {
    let mut told = String::new();
    for (name, region) in regions {
        told += &format!("{name}\n");
        let mut table = Table::new();
        table.load_preset(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled);
        let header = region.triggers_ms.iter().map(|ms| Span::millis(*ms).to_string());
        table.set_header([r"load \ pause".to_owned()].into_iter().chain(header));
        for (load, row) in region.loads.iter().zip(&region.normal_after_s).rev() {
            let cells = row.iter().map(|after| after.map_or("never".to_owned(), |after| format!("{after} s")));
            table.add_row([format!("{load} %")].into_iter().chain(cells));
        }
        table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        told += &format!("{table}\n{}\n\n", region.verdict());
    }
    told + "Time until calls succeed as before, after a service of 10 requests a second stood still; callers wait 500 ms.\n"
}

/// A line for each policy and trial, with a header.
pub(super) fn csv(rows: &[Row]) -> String {
    let mut told = String::from("policy,trial,agents,seeds");
    for measure in MEASURES {
        told += &format!(",{0},{0}_iqr", measure.name);
    }
    told += ",unrecovered,cut_short\n";
    for row in rows {
        told += &format!("{},{},{},{}", quoted(&row.policy), row.trial, row.agents, row.seeds);
        for Spread { median, iqr } in &row.values {
            // What could not be measured is left empty.
            told += &if median.is_nan() { ",,".to_owned() } else { format!(",{median:.3},{iqr:.3}") };
        }
        told += &format!(",{},{}\n", row.unrecovered, row.cut_short);
    }
    told
}

/// A field that may have commas in it (RFC 4180).
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_commas_are_quoted() {
        assert_eq!(quoted("exp(base=1s,cap=60s)"), "\"exp(base=1s,cap=60s)\"");
        assert_eq!(quoted("fixed"), "fixed");
    }

    #[test]
    fn cells_tell_the_spread_where_there_is_one() {
        assert_eq!(cell(&Spread { median: 12.0, iqr: 0.0 }), "12");
        assert_eq!(cell(&Spread::of(Vec::new())), "–");
        assert_eq!(cell(&Spread { median: 1.234, iqr: 0.5 }), "1.23 ±0.25");
    }
}
