// SPDX-License-Identifier: GPL-2.0

//! The showing half: tables, missed targets, comparison with an earlier run.

use std::path::Path;

use anyhow::{ensure, Result};

use crate::{
    catalogue::{self, Op, NOISE, OPS, SCALE, SCALE_FROM, SCALE_TO},
    row::{Row, Subject, Table},
};

/// Changes above this are pointed at.
const FLAG: f64 = 0.02;

/// A text table: the first column to the left, the others to the right.
struct Columns {
    head: Vec<String>,
    lines: Vec<Vec<String>>,
}

impl Columns {
    fn new(head: &[&str]) -> Self {
        Self {
            head: head.iter().map(|h| (*h).to_owned()).collect(),
            lines: Vec::new(),
        }
    }

    fn print(&self, title: &str) {
        if self.lines.is_empty() {
            return;
        }
        println!("\n{title}\n");
        let all = || std::iter::once(&self.head).chain(&self.lines);
        let widths: Vec<usize> = (0..self.head.len())
            .map(|i| all().map(|l| l[i].chars().count()).max().unwrap_or(0))
            .collect();
        for line in all() {
            let mut text = String::new();
            for (i, (cell, width)) in line.iter().zip(&widths).enumerate() {
                text += &match i {
                    0 => format!("{cell:<width$}"),
                    _ => format!("  {cell:>width$}"),
                };
            }
            println!("{}", text.trim_end());
        }
    }
}

/// 12,345,678
fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    match value < 0.0 {
        true => format!("-{text}"),
        false => text,
    }
}

fn cell(row: Option<&Row>) -> String {
    row.map_or("-".to_owned(), |row| count(row.count))
}

fn ratio(above: Option<&Row>, below: Option<&Row>) -> Option<f64> {
    let ratio = above?.count / below?.count;
    ratio.is_finite().then_some(ratio)
}

