//! A run as one HTML page that needs nothing else: no script, no font, no server.
//!
//! What the numbers of [`Report`] leave open is drawn: how the swarm finished, which pieces were
//! rare and when, what each kind of peer got, and whom one peer chose.

use std::fmt::Write as _;

use crate::oracles::Oracle;
use crate::record::Record;
use crate::report::Report;

mod chart;
mod chokes;
mod heat;

const CSS: &str = include_str!("page/page.css");

/// Colours of the style sheet for kinds of peer; more kinds use them again.
const COLOURS: usize = 6;

/// What a page says above its pictures.
#[derive(Clone, Copy, Debug)]
pub struct Heading<'a> {
    pub scenario: &'a str,
    pub about: &'a str,
    /// What makes the same run again.
    pub command: &'a str,
}

pub fn html(heading: Heading<'_>, report: &Report, record: &Record) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{0}, {1} peers, seed {2}</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n",
        escaped(heading.scenario),
        report.peers,
        report.seed
    );
    head(&mut out, heading, report);
    tiles(&mut out, report);
    out.push_str("<div class=\"charts\">\n");
    completion(&mut out, report, record);
    availability(&mut out, record);
    rates(&mut out, record);
    choke_timeline(&mut out, report, record);
    out.push_str("</div>\n");
    oracles(&mut out, report);
    out.push_str("</body>\n</html>\n");
    out
}

fn head(out: &mut String, heading: Heading<'_>, report: &Report) {
    let violated = report.violations().len();
    let verdict = if violated == 0 {
        "<span class=\"verdict pass\">every oracle holds</span>".to_owned()
    } else {
        format!("<span class=\"verdict fail\">{violated} oracles are violated</span>")
    };
    let _ = write!(
        out,
        "<header>\n<h1>{}</h1>\n<p>{}</p>\n<p>{} leeches, {} pieces, {}; seed {}; {verdict}</p>\n\
         <p class=\"soft\">Again: <code>{}</code><br>trace {:016x}</p>\n</header>\n",
        escaped(heading.scenario),
        escaped(heading.about),
        report.peers,
        report.pieces,
        size(report.bytes as f64),
        report.seed,
        escaped(heading.command),
        report.trace_hash
    );
}

