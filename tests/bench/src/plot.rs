// SPDX-License-Identifier: GPL-2.0

//! Cost against layer count: a chart for each of some operations and each file system.

use std::path::Path;

use anyhow::{anyhow, Result};
use plotters::{coord::Shift, prelude::*};

use crate::{
    catalogue::{Op, OPS},
    row::{Subject, Table},
};

const WIDTH: u32 = 380;
const HEIGHT: u32 = 260;
const COLUMNS: usize = 3;
/// Above the highest point there is the legend.
const ROOM: f64 = 1.4;
const SUBJECTS: [(Subject, RGBColor); 3] = [
    (Subject::Bare, RGBColor(120, 120, 120)),
    (Subject::Overlayfs, RGBColor(31, 119, 180)),
    (Subject::Ruaufs, RGBColor(214, 39, 40)),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(crate) fn plot(csv: &Path, file: &Path) -> Result<()> {
    let table = Table::read(csv)?;
    let counts = table.layer_counts();
    if counts.len() < 2 {
        println!("\nNo plot: there is one layer count only.");
        return Ok(());
    }
    let charts: Vec<(&str, &Op)> = table
        .file_systems()
        .into_iter()
        .flat_map(|fs| OPS.iter().filter(|op| op.plot).map(move |op| (fs, op)))
        .filter(|(fs, op)| {
            counts
                .iter()
                .any(|n| table.get(fs, *n, Subject::Ruaufs, op.name).is_some())
        })
        .collect();
    if charts.is_empty() {
        return Ok(());
    }
    let rows = charts.len().div_ceil(COLUMNS);
    let size = (WIDTH * COLUMNS as u32, HEIGHT * rows as u32);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, (fs, op)) in root.split_evenly((rows, COLUMNS)).iter().zip(charts) {
        // Its errors are not Send.
        chart(area, &table, &counts, fs, op).map_err(|error| anyhow!("{}: {error}", op.title))?;
    }
    root.present()?;
    Ok(())
}

fn chart(
    area: &Area<'_>,
    table: &Table,
    counts: &[u32],
    fs: &str,
    op: &Op,
) -> Result<(), Box<dyn std::error::Error>> {
    let line = |subject| -> Vec<(f64, f64)> {
        let point = |n: &u32| Some((f64::from(*n), table.get(fs, *n, subject, op.name)?.count));
        counts.iter().filter_map(point).collect()
    };
    let all: Vec<_> = SUBJECTS
        .iter()
        .map(|(s, color)| (s, color, line(*s)))
        .collect();
    let highest = all
        .iter()
        .flat_map(|(_, _, line)| line)
        .fold(1.0_f64, |high, (_, cost)| high.max(*cost));
    let first = f64::from(counts[0]);
    let last = f64::from(counts[counts.len() - 1]);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .caption(format!("{fs}: {}", op.title), ("sans-serif", 14))
        .x_label_area_size(28)
        .y_label_area_size(52)
        .build_cartesian_2d((first..last).log_scale().base(2.0), 0.0..highest * ROOM)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("layers")
        .x_label_formatter(&|n| format!("{n:.0}"))
        .y_label_formatter(&|cost| short(*cost))
        .y_labels(6)
        .draw()?;
    for (subject, color, line) in all {
        let style = color.stroke_width(2);
        let points = line.iter().map(|at| Circle::new(*at, 3, color.filled()));
        chart.draw_series(points)?;
        chart
            .draw_series(LineSeries::new(line.iter().copied(), style))?
            .label(subject.to_string())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 11))
        .draw()?;
    Ok(())
}

/// 1200 as 1.2k.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.1}M", v / 1e6),
        v if v >= 1e3 => format!("{:.1}k", v / 1e3),
        v => format!("{v:.0}"),
    }
}
