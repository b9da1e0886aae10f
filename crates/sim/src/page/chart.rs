//! Lines over time as SVG, with axes whose numbers are round.

use std::fmt::Write as _;

/// A picture is this wide in its own units: at 390 pixels its text can still be read.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 24.0;

#[derive(Debug)]
pub(super) struct Chart {
    /// Seconds.
    pub(super) x_max: f64,
    pub(super) y_max: f64,
    pub(super) y_name: fn(f64) -> String,
    pub(super) lines: Vec<Line>,
    /// Moments that are worth a line of their own, with their names.
    pub(super) marks: Vec<(f64, &'static str)>,
}

#[derive(Debug)]
pub(super) struct Line {
    /// A colour of the style sheet.
    pub(super) colour: String,
    pub(super) dashed: bool,
    pub(super) points: Vec<(f64, f64)>,
}

impl Chart {
    pub(super) fn svg(&self, label: &str) -> String {
        let mut out = open(label, HEIGHT);
        let frame = Frame::new(self.x_max, self.y_max, HEIGHT);
        frame.axes(&mut out, self.y_name);
        for &(x, name) in &self.marks {
            let at = frame.x(x);
            let (anchor, dx) = if x > self.x_max * 0.7 {
                ("end", -4.0)
            } else {
                ("start", 4.0)
            };
            let _ = write!(
                out,
                "<line class=\"dash\" stroke=\"var(--bound)\" x1=\"{at:.1}\" x2=\"{at:.1}\" \
                 y1=\"{TOP}\" y2=\"{:.1}\"/><text x=\"{:.1}\" y=\"11\" text-anchor=\"{anchor}\">\
                 {name}</text>",
                HEIGHT - BOTTOM,
                at + dx
            );
        }
        for line in &self.lines {
            let points: Vec<String> = line
                .points
                .iter()
                .map(|&(x, y)| format!("{:.1},{:.1}", frame.x(x), frame.y(y)))
                .collect();
            let dash = if line.dashed { " dash" } else { "" };
            let _ = write!(
                out,
                "<polyline class=\"curve{dash}\" stroke=\"var(--{})\" points=\"{}\"/>",
                line.colour,
                points.join(" ")
            );
        }
        out.push_str("</svg>");
        out
    }
}

/// Where a point of the data is on the picture.
#[derive(Debug)]
pub(super) struct Frame {
    x_max: f64,
    y_max: f64,
    height: f64,
}

impl Frame {
    pub(super) fn new(x_max: f64, y_max: f64, height: f64) -> Self {
        Self {
            x_max: x_max.max(1e-9),
            y_max: y_max.max(1e-9),
            height,
        }
    }

    pub(super) fn x(&self, x: f64) -> f64 {
        LEFT + (x / self.x_max).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    pub(super) fn y(&self, y: f64) -> f64 {
        let plot = self.height - TOP - BOTTOM;
        TOP + plot - (y / self.y_max).clamp(0.0, 1.0) * plot
    }

    /// Grid, names of its lines, and the time below.
    pub(super) fn axes(&self, out: &mut String, y_name: fn(f64) -> String) {
        for y in ticks(self.y_max, 5) {
            let at = self.y(y);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                y_name(y)
            );
        }
        self.times(out);
    }

    /// The axis of time alone.
    pub(super) fn times(&self, out: &mut String) {
        let (unit, name) = unit_of(self.x_max);
        for tick in ticks(self.x_max / unit, 7) {
            let at = self.x(tick * unit);
            let _ = write!(
                out,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}{}</text>",
                self.height - 7.0,
                if tick == 0.0 { name } else { "" }
            );
        }
    }
}

pub(super) fn open(label: &str, height: f64) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{label}\">")
}

/// The part of a picture between its axes: x, y, width, height.
pub(super) fn plot(height: f64) -> (f64, f64, f64, f64) {
    (LEFT, TOP, WIDTH - LEFT - RIGHT, height - TOP - BOTTOM)
}

/// Seconds in the unit that a time of this length is told in, and its name.
fn unit_of(seconds: f64) -> (f64, &'static str) {
    match seconds {
        s if s > 3.0 * 3600.0 => (3600.0, " h"),
        s if s > 300.0 => (60.0, " min"),
        _ => (1.0, " s"),
    }
}

/// Round numbers from 0 to the end, at most about so many.
fn ticks(max: f64, about: u32) -> Vec<f64> {
    let rough = max / f64::from(about);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|&step| step >= rough)
        .unwrap_or(max);
    (0..)
        .map(|n| (f64::from(n) * step * 1e6).round() / 1e6)
        .take_while(|&tick| tick <= max * 1.0001)
        .take(about as usize * 2 + 2)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_end_within_the_axis() {
        assert_eq!(ticks(1.0, 5), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(ticks(19.3, 7), [0.0, 5.0, 10.0, 15.0]);
        assert_eq!(ticks(0.03, 5), [0.0, 0.01, 0.02, 0.03]);
    }

    #[test]
    fn a_point_beyond_the_axis_stays_in_the_picture() {
        let frame = Frame::new(10.0, 1.0, HEIGHT);
        assert_eq!(frame.x(20.0), WIDTH - RIGHT);
        assert_eq!(frame.y(2.0), TOP);
        assert_eq!(frame.y(-1.0), HEIGHT - BOTTOM);
    }
}
