//! Rules about `docs/protocols.md`, the table from BEP to file: the files exist.

use super::Finding;

pub(super) const PATH: &str = "docs/protocols.md";

/// A code span that starts with `crates/` names a file or folder of this tree.
pub(super) fn check(text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut named = 0;
    for (at, line) in (1..).zip(text.lines()) {
        let spans = line.split('`').skip(1).step_by(2);
        for path in spans.filter(|span| span.starts_with("crates/")) {
            named += 1;
            if !exists(path) {
                let what = format!("`{path}` does not exist");
                findings.push(Finding::error(format!("{PATH}:{at}"), what));
            }
        }
    }
    if named == 0 {
        findings.push(Finding::error(PATH, "names no file as `crates/...`"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_named_must_exist() {
        let table = "| BEP | file |\n| 3 | `crates/a.rs`, `crates/gone.rs` |\n| 5 | `dht` |\n";
        let findings = check(table, |path| path == "crates/a.rs");
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, "docs/protocols.md:2");
        assert!(findings[0].what.contains("gone.rs"));
    }

    #[test]
    fn a_table_without_files_is_an_error() {
        assert_eq!(check("# Protocols\n", |_| true).len(), 1);
    }
}
