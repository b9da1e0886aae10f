//! `cargo xtask tidy`: the house rules that rustc and clippy do not know.
//!
//! Each rule is a function from text to [`Finding`]s, so that its test is a piece of text. This
//! file reads the tree, hands every text to the rules that concern it, and prints what they found.

mod manifest;
mod protocols;
mod rules;
mod source;
mod threats;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Functions of more than [`source::FUNCTION_LINES_MAX`] lines. It may only fall: lower it when one
/// goes, never raise it.
const LONG_FUNCTIONS_MAX: usize = 1;

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    place: String,
    what: String,
    severity: Severity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Warning,
    Error,
}

impl Finding {
    fn error(place: impl Into<String>, what: impl Into<String>) -> Self {
        let (place, what) = (place.into(), what.into());
        let severity = Severity::Error;
        Self {
            place,
            what,
            severity,
        }
    }

    fn warning(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(place, what)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning: ",
            Severity::Error => "",
        };
        write!(f, "{severity}{}: {}", self.place, self.what)
    }
}

pub(crate) fn run(root: &Path) -> Result<()> {
    let findings = check(root)?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    let is_error = |finding: &&Finding| finding.severity == Severity::Error;
    match findings.iter().filter(is_error).count() {
        0 => Ok(()),
        errors => bail!("tidy: {errors} to mend"),
    }
}

fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut long = Vec::new();
    let mut functions = BTreeSet::new();
    for file in files(root)? {
        let path = relative(root, &file);
        if path.ends_with("Cargo.toml") {
            findings.extend(manifest::check(&path, &read(&file)?));
        } else if path.ends_with(".rs") {
            let text = read(&file)?;
            let code = source::without_literals(&text);
            findings.extend(rules::check(&path, &text, &code));
            functions.extend(threats::functions(&code).map(str::to_owned));
            long.extend(source::long_functions(&path, &code));
        }
    }
    findings.extend(ratchet(long, LONG_FUNCTIONS_MAX));
    let exists = |path: &str| root.join(path).exists();
    let table = root.join(threats::PATH);
    if table.exists() {
        findings.extend(threats::check(&read(&table)?, exists, &functions));
    } else {
        findings.push(Finding::warning(threats::PATH, "is missing"));
    }
    let table = root.join(protocols::PATH);
    if table.exists() {
        findings.extend(protocols::check(&read(&table)?, exists));
    } else {
        findings.push(Finding::warning(protocols::PATH, "is missing"));
    }
    Ok(findings)
}

/// Names every long function once there is one too many, and asks to tighten when there are fewer.
fn ratchet(long: Vec<Finding>, max: usize) -> Vec<Finding> {
    let count = long.len();
    if count > max {
        return long;
    }
    if count < max {
        let what = format!("only {count} long functions are left: lower LONG_FUNCTIONS_MAX");
        return vec![Finding::warning("xtask/src/tidy.rs", what)];
    }
    Vec::new()
}

/// What lies in the folders of our code, sorted.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.join("crates"), root.join("xtask")];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if !path.is_dir() {
                files.push(path);
            } else if !path.ends_with("target") {
                folders.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn relative(root: &Path, file: &Path) -> String {
    let path = file.strip_prefix(root).unwrap_or(file);
    path.to_string_lossy().replace('\\', "/")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratchet_holds_in_one_direction() {
        let long = |count| vec![Finding::error("a.rs:1", "is long"); count];
        assert_eq!(ratchet(long(2), 2), []);
        assert_eq!(ratchet(long(3), 2), long(3));
        let fewer = ratchet(long(1), 2);
        assert_eq!(fewer.len(), 1);
        assert_eq!(fewer[0].severity, Severity::Warning);
    }
}