fn tiles(out: &mut String, report: &Report) {
    let or_never = |value: Option<String>| value.unwrap_or_else(|| "never".to_owned());
    let tiles = [
        (
            "everybody done",
            or_never(report.t_all_s.map(|t| format!("{t:.0} <small>s</small>"))),
        ),
        (
            "fluid lower bound",
            format!("{:.0} <small>s</small>", report.t_bound_s),
        ),
        ("efficiency", format!("{:.3}", report.efficiency)),
        ("copies sent by seeds", format!("{:.3}", report.seed_copies)),
        (
            "to the first full replica",
            or_never(
                report
                    .seed_copies_first
                    .map(|copies| format!("{copies:.3}")),
            ),
        ),
        ("uplink use, middle 80 %", percent(report.uplink_use)),
        ("fairness (Jain)", format!("{:.3}", report.jain)),
        (
            "duplicate blocks",
            format!(
                "{:.3} <small>%</small>",
                report.endgame_duplicate_share * 100.0
            ),
        ),
    ];
    out.push_str("<dl class=\"tiles\">\n");
    for (name, value) in tiles {
        let _ = writeln!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    out.push_str("</dl>\n");
}

fn end_of(record: &Record) -> f64 {
    record.snapshots.last().map_or(1, |last| last.at_s.max(1)) as f64
}

fn completion(out: &mut String, report: &Report, record: &Record) {
    let x_max = end_of(record).max(report.t_bound_s) * 1.02;
    let leeches = f64::from(u32::try_from(report.peers.max(1)).unwrap_or(u32::MAX));
    let line = |colour: &str, dashed, points| chart::Line {
        colour: colour.to_owned(),
        dashed,
        points,
    };
    let chart = chart::Chart {
        x_max,
        y_max: 1.0,
        y_name: |y| format!("{:.0} %", y * 100.0),
        lines: vec![
            line(
                "bound",
                true,
                vec![(0.0, 0.0), (report.t_bound_s, 1.0), (x_max, 1.0)],
            ),
            line("c1", false, completions(report, leeches, x_max)),
            line(
                "c0",
                false,
                of_snapshots(record, |snapshot| snapshot.progress),
            ),
        ],
        marks: vec![(report.t_bound_s, "bound")],
    };
    figure(
        out,
        "Completion",
        "No swarm can be faster than the dashed line: it is the fluid bound, all uplinks busy \
         from the first second to the last.",
        &chart.svg("Share of the pieces and of the peers that are complete, over time"),
        &legend(&[
            ("c0", "mean share of the pieces"),
            ("c1", "peers that are complete"),
            ("bound", "bound"),
        ]),
    );
}

fn of_snapshots(
    record: &Record,
    value: impl Fn(&crate::record::Snapshot) -> f64,
) -> Vec<(f64, f64)> {
    let points = record.snapshots.iter();
    points.map(|s| (s.at_s as f64, value(s))).collect()
}

/// A step for each peer that finished.
fn completions(report: &Report, leeches: f64, x_max: f64) -> Vec<(f64, f64)> {
    let mut times: Vec<f64> = report.nodes.iter().filter_map(|n| n.completed_s).collect();
    times.sort_by(f64::total_cmp);
    let mut points = vec![(0.0, 0.0)];
    let mut done = 0.0;
    for at in times {
        points.push((at, done / leeches));
        done += 1.0;
        points.push((at, done / leeches));
    }
    points.push((x_max, done / leeches));
    points
}

fn availability(out: &mut String, record: &Record) {
    figure(
        out,
        "Availability",
        "A row is a piece, those that spread first on top; the colour tells how many peers that \
         are online have it. The edge of the palest colour is the seed giving its first copy.",
        &heat::svg(record),
        &heat::legend(record),
    );
}

fn rates(out: &mut String, record: &Record) {
    let mut lines = Vec::new();
    let mut names = Vec::new();
    let mut y_max = 0.0_f64;
    let mut classes: Vec<(usize, &String)> = record.classes.iter().enumerate().collect();
    classes.sort_by_key(|&(_, name)| natural(name));
    for (class, name) in classes {
        let points = class_rates(record, class);
        let top = points.iter().map(|&(_, y)| y).fold(0.0, f64::max);
        if top > 0.0 {
            let colour = format!("c{}", names.len() % COLOURS);
            y_max = y_max.max(top);
            names.push((colour.clone(), escaped(name)));
            lines.push(chart::Line {
                colour,
                dashed: false,
                points,
            });
        }
    }
    let names: Vec<(&str, &str)> = names
        .iter()
        .map(|(colour, name)| (colour.as_str(), name.as_str()))
        .collect();
    let chart = chart::Chart {
        x_max: end_of(record),
        y_max: y_max * 1.08,
        y_name: rate,
        lines,
        marks: Vec::new(),
    };
    figure(
        out,
        "Download rate",
        "Payload a second that a peer of each kind receives, mean over those that are not done.",
        &chart.svg("Mean download rate of each kind of peer over time"),
        &legend(&names),
    );
}

/// Names that begin with a number are in its order: 20 kB/s before 200 kB/s.
fn natural(name: &str) -> (u64, &str) {
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    (name[..digits].parse().unwrap_or(u64::MAX), name)
}

/// Mean rate of a member that is downloading, between each two snapshots.
fn class_rates(record: &Record, class: usize) -> Vec<(f64, f64)> {
    let pairs = record.snapshots.windows(2);
    let points = pairs.filter_map(|pair| {
        let [before, after] = pair else { return None };
        let (was, is) = (before.classes.get(class)?, after.classes.get(class)?);
        let members = f64::from(was.downloading.max(is.downloading));
        let seconds = (after.at_s - before.at_s) as f64;
        let bytes = is.downloaded.saturating_sub(was.downloaded) as f64;
        let middle = (after.at_s + before.at_s) as f64 / 2.0;
        (members > 0.0 && seconds > 0.0).then(|| (middle, bytes / seconds / members))
    });
    points.collect()
}

fn choke_timeline(out: &mut String, report: &Report, record: &Record) {
    let end = report.ended_at_s.max(1.0);
    figure(
        out,
        &format!("Choke timeline of peer {}", record.watched.0),
        "A row is a neighbour. Upper bar: it may download from the peer; lower bar: the peer may \
         download from it. Bars above each other are tit for tat.",
        &chokes::svg(record, end),
        &legend(&[
            ("c0", "unchoked: preferred neighbour"),
            ("c1", "unchoked: optimistic"),
            ("c2", "unchokes the peer"),
        ]),
    );
}

fn oracles(out: &mut String, report: &Report) {
    out.push_str(
        "<section>\n<h2>Oracles</h2>\n<p class=\"soft\">Judged from outside, by the virtual wire \
         and disk.</p>\n<div class=\"wide\"><table>\n\
         <tr><th>verdict</th><th>oracle</th><th>what must hold</th></tr>\n",
    );
    for oracle in Oracle::ALL {
        let violation = report.oracles.get(oracle.name()).and_then(Option::as_ref);
        let (class, verdict) = match violation {
            None => ("pass", "holds".to_owned()),
            Some(detail) => ("fail", format!("violated: {}", escaped(detail))),
        };
        let _ = writeln!(
            out,
            "<tr><td class=\"{class}\">{verdict}</td><td>{}</td><td>{}</td></tr>",
            oracle.name().replace('_', " "),
            oracle.sentence()
        );
    }
    out.push_str("</table></div>\n</section>\n");
}

fn figure(out: &mut String, title: &str, caption: &str, svg: &str, legend: &str) {
    let _ = writeln!(
        out,
        "<figure>\n<h2>{title}</h2>\n<figcaption>{caption}</figcaption>\n{svg}\n{legend}\n</figure>"
    );
}

fn legend(entries: &[(&str, &str)]) -> String {
    let mut out = String::from("<ul class=\"legend\">");
    for (colour, name) in entries {
        let _ = write!(
            out,
            "<li><i style=\"background:var(--{colour})\"></i>{name}</li>"
        );
    }
    out.push_str("</ul>");
    out
}

fn percent(share: f64) -> String {
    format!("{:.1} <small>%</small>", share * 100.0)
}

/// Bytes in binary units.
fn size(bytes: f64) -> String {
    match bytes {
        b if b >= f64::from(1 << 30) => format!("{:.1} GiB", b / f64::from(1 << 30)),
        b if b >= f64::from(1 << 20) => format!("{:.1} MiB", b / f64::from(1 << 20)),
        b => format!("{:.0} KiB", b / 1024.0),
    }
}

/// A link's rate, in the units in which it is a round number.
pub(crate) fn link_rate(bytes: u64) -> String {
    if bytes.is_multiple_of(1000) {
        format!("{} kB/s", bytes / 1000)
    } else {
        format!("{}/s", size(bytes as f64))
    }
}

/// Bytes a second, short enough for the side of a picture.
fn rate(bytes: f64) -> String {
    match bytes {
        0.0 => "0".to_owned(),
        b if b >= 1e6 => format!("{:.1} MB/s", b / 1e6),
        b => format!("{:.0} kB/s", b / 1e3),
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;
    use crate::net::NodeId;

    fn page(name: &str, peers: u32) -> String {
        let scenario = catalogue::find(name).unwrap();
        let mut report = (scenario.build)(peers, 1).record(NodeId(1)).run();
        let record = report.record.take().unwrap();
        let heading = Heading {
            scenario: scenario.name,
            about: scenario.about,
            command: "dunlin-sim run <it>",
        };
        html(heading, &report, &record)
    }

    #[test]
    fn a_page_tells_of_everything_and_needs_nothing_else() {
        let page = page("restart", 5);
        for part in [
            "Completion",
            "Availability",
            "Download rate",
            "Choke timeline of peer 1",
            "everybody finishes",
            "every oracle holds",
            "dunlin-sim run &lt;it&gt;",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for outside in ["http:", "https:", "<script", "url(", "NaN", "inf"] {
            let text = page.replace("information", "");
            assert!(!text.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn a_page_of_a_recorded_run_does_not_change_the_run() {
        let scenario = catalogue::find("restart").unwrap();
        let plain = (scenario.build)(5, 3).run();
        let recorded = (scenario.build)(5, 3).record(NodeId(2)).run();
        assert_eq!(plain.trace_hash, recorded.trace_hash);
    }

    #[test]
    fn text_from_outside_stays_text() {
        assert_eq!(
            escaped("<a href=\"x\">&"),
            "&lt;a href=&quot;x&quot;&gt;&amp;"
        );
    }
}
