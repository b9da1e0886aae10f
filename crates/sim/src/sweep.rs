//! The same scenario with many seeds, a few at a time, and what its figures come to.
//!
//! Each run is a function of its seed, so the order in which they end changes nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::catalogue::{Measured, Scenario};
use crate::figures::{Figure, Summary};
use crate::report::{json_figures, quoted, strings};

#[derive(Clone, Debug)]
pub struct Sweep {
    pub scenario: &'static str,
    pub peers: u32,
    pub runs: Vec<Run>,
    /// Of every node in every run the same: they do not depend on the seed.
    pub config_differences: Vec<String>,
}

/// What is kept of one run.
#[derive(Clone, Debug)]
pub struct Run {
    pub seed: u64,
    pub figures: Vec<Figure>,
    pub violations: Vec<String>,
    pub trace_hash: u64,
}

impl Sweep {
    /// Runs all seeds, `jobs` at a time.
    ///
    /// # Panics
    /// If a run does.
    pub fn of(scenario: &Scenario, peers: u32, seeds: &[u64], jobs: usize) -> Self {
        let next = AtomicUsize::new(0);
        let done = Mutex::new((Vec::new(), Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, seeds.len().max(1)) {
                scope.spawn(|| {
                    while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let measured = scenario.measure(peers, seed);
                        let mut done = done.lock().expect("a run that panics ends the sweep");
                        done.1.clone_from(&measured.report.config_differences);
                        done.0.push(Run::of(measured));
                    }
                });
            }
        });
        let (mut runs, config_differences) =
            done.into_inner().expect("a run that panics ends the sweep");
        runs.sort_by_key(|run: &Run| run.seed);
        Self {
            scenario: scenario.name,
            peers,
            runs,
            config_differences,
        }
    }

    /// One for each figure that any run has, in the order of the runs' figures.
    pub fn summaries(&self) -> Vec<Summary> {
        let mut names: Vec<&Figure> = Vec::new();
        for figure in self.runs.iter().flat_map(|run| &run.figures) {
            if !names.iter().any(|known| known.name == figure.name) {
                names.push(figure);
            }
        }
        let values = |name: &str| -> Vec<f64> {
            let figures = self.runs.iter().flat_map(|run| &run.figures);
            figures
                .filter(|figure| figure.name == name)
                .filter_map(|figure| figure.value)
                .collect()
        };
        names
            .iter()
            .map(|figure| (figure, values(&figure.name)))
            .filter(|(_, values)| !values.is_empty())
            .map(|(figure, values)| Summary::of(&figure.name, figure.goal, &values))
            .collect()
    }

    pub fn violations(&self) -> impl Iterator<Item = (u64, &String)> {
        self.runs
            .iter()
            .flat_map(|run| run.violations.iter().map(|violation| (run.seed, violation)))
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = format!(
            "{}: {} peers, {} runs, seeds {}\n",
            self.scenario,
            self.peers,
            self.runs.len(),
            self.seeds()
        );
        for difference in &self.config_differences {
            out.push_str(&format!("  not the default: {difference}\n"));
        }
        out.push_str("  ranges are 95 % of the mean by Student's t over the runs\n\n");
        out.push_str("| figure | mean | 95 % range | least | most | runs | goal | met |\n");
        out.push_str("|--|--|--|--|--|--|--|--|\n");
        for summary in self.summaries() {
            let (low, high) = summary.range();
            let range = summary.half_width.map_or("-".to_owned(), |_| {
                format!("{} to {}", digits(low), digits(high))
            });
            let goal = summary.goal.map_or("-".to_owned(), |goal| goal.to_string());
            let met = match summary.meets_goal() {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "-",
            };
            out.push_str(&format!(
                "| {} | {} | {range} | {} | {} | {} | {goal} | {met} |\n",
                summary.name,
                digits(summary.mean),
                digits(summary.least),
                digits(summary.most),
                summary.runs,
            ));
        }
        out
    }

    /// For scripts.
    pub fn json(&self) -> String {
        let summaries = self.summaries();
        let summaries: Vec<String> = summaries.iter().map(json_summary).collect();
        let runs: Vec<String> = self.runs.iter().map(json_run).collect();
        format!(
            "{{\"scenario\":{},\"peers\":{},\"range\":\"95 % of the mean, Student's t\",\
             \"config_differences\":{},\"figures\":[{}],\"runs\":[{}]}}",
            quoted(self.scenario),
            self.peers,
            strings(&self.config_differences),
            summaries.join(","),
            runs.join(",")
        )
    }

    fn seeds(&self) -> String {
        match (self.runs.first(), self.runs.last()) {
            (Some(first), Some(last)) if self.runs.len() > 1 => {
                format!("{}..{}", first.seed, last.seed)
            }
            (Some(only), _) => only.seed.to_string(),
            (None, _) => "none".to_owned(),
        }
    }
}

impl Run {
    fn of(measured: Measured) -> Self {
        Self {
            seed: measured.report.seed,
            violations: measured.violations(),
            trace_hash: measured.report.trace_hash,
            figures: measured.figures,
        }
    }
}

fn json_summary(summary: &Summary) -> String {
    let (low, high) = summary.range();
    let goal = summary
        .goal
        .map_or("null".to_owned(), |goal| quoted(&goal.to_string()));
    let met = summary
        .meets_goal()
        .map_or("null".to_owned(), |met| met.to_string());
    format!(
        "{{\"name\":{},\"mean\":{:.6},\"low\":{low:.6},\"high\":{high:.6},\"least\":{:.6},\
         \"most\":{:.6},\"runs\":{},\"goal\":{goal},\"met\":{met}}}",
        quoted(&summary.name),
        summary.mean,
        summary.least,
        summary.most,
        summary.runs
    )
}

fn json_run(run: &Run) -> String {
    format!(
        "{{\"seed\":{},\"trace_hash\":\"{:016x}\",\"figures\":{},\"violations\":{}}}",
        run.seed,
        run.trace_hash,
        json_figures(&run.figures),
        strings(&run.violations)
    )
}

/// Four significant digits.
fn digits(value: f64) -> String {
    let whole = value.abs().max(1e-9).log10().floor() as i32 + 1;
    let decimals = (4 - whole).clamp(0, 4) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    #[test]
    fn a_sweep_is_the_same_however_many_run_at_once() {
        let scenario = catalogue::find("restart").unwrap();
        let seeds = [3, 1, 2];
        let one = Sweep::of(scenario, 2, &seeds, 1);
        let three = Sweep::of(scenario, 2, &seeds, 3);
        assert_eq!(one.json(), three.json());
        assert_eq!(one.runs.len(), 3);
        assert!(one.violations().next().is_none());
    }

    #[test]
    fn numbers_have_four_significant_digits() {
        assert_eq!(digits(0.12345), "0.1235");
        assert_eq!(digits(12.345), "12.35");
        assert_eq!(digits(12345.6), "12346");
        assert_eq!(digits(0.0), "0.0000");
    }
}
