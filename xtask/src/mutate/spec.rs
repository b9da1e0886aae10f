//! Mutations as files.
//!
//! The first line says what is broken. Then come, in any number: `run ARGUMENTS`, words for
//! `cargo test` that make it run the tests that should notice, the cheap ones first; `in PATH`, the
//! file that the following edits are about; and edits, lines that begin with `-` replaced by lines
//! that begin with `+`. Lines are compared without the spaces around them, and what is replaced
//! must be in the file exactly once: an edit that the code has outgrown is an error, not a
//! mutation that nobody notices.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

#[derive(Debug)]
pub(super) struct Mutation {
    /// Of its file, without the ending.
    pub(super) name: String,
    pub(super) about: String,
    pub(super) tests: Vec<String>,
    edits: Vec<Edit>,
}

#[derive(Debug)]
struct Edit {
    path: PathBuf,
    old: Vec<String>,
    new: Vec<String>,
}

/// In the order of their names.
pub(super) fn read_all(root: &Path) -> Result<Vec<Mutation>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root.join("xtask/mutations"))? {
        paths.push(entry?.path());
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(path)?;
        Mutation::parse(&name, &text).with_context(|| path.display().to_string())
    };
    paths.iter().map(read).collect()
}

impl Mutation {
    fn parse(name: &str, text: &str) -> Result<Self> {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let about = lines.next().context("the first line says what is broken")?;
        let mut mutation = Self {
            name: name.to_owned(),
            about: about.to_owned(),
            tests: Vec::new(),
            edits: Vec::new(),
        };
        let mut path = None;
        let mut in_edit = false;
        for line in lines {
            if let Some(tests) = line.strip_prefix("run ") {
                mutation.tests.push(tests.to_owned());
            } else if let Some(name) = line.strip_prefix("in ") {
                path = Some(PathBuf::from(name));
                in_edit = false;
            } else if let Some(old) = line.strip_prefix('-') {
                let path = path.clone().context("edits follow `in PATH`")?;
                let goes_on = mutation
                    .edits
                    .last()
                    .is_some_and(|edit| edit.new.is_empty());
                if !(in_edit && goes_on) {
                    let (old, new) = (Vec::new(), Vec::new());
                    mutation.edits.push(Edit { path, old, new });
                }
                in_edit = true;
                let edit = mutation.edits.last_mut().context("it was pushed")?;
                edit.old.push(old.trim().to_owned());
            } else if let Some(new) = line.strip_prefix('+') {
                ensure!(
                    in_edit,
                    "lines with + follow those with - that they replace"
                );
                let edit = mutation.edits.last_mut().context("an edit began")?;
                edit.new.push(new.trim().to_owned());
            } else {
                bail!("no line begins like this: {line}");
            }
        }
        ensure!(!mutation.tests.is_empty(), "no test is to run");
        ensure!(!mutation.edits.is_empty(), "nothing is changed");
        Ok(mutation)
    }

    /// The texts of the changed files.
    pub(super) fn apply(&self, root: &Path) -> Result<BTreeMap<PathBuf, String>> {
        let mut texts = BTreeMap::new();
        for edit in &self.edits {
            let path = &edit.path;
            let text = match texts.remove(path) {
                Some(text) => text,
                None => fs::read_to_string(root.join(path))
                    .with_context(|| path.display().to_string())?,
            };
            let text = edit
                .apply(&text)
                .with_context(|| path.display().to_string())?;
            texts.insert(path.clone(), text);
        }
        Ok(texts)
    }
}

impl Edit {
    fn apply(&self, text: &str) -> Result<String> {
        let lines: Vec<&str> = text.lines().collect();
        let is_here = |window: &[&str]| {
            let mut pairs = window.iter().zip(&self.old);
            pairs.all(|(line, old)| line.trim() == old)
        };
        let places: Vec<usize> = lines
            .windows(self.old.len())
            .enumerate()
            .filter_map(|(at, window)| is_here(window).then_some(at))
            .collect();
        let old = || self.old.join("\n");
        let [at] = places[..] else {
            bail!("found {} times instead of once:\n{}", places.len(), old());
        };
        let new = self.new.iter().map(String::as_str);
        let (before, after) = (&lines[..at], &lines[at + self.old.len()..]);
        let lines: Vec<&str> = before
            .iter()
            .copied()
            .chain(new)
            .chain(after.iter().copied())
            .collect();
        Ok(lines.join("\n") + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "fn a() {\n    one();\n    two();\n}\nfn b() {\n    two();\n}\n";

    fn edit(lines: &str) -> Result<String> {
        let text = format!("It breaks.\nrun -p x\nin a.rs\n{lines}");
        Mutation::parse("it", &text)?.edits[0].apply(TEXT)
    }

    #[test]
    fn lines_are_replaced_whatever_their_indentation() {
        let text = edit("- one();\n- two();\n+ three();\n").unwrap();
        assert_eq!(text, "fn a() {\nthree();\n}\nfn b() {\n    two();\n}\n");
    }

    #[test]
    fn what_is_nowhere_or_in_two_places_is_an_error() {
        for lines in ["- four();\n+ five();\n", "- two();\n+ three();\n"] {
            let error = edit(lines).unwrap_err().to_string();
            assert!(error.starts_with("found "), "{error}");
        }
    }

    #[test]
    fn a_file_that_changes_nothing_or_runs_nothing_is_an_error() {
        for text in [
            "",
            "It breaks.\nrun -p x\n",
            "It breaks.\nin a.rs\n- x\n",
            "x\ny\n",
        ] {
            assert!(Mutation::parse("it", text).is_err(), "{text:?}");
        }
    }
}
