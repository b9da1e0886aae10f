//! Availability over time: a row is a piece, coloured by its copies; what spread first is on top.

use std::fmt::Write as _;

use super::chart;
use crate::record::Record;

const HEIGHT: f64 = 300.0;

/// More rows than this cannot be told apart: then every second or third piece is shown.
const ROWS_MAX: usize = 160;

/// The scale doubles: no copy, 1, 2, up to 4, up to 8 and so on.
fn level(copies: u32) -> usize {
    match copies {
        0 => 0,
        more => 1 + (more - 1).checked_ilog2().map_or(0, |log| log as usize + 1),
    }
}

/// From pale (one copy) to dark (everybody has it); no copy at all is red.
fn colour(level: usize, levels: usize) -> String {
    if level == 0 {
        return "var(--none)".to_owned();
    }
    let share = (level - 1) as f64 / (levels.max(3) - 2) as f64;
    let lightness = 93.0 - 63.0 * share.min(1.0);
    format!("hsl({:.0} 62% {lightness:.0}%)", 190.0 + 30.0 * share)
}

pub(super) fn svg(record: &Record) -> String {
    let end = record.snapshots.last().map_or(1, |last| last.at_s) as f64;
    let frame = chart::Frame::new(end, 1.0, HEIGHT);
    let mut out = chart::open("Copies of each piece over time", HEIGHT);
    frame.times(&mut out);
    let rows = rows(record);
    let (x, y, width, height) = chart::plot(HEIGHT);
    let _ = write!(
        out,
        "<text x=\"{0}\" y=\"{1:.1}\" text-anchor=\"end\">first</text>\
         <text x=\"{0}\" y=\"{2:.1}\" text-anchor=\"end\">last</text>\
         <svg x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {3} {4}\" preserveAspectRatio=\"none\" shape-rendering=\"crispEdges\">",
        x - 6.0,
        y + 9.0,
        y + height,
        record.snapshots.len().max(1),
        rows.len().max(1)
    );
    let levels = levels(record);
    for (level, path) in paths(record, &rows, levels).iter().enumerate() {
        if !path.is_empty() {
            let _ = write!(
                out,
                "<path fill=\"{}\" d=\"{path}\"/>",
                colour(level, levels)
            );
        }
    }
    out.push_str("</svg></svg>");
    out
}

fn levels(record: &Record) -> usize {
    let copies = record.snapshots.iter().flat_map(|s| &s.copies);
    level(copies.max().copied().unwrap_or(0)) + 1
}

/// Pieces in the order in which they spread, thinned out to what can be seen.
fn rows(record: &Record) -> Vec<usize> {
    let pieces = record.snapshots.first().map_or(0, |s| s.copies.len());
    let spread = |piece: usize| -> u64 {
        let copies = record.snapshots.iter().filter_map(|s| s.copies.get(piece));
        copies.map(|&copies| level(copies) as u64).sum()
    };
    let mut order: Vec<(u64, usize)> = (0..pieces).map(|piece| (spread(piece), piece)).collect();
    order.sort_by_key(|&(spread, piece)| (std::cmp::Reverse(spread), piece));
    let step = pieces.div_ceil(ROWS_MAX).max(1);
    let rows = order.into_iter().map(|(_, piece)| piece);
    rows.step_by(step).collect()
}

/// One path a level: availability seldom falls, so a row is a handful of rectangles.
fn paths(record: &Record, rows: &[usize], levels: usize) -> Vec<String> {
    let mut paths = vec![String::new(); levels];
    for (row, &piece) in rows.iter().enumerate() {
        let of = |at: usize| {
            let copies = record.snapshots.get(at).and_then(|s| s.copies.get(piece));
            copies.map(|&copies| level(copies))
        };
        let mut start = 0;
        while let Some(level) = of(start) {
            let mut end = start + 1;
            while of(end) == Some(level) {
                end += 1;
            }
            let width = end - start;
            let _ = write!(paths[level], "M{start} {row}h{width}v1h-{width}z");
            start = end;
        }
    }
    paths
}

/// What the colours mean.
pub(super) fn legend(record: &Record) -> String {
    let levels = levels(record);
    let mut out = String::from("<ul class=\"legend\">");
    for level in 0..levels {
        let name = match level {
            0 => "no copy".to_owned(),
            1 => "1 copy".to_owned(),
            2 => "2".to_owned(),
            more => format!("{}–{}", (1 << (more - 2)) + 1, 1 << (more - 1)),
        };
        let _ = write!(
            out,
            "<li><i style=\"background:{}\"></i>{name}</li>",
            colour(level, levels)
        );
    }
    out.push_str("</ul>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_double() {
        let of: Vec<usize> = [0, 1, 2, 3, 4, 5, 8, 9, 1024].map(level).to_vec();
        assert_eq!(of, [0, 1, 2, 3, 3, 4, 4, 5, 11]);
    }
}