fn ratio_cell(ratio: Option<f64>) -> String {
    ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// A target that was missed.
struct Miss {
    place: String,
    title: &'static str,
    what: String,
    is: f64,
    limit: f64,
}

/// What an operation misses at one layer count.
fn misses(table: &Table, fs: &str, layers: u32, op: &'static Op) -> Vec<Miss> {
    let get = |subject| table.get(fs, layers, subject, op.name);
    let (ours, overlay) = (get(Subject::Ruaufs), get(Subject::Overlayfs));
    let mut all = Vec::new();
    let mut check = |what: &str, is: Option<f64>, limit: f64| {
        let Some(is) = is.filter(|is| *is > limit * (1.0 + NOISE)) else {
            return;
        };
        all.push(Miss {
            place: format!("{fs} {layers}"),
            title: op.title,
            what: what.to_owned(),
            is,
            limit,
        });
    };
    check("x overlayfs", ratio(ours, overlay), 1.0);
    if let Some(limit) = op.bare {
        check("x bare", ratio(ours, get(Subject::Bare)), limit);
    }
    if let Some(limit) = op.best.filter(|_| fs == "ext4" && layers == 2) {
        check("instructions", ours.map(|row| row.count), limit);
    }
    if let Some((few, limit)) = op.growth {
        let few = table.get(fs, layers, Subject::Ruaufs, few);
        check("x that of few", ratio(ours, few), limit);
    }
    if op.scale && layers == SCALE_TO {
        let few = table.get(fs, SCALE_FROM, Subject::Ruaufs, op.name);
        let what = format!("x {SCALE_FROM} layers");
        check(&what, ratio(ours, few), SCALE);
    }
    all
}

pub(crate) fn report(csv: &Path, base: Option<&Path>) -> Result<()> {
    let table = Table::read(csv)?;
    let counted = table.rows.iter().any(|row| row.subject == Subject::Ruaufs);
    ensure!(counted, "{} has no figure of ruaufs", csv.display());
    println!(
        "Guest instructions per operation: medians, all that the CPU did in between included."
    );
    for row in table.rows.iter().filter(|row| row.fs == "none") {
        let name = row.op.trim_start_matches("machine.");
        match name {
            "instructions-per-ns" => println!(
                "  one ns of the guest's clock: {:.6} instructions",
                row.count
            ),
            "clock" => println!("  reading the clock, subtracted: {}", count(row.count)),
            "syscall" => println!(
                "  the emptiest system call, not subtracted: {}",
                count(row.count)
            ),
            "spawn" => println!(
                "  starting a program (find, tar), not subtracted: {}",
                count(row.count)
            ),
            _ => {}
        }
    }
    let mut missed = Vec::new();
    for fs in table.file_systems() {
        for layers in table.layer_counts() {
            missed.extend(costs(&table, fs, layers));
        }
        scaling(&table, fs);
        memory(&table, fs);
    }
    targets(&missed);
    if let Some(base) = base {
        compare(&table, &Table::read(base)?);
    }
    Ok(())
}

fn costs(table: &Table, fs: &str, layers: u32) -> Vec<Miss> {
    let mut missed = Vec::new();
    let mut columns = Columns::new(&[
        "operation",
        "bare",
        "overlayfs",
        "ruaufs",
        "ruaufs/overlayfs",
        "ruaufs/bare",
        "targets",
    ]);
    for op in OPS {
        let get = |subject| table.get(fs, layers, subject, op.name);
        let (bare, overlay) = (get(Subject::Bare), get(Subject::Overlayfs));
        let ours = get(Subject::Ruaufs);
        if overlay.is_none() && ours.is_none() {
            continue;
        }
        let misses = misses(table, fs, layers, op);
        columns.lines.push(vec![
            op.title.to_owned(),
            cell(bare),
            cell(overlay),
            cell(ours),
            ratio_cell(ratio(ours, overlay)),
            ratio_cell(ratio(ours, bare)),
            match (ours, misses.len()) {
                (None, _) => "no figure".to_owned(),
                (_, 0) => "met".to_owned(),
                (_, n) => format!("{n} missed"),
            },
        ]);
        missed.extend(misses);
    }
    columns.print(&format!("{fs}, {layers} layers"));
    missed
}

fn scaling(table: &Table, fs: &str) {
    let counts = table.layer_counts();
    let [first, .., _] = counts.as_slice() else {
        return;
    };
    let mut head = vec!["operation".to_owned()];
    for subject in [Subject::Overlayfs, Subject::Ruaufs] {
        head.extend(counts[1..].iter().map(|n| format!("{subject} {n}")));
    }
    let mut columns = Columns {
        head,
        lines: Vec::new(),
    };
    for op in OPS.iter().filter(|op| op.scale) {
        let mut line = vec![op.title.to_owned()];
        for subject in [Subject::Overlayfs, Subject::Ruaufs] {
            let few = table.get(fs, *first, subject, op.name);
            line.extend(
                counts[1..]
                    .iter()
                    .map(|n| ratio_cell(ratio(table.get(fs, *n, subject, op.name), few))),
            );
        }
        if line[1..].iter().any(|cell| cell != "-") {
            columns.lines.push(line);
        }
    }
    columns.print(&format!("{fs}: times the cost with {first} layers"));
}

fn memory(table: &Table, fs: &str) {
    let mut columns = Columns::new(&["slab cache", "bare", "overlayfs", "ruaufs"]);
    let mut names: Vec<&str> = Vec::new();
    for row in table.rows.iter().filter(|row| row.fs == fs) {
        if row.op.starts_with("memory.") && !names.contains(&row.op.as_str()) {
            names.push(&row.op);
        }
    }
    let mut million = vec!["1 million names, MiB".to_owned()];
    for name in names {
        let get = |subject| table.get(fs, 2, subject, name);
        let rows = [Subject::Bare, Subject::Overlayfs, Subject::Ruaufs].map(get);
        let mut line = vec![name.trim_start_matches("memory.").to_owned()];
        line.extend(rows.iter().map(|row| cell(*row)));
        columns.lines.push(line);
        if name == "memory.total" {
            let mib = |row: &Row| count(row.count * 1e6 / f64::from(1 << 20));
            million.extend(rows.iter().map(|row| row.map_or("-".to_owned(), mib)));
        }
    }
    if million.len() > 1 {
        columns.lines.push(million);
    }
    columns.print(&format!(
        "{fs}, 2 layers: bytes per name looked up (what the branch keeps included)"
    ));
}

/// One line for each target, one column for each place in which it was missed.
fn targets(missed: &[Miss]) {
    if missed.is_empty() {
        println!("\nAll targets are met.");
        return;
    }
    let mut places: Vec<&str> = Vec::new();
    for miss in missed {
        if !places.contains(&miss.place.as_str()) {
            places.push(&miss.place);
        }
    }
    let mut columns = Columns::new(&["operation", "at most"]);
    columns.head.extend(places.iter().map(|p| (*p).to_owned()));
    let mut sorted: Vec<&Miss> = missed.iter().collect();
    let order = |title| OPS.iter().position(|op| op.title == title);
    sorted.sort_by(|a, b| (order(a.title), &a.what).cmp(&(order(b.title), &b.what)));
    for group in sorted.chunk_by(|a, b| (a.title, &a.what) == (b.title, &b.what)) {
        let first = group[0];
        let number = |value: f64| match first.what == "instructions" {
            true => count(value),
            false => format!("{value:.2}"),
        };
        let mut line = vec![
            first.title.to_owned(),
            format!("{} {}", number(first.limit), first.what),
        ];
        line.extend(places.iter().map(|place| {
            let here = group.iter().find(|miss| miss.place == *place);
            here.map_or(String::new(), |miss| number(miss.is))
        }));
        columns.lines.push(line);
    }
    columns.print("Targets missed: by file system and layers (empty: met)");
}

fn compare(table: &Table, base: &Table) {
    let mut columns = Columns::new(&["operation", "where", "subject", "before", "now", "change"]);
    let (mut compared, mut absent) = (0, 0);
    let mut largest: f64 = 0.0;
    for row in table.rows.iter().filter(|row| row.fs != "none") {
        let Some(old) = base.get(&row.fs, row.layers, row.subject, &row.op) else {
            absent += 1;
            continue;
        };
        compared += 1;
        let change = row.count / old.count - 1.0;
        if !change.is_finite() {
            continue;
        }
        largest = largest.max(change.abs());
        if change.abs() > FLAG {
            let title = catalogue::find(&row.op).map_or(row.op.as_str(), |op| op.title);
            columns.lines.push(vec![
                title.to_owned(),
                format!("{}, {} layers", row.fs, row.layers),
                row.subject.to_string(),
                count(old.count),
                count(row.count),
                format!("{:+.1} %", change * 100.0),
            ]);
        }
    }
    let flagged = columns.lines.len();
    columns.print(&format!("Changed by more than {:.0} %", FLAG * 100.0));
    println!(
        "\nCompared with the base: {compared} figures, {flagged} changed by more than {:.0} %, \
         largest change {:.2} %, {absent} not in the base.",
        FLAG * 100.0,
        largest * 100.0,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands() {
        assert_eq!(count(0.0), "0");
        assert_eq!(count(999.0), "999");
        assert_eq!(count(1000.0), "1,000");
        assert_eq!(count(-1234567.0), "-1,234,567");
    }
}
