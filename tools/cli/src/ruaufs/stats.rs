// SPDX-License-Identifier: GPL-2.0

//! The counters in `ruaufs status --stats`.

use std::time::Duration;

use comfy_table::{presets, CellAlignment, Table};
use indicatif::HumanBytes;
use ruaufs_user::stats::{Count, Counter};

/// The counters, each with its meaning.
pub(crate) fn table(counts: &[Count]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["COUNTER", "VALUE", "MEANING"]);
    for count in counts {
        table.add_row([
            count.name.clone(),
            value(count),
            count.counter.map_or("", Counter::meaning).to_owned(),
        ]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// What may be done about those that are not 0.
pub(crate) fn hints(counts: &[Count]) -> Vec<String> {
    let counted = counts.iter().filter(|count| count.value > 0);
    counted
        .filter_map(|count| count.counter)
        .filter(|counter| !counter.hint().is_empty())
        .map(|counter| format!("{}: {}", counter.name(), counter.hint()))
        .collect()
}

fn value(count: &Count) -> String {
    match count.name.rsplit_once('_') {
        Some((_, "bytes")) => HumanBytes(count.value).to_string(),
        Some((_, "ns")) => format!("{:.1?}", Duration::from_nanos(count.value)),
        _ => count.value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(counter: Counter, value: u64) -> Count {
        Count {
            name: counter.name().to_owned(),
            counter: Some(counter),
            value,
        }
    }

    #[test]
    fn units() {
        assert_eq!(value(&count(Counter::CopyUps, 1234)), "1234");
        assert_eq!(value(&count(Counter::CopyUpBytes, 3 << 20)), "3.00 MiB");
        assert_eq!(value(&count(Counter::CopyUpTime, 1_230_000)), "1.2ms");
    }

    #[test]
    fn hints_for_what_happened() {
        let all = [count(Counter::CopyUps, 0), count(Counter::StaleNames, 1)];
        let hints = hints(&all);
        assert_eq!(hints.len(), 1);
        assert!(hints[0].starts_with("stale_names: "), "{hints:?}");
        let table = table(&all).to_string();
        assert_eq!(table.lines().count(), 3, "{table}");
    }
}
