//! Rules about one source file: its length, words that must not stay, unsafe, and the protocol
//! modules that do not know each other.

use super::Finding;
use super::source::words;

const LINES_WARN: usize = 600;
const LINES_MAX: usize = 1_000;

/// Left-overs of work that is not done. Split, so that this file does not hold them.
const BANNED: [&str; 4] = [
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("FIX", "ME"),
    concat!("#[ig", "nore"),
];

/// Where unsafe code may be: system calls, and arithmetic on many hashes at once.
const UNSAFE_PLACES: [&str; 2] = ["crates/host/src/sys.rs", "crates/hash/"];

/// Modules of `proto`, none of which imports another.
const PROTOCOLS: [&str; 6] = ["peer", "tracker", "mse", "utp", "dht", "lsd"];

/// `text` is the file, `code` the file without comments and literals.
pub(super) fn check(path: &str, text: &str, code: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(length(path, text));
    findings.extend(banned_words(path, text));
    findings.extend(unsafe_code(path, code));
    findings.extend(protocol_imports(path, code));
    findings
}

fn length(path: &str, text: &str) -> Option<Finding> {
    let lines = text.lines().count();
    if lines > LINES_MAX {
        let what = format!("{lines} lines, more than {LINES_MAX}");
        Some(Finding::error(path, what))
    } else if lines > LINES_WARN {
        let what = format!("{lines} lines, more than {LINES_WARN}");
        Some(Finding::warning(path, what))
    } else {
        None
    }
}

fn banned_words(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in (1..).zip(text.lines()) {
        // What takes a client that is installed by hand is run by hand, and says so.
        let by_hand = line.contains(concat!("#[ig", "nore = \"`cargo xtask "));
        let found = BANNED.iter().filter(|word| line.contains(**word));
        for word in found.filter(|word| !(by_hand && word.starts_with("#["))) {
            findings.push(Finding::error(
                format!("{path}:{at}"),
                format!("`{word}` may not reach main"),
            ));
        }
    }
    findings
}

fn unsafe_code(path: &str, code: &str) -> Vec<Finding> {
    if UNSAFE_PLACES.iter().any(|place| path.starts_with(place)) {
        return Vec::new();
    }
    words(code)
        .filter(|(_, word)| *word == "unsafe")
        .map(|(at, _)| {
            let what = format!("unsafe code belongs in {}", UNSAFE_PLACES.join(" or "));
            Finding::error(place(path, code, at), what)
        })
        .collect()
}

fn protocol_imports(path: &str, code: &str) -> Vec<Finding> {
    let Some(rest) = path.strip_prefix("crates/proto/src/") else {
        return Vec::new();
    };
    let own = rest.split(['/', '.']).next().unwrap_or_default();
    if !PROTOCOLS.contains(&own) {
        return Vec::new();
    }
    imports(code)
        .into_iter()
        .filter(|(_, module)| *module != own && PROTOCOLS.contains(module))
        .map(|(at, module)| {
            let what = format!("protocol module `{own}` imports `{module}`");
            Finding::error(place(path, code, at), what)
        })
        .collect()
}

/// What stands right after `crate::` or `super::`, or first in a group there.
fn imports(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            match rest.trim_start().strip_prefix('{') {
                Some(group) => found.extend(heads(group).map(|head| (at, head))),
                None => found.extend(words(rest).take(1).map(|(_, word)| (at, word))),
            }
        }
    }
    found
}

/// The first word of each item of a `use` group whose opening brace was taken.
fn heads(group: &str) -> impl Iterator<Item = &str> {
    let mut depth = 1;
    let end = group.find(|char| {
        depth += match char {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        depth == 0
    });
    let mut depth = 0;
    group[..end.unwrap_or(group.len())]
        .split(move |char| {
            depth += match char {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            char == ',' && depth == 0
        })
        .filter_map(|item| words(item).next().map(|(_, word)| word))
}

fn place(path: &str, code: &str, at: usize) -> String {
    format!("{path}:{}", 1 + code[..at].matches('\n').count())
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::source::without_literals;
    use super::*;

    fn find(path: &str, text: &str) -> Vec<Finding> {
        check(path, text, &without_literals(text))
    }

    fn places(path: &str, text: &str) -> Vec<String> {
        let findings = find(path, text);
        findings.into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn long_files_warn_and_then_fail() {
        let severity = |lines: usize| {
            let findings = find("a.rs", &"x\n".repeat(lines));
            findings.first().map(|finding| finding.severity)
        };
        assert_eq!(severity(LINES_WARN), None);
        assert_eq!(severity(LINES_WARN + 1), Some(Severity::Warning));
        assert_eq!(severity(LINES_MAX), Some(Severity::Warning));
        assert_eq!(severity(LINES_MAX + 1), Some(Severity::Error));
    }

    #[test]
    fn left_overs_are_found_in_code_and_in_comments() {
        for word in BANNED {
            assert_eq!(places("a.rs", &format!("\n    {word}(x)\n")), ["a.rs:2"]);
            assert_eq!(places("a.rs", &format!("// {word}\n")), ["a.rs:1"]);
        }
    }

    #[test]
    fn unsafe_is_found_outside_its_fences() {
        let code = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(
            places("crates/engine/src/a.rs", code),
            ["crates/engine/src/a.rs:2"]
        );
        assert!(places("crates/host/src/sys.rs", code).is_empty());
        assert!(places("crates/hash/src/lanes.rs", code).is_empty());
        let harmless = "#![deny(unsafe_code)]\n// unsafe\nconst X: &str = \"unsafe\";\n";
        assert!(places("crates/engine/src/a.rs", harmless).is_empty());
    }

    #[test]
    fn protocols_do_not_import_each_other() {
        let proto = "crates/proto/src/";
        for (file, code) in [
            ("peer/decoder.rs", "use crate::tracker::AnnounceEvent;"),
            ("peer.rs", "use super::tracker;"),
            (
                "tracker/http/server.rs",
                "use crate::{buf, time::{A, b}, peer::X};",
            ),
            ("tracker.rs", "fn f(x: crate::peer::Message) {}"),
            ("dht/krpc.rs", "use super::super::utp::packet;"),
        ] {
            assert_eq!(places(&format!("{proto}{file}"), code).len(), 1, "{code}");
        }
        for (file, code) in [
            ("peer/decoder.rs", "use crate::peer::message;"),
            (
                "peer/decoder.rs",
                "use crate::{buf::{BlockBuf, tracker}, time};",
            ),
            (
                "peer/decoder.rs",
                "/// Like [`crate::tracker`].\nuse crate::buf::peer;",
            ),
            ("lib.rs", "pub use crate::{peer::A, tracker::B};"),
        ] {
            assert!(places(&format!("{proto}{file}"), code).is_empty(), "{code}");
        }
        assert!(places("crates/engine/src/peer.rs", "use crate::tracker::A;").is_empty());
    }
}
