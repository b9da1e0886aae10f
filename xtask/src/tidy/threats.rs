//! Rules about `docs/security.md`, the table from threat to test: the files and the tests exist.

use std::collections::BTreeSet;

use super::Finding;

pub(super) const PATH: &str = "docs/security.md";

/// The names of all functions of a file.
pub(super) fn functions(code: &str) -> impl Iterator<Item = &str> {
    code.split("fn ").skip(1).map(|rest| {
        let end = rest.find(|c: char| !is_of_name(c)).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    })
}

/// In a row of the table a code span with a slash is a path below `crates/`, one with an
/// underscore is a test.
pub(super) fn check(
    text: &str,
    exists: impl Fn(&str) -> bool,
    functions: &BTreeSet<String>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut named = 0;
    for (at, line) in (1..)
        .zip(text.lines())
        .filter(|(_, line)| line.starts_with("| "))
    {
        for span in line.split('`').skip(1).step_by(2) {
            let is_missing = if span.contains('/') {
                !exists(&format!("crates/{span}"))
            } else if span.contains('_') && span.chars().all(is_of_name) {
                named += 1;
                !functions.contains(span)
            } else {
                false
            };
            if is_missing {
                let what = format!("`{span}` does not exist");
                findings.push(Finding::error(format!("{PATH}:{at}"), what));
            }
        }
    }
    if named == 0 {
        findings.push(Finding::error(PATH, "names no test"));
    }
    findings
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_tests_that_are_named_must_exist() {
        let code = "fn one_is_true() {}\n    pub fn two_is_not<T>()";
        let functions = functions(code).map(str::to_owned).collect();
        let exists = |path: &str| path == "crates/a/b.rs";
        let good =
            "`no/where.rs` `no_row`\n| 1 | `ip=` | `a/b.rs` | `one_is_true`, `two_is_not` |\n";
        assert!(check(good, exists, &functions).is_empty());
        let bad = "| 1 | x | `a/c.rs` | `three_is_missing` |\n";
        assert_eq!(check(bad, exists, &functions).len(), 2);
        assert_eq!(check("nothing", exists, &functions).len(), 1);
    }
}
