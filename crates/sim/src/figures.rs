//! The numbers that scenarios are about, with their goals, and their means over many seeds.
//!
//! Ranges are 95 % confidence intervals of the mean by Student's t: the seeds are independent
//! draws, and a mean of twenty runs is near enough to normal.

use std::fmt;

/// A measured number.
#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    pub name: String,
    /// `None`: this run has no such number, for one because somebody never finished.
    pub value: Option<f64>,
    pub goal: Option<Goal>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Figure {
    pub fn new(name: impl Into<String>, value: impl Into<Option<f64>>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            goal: None,
        }
    }

    pub fn at_least(mut self, goal: f64) -> Self {
        self.goal = Some(Goal::AtLeast(goal));
        self
    }

    pub fn at_most(mut self, goal: f64) -> Self {
        self.goal = Some(Goal::AtMost(goal));
        self
    }
}

impl Goal {
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(goal) => value >= goal,
            Self::AtMost(goal) => value <= goal,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(goal) => write!(f, ">= {goal}"),
            Self::AtMost(goal) => write!(f, "<= {goal}"),
        }
    }
}

/// One figure over many seeds.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    pub name: String,
    pub goal: Option<Goal>,
    /// Runs that have this number.
    pub runs: usize,
    pub mean: f64,
    /// Half the width of the 95 % range of the mean; `None` for a single run.
    pub half_width: Option<f64>,
    pub least: f64,
    pub most: f64,
}

impl Summary {
    /// # Panics
    /// If there is no value.
    pub fn of(name: &str, goal: Option<Goal>, values: &[f64]) -> Self {
        assert!(!values.is_empty(), "{name} has no value in any run");
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let half_width = (values.len() > 1).then(|| {
            let deviation = (squares / (n - 1.0)).sqrt();
            t_quantile(values.len() - 1) * deviation / n.sqrt()
        });
        Self {
            name: name.to_owned(),
            goal,
            runs: values.len(),
            mean,
            half_width,
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// The 95 % range of the mean.
    pub fn range(&self) -> (f64, f64) {
        let half = self.half_width.unwrap_or(0.0);
        (self.mean - half, self.mean + half)
    }

    pub fn meets_goal(&self) -> Option<bool> {
        self.goal.map(|goal| goal.is_met(self.mean))
    }
}

/// Jain's index of fairness: 1 when all are equal, 1/n when one has everything.
pub fn jain(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    let squares: f64 = values.iter().map(|value| value * value).sum();
    if squares > 0.0 {
        sum * sum / (values.len() as f64 * squares)
    } else {
        1.0
    }
}

pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0u32);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}

/// The 97.5 % quantile of Student's t.
fn t_quantile(freedom: usize) -> f64 {
    if let Some(&t) = T_QUANTILES.get(freedom.saturating_sub(1)) {
        return t;
    }
    // Cornish and Fisher's expansion about the normal quantile: right to four digits from here on.
    let (z, n): (f64, f64) = (1.959_964, freedom as f64);
    z + (z.powi(3) + z) / (4.0 * n)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
}

/// For 1 to 30 degrees of freedom.
const T_QUANTILES: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_that_of_students_t() {
        let summary = Summary::of("x", None, &[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(summary.mean, 3.0);
        // 2.776 x 1.5811 / sqrt 5
        assert!((summary.half_width.unwrap() - 1.9629).abs() < 1e-3);
        assert_eq!((summary.least, summary.most), (1.0, 5.0));
    }

    #[test]
    fn one_run_has_no_range() {
        let summary = Summary::of("x", Some(Goal::AtLeast(2.0)), &[2.0]);
        assert_eq!(summary.half_width, None);
        assert_eq!(summary.range(), (2.0, 2.0));
        assert_eq!(summary.meets_goal(), Some(true));
    }

    #[test]
    fn the_expansion_goes_on_where_the_table_ends() {
        assert!((t_quantile(31) - 2.0395).abs() < 1e-3);
        assert!((t_quantile(199) - 1.9720).abs() < 1e-3);
    }

    #[test]
    fn equals_are_fair_and_one_who_has_all_is_not() {
        assert_eq!(jain(&[2.0, 2.0, 2.0]), 1.0);
        assert!((jain(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
    }
}
