//! One peer's neighbours over time: whom it unchokes, and who unchokes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::chart;
use crate::net::NodeId;
use crate::record::{Change, Record};

/// Neighbours that are shown: those that traded longest.
const ROWS_MAX: usize = 40;

const ROW_HEIGHT: f64 = 13.0;

/// Heights of the two bars of a row.
const BAR: f64 = 5.0;

#[derive(Debug, Default)]
struct Row {
    ours: Vec<(f64, f64)>,
    optimistic: Vec<(f64, f64)>,
    theirs: Vec<(f64, f64)>,
    ours_since: Option<f64>,
    theirs_since: Option<f64>,
    optimistic_since: Option<f64>,
}

impl Row {
    fn end_ours(&mut self, at: f64) {
        self.end_optimistic(at);
        if let Some(since) = self.ours_since.take() {
            self.ours.push((since, at));
        }
    }

    fn end_theirs(&mut self, at: f64) {
        if let Some(since) = self.theirs_since.take() {
            self.theirs.push((since, at));
        }
    }

    fn end_optimistic(&mut self, at: f64) {
        if let Some(since) = self.optimistic_since.take() {
            self.optimistic.push((since, at));
        }
    }

    fn length(&self) -> f64 {
        let bars = self.ours.iter().chain(&self.theirs);
        bars.map(|(from, to)| to - from).sum()
    }

    fn first(&self) -> f64 {
        let bars = self.ours.iter().chain(&self.theirs);
        bars.map(|&(from, _)| from).fold(f64::INFINITY, f64::min)
    }
}

fn rows(record: &Record, end: f64) -> Vec<(NodeId, Row)> {
    let mut rows: BTreeMap<NodeId, Row> = BTreeMap::new();
    for change in &record.chokes {
        let at = change.at.as_secs_f64().min(end);
        if change.change == Change::Optimistic {
            for row in rows.values_mut() {
                row.end_optimistic(at);
            }
        }
        let row = rows.entry(change.peer).or_default();
        match change.change {
            Change::Ours { choked: false } => row.ours_since = row.ours_since.or(Some(at)),
            Change::Ours { choked: true } => row.end_ours(at),
            Change::Theirs { choked: false } => row.theirs_since = row.theirs_since.or(Some(at)),
            Change::Theirs { choked: true } => row.end_theirs(at),
            Change::Optimistic => row.optimistic_since = Some(at),
            Change::Gone => {
                row.end_ours(at);
                row.end_theirs(at);
            }
        }
    }
    let mut rows: Vec<(NodeId, Row)> = rows.into_iter().collect();
    for (_, row) in &mut rows {
        row.end_ours(end);
        row.end_theirs(end);
    }
    rows.retain(|(_, row)| row.length() > 0.0);
    rows.sort_by(|a, b| b.1.length().total_cmp(&a.1.length()));
    rows.truncate(ROWS_MAX);
    rows.sort_by(|a, b| a.1.first().total_cmp(&b.1.first()));
    rows
}

pub(super) fn svg(record: &Record, end: f64) -> String {
    let rows = rows(record, end);
    let height = 40.0 + ROW_HEIGHT * rows.len().max(1) as f64;
    let frame = chart::Frame::new(end, 1.0, height);
    let (left, top, ..) = chart::plot(height);
    let mut out = chart::open("Chokes and unchokes of one peer over time", height);
    frame.times(&mut out);
    for (number, (node, row)) in rows.iter().enumerate() {
        let y = top + ROW_HEIGHT * number as f64;
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            y + 9.0,
            if *node == NodeId(0) {
                "seed".to_owned()
            } else {
                node.0.to_string()
            }
        );
        bars(&mut out, &frame, &row.ours, y, "c0");
        bars(&mut out, &frame, &row.optimistic, y, "c1");
        bars(&mut out, &frame, &row.theirs, y + BAR + 1.0, "c2");
    }
    out.push_str("</svg>");
    out
}

fn bars(out: &mut String, frame: &chart::Frame, spans: &[(f64, f64)], y: f64, colour: &str) {
    if spans.is_empty() {
        return;
    }
    let mut path = String::new();
    for &(from, to) in spans {
        let x = frame.x(from);
        // What lasted a moment is seen too.
        let width = (frame.x(to) - x).max(0.6);
        let _ = write!(path, "M{x:.1} {y:.1}h{width:.1}v{BAR}h-{width:.1}z");
    }
    let _ = write!(out, "<path fill=\"var(--{colour})\" d=\"{path}\"/>");
}

#[cfg(test)]
mod tests {
    use dunlin_proto::time::Instant;
    use std::time::Duration;

    use super::*;

    fn record(changes: &[(u64, u32, Change)]) -> Record {
        let mut record = Record::new(NodeId(1), &[], 8);
        for &(at, peer, change) in changes {
            let at = Instant::START + Duration::from_secs(at);
            record.change(at, NodeId(peer), change);
        }
        record
    }

    #[test]
    fn a_bar_lasts_from_the_unchoke_to_the_choke_or_the_end() {
        let ours = |choked| Change::Ours { choked };
        let record = record(&[
            (1, 2, ours(false)),
            (4, 2, ours(true)),
            (5, 3, Change::Theirs { choked: false }),
            (6, 2, ours(false)),
            (7, 2, Change::Gone),
        ]);
        let rows = rows(&record, 10.0);
        assert_eq!(rows[0].0, NodeId(2));
        assert_eq!(rows[0].1.ours, [(1.0, 4.0), (6.0, 7.0)]);
        assert_eq!(rows[1].1.theirs, [(5.0, 10.0)]);
    }

    #[test]
    fn the_optimistic_choice_lasts_until_the_next_one_or_the_choke() {
        let record = record(&[
            (1, 2, Change::Ours { choked: false }),
            (1, 2, Change::Optimistic),
            (4, 3, Change::Ours { choked: false }),
            (4, 3, Change::Optimistic),
            (6, 3, Change::Ours { choked: true }),
        ]);
        let rows = rows(&record, 10.0);
        assert_eq!(rows[0].1.optimistic, [(1.0, 4.0)]);
        assert_eq!(rows[1].1.optimistic, [(4.0, 6.0)]);
        assert_eq!(rows[0].1.ours, [(1.0, 10.0)]);
    }
}
