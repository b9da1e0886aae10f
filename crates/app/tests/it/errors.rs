//! Every failure that a user can cause is a row of `docs/errors.md`, and each row is a test here.
//!
//! A row has an id. The test that names the id runs the command, and [`check`] compares what came
//! with the row: the exit code, and the one line, in which `…` stands for any text. What is left on
//! the disk and what the next run does is asserted by the test itself. A row without a test or a
//! test without a row fails.

use std::collections::{BTreeMap, BTreeSet};

use crate::clients::skip;
use crate::fixture::{Done, Sandbox, Words};
use crate::wire::Content;

mod certificates;
mod data;
mod links;
mod places;
mod running;
mod sources;
mod words;

/// One row of the table.
#[derive(Clone, Debug)]
struct Row {
    command: String,
    /// The line as the user sees it, without `error: `.
    message: String,
    exit: i32,
}

/// All rows by id.
fn rows() -> BTreeMap<String, Row> {
    let page = include_str!("../../../../docs/errors.md");
    let mut rows = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [id, command, message, exit, left, next] = cells[..] else {
            continue;
        };
        let text = |cell: &str| cell.trim_matches('`').to_owned();
        for cell in [left, next] {
            assert!(!cell.is_empty(), "an empty cell in: {line}");
        }
        let row = Row {
            command: text(command),
            message: text(message),
            exit: exit
                .parse()
                .unwrap_or_else(|_| panic!("{exit:?} in: {line}")),
        };
        let before = rows.insert(text(id), row);
        assert!(before.is_none(), "two rows are called {id}");
    }
    rows
}

/// Whether `line` is `pattern`, where `…` stands for any text.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    for (n, part) in parts.iter().enumerate() {
        if n + 1 == parts.len() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// The process ended as the row says: with its code, and with its line.
#[track_caller]
fn check(id: &str, done: Done) -> Done {
    let rows = rows();
    let row = rows.get(id).unwrap_or_else(|| panic!("no row {id}"));
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    let done = done.expect(row.exit);
    if row.message == "nothing" {
        assert!(!done.stderr.contains("error: "), "{}", done.stderr);
    } else if row.message.starts_with("warning: ") {
        let found = done.stderr.lines().any(|line| fits(&row.message, line));
        assert!(found, "{id}: {}\nis not in {}", row.message, done.stderr);
    } else {
        let line = done.error();
        assert!(
            fits(&row.message, line),
            "{id}: {}\nis not {line}",
            row.message
        );
        let last = done.stderr.lines().last().unwrap_or_default();
        assert!(last.ends_with(line), "it comes last: {}", done.stderr);
        assert!(line.len() < 400, "{} characters: {line}", line.len());
    }
    done
}

/// Of several sources each failure has its line when it happens; this is what the end says.
fn at_the_end(done: Done) -> Done {
    let last = done
        .stderr
        .lines()
        .rfind(|line| line.starts_with("error: "));
    Done {
        stderr: last.unwrap_or_default().to_owned(),
        ..done
    }
}

/// As [`check`], and that line is all that was said.
#[track_caller]
fn check_alone(id: &str, done: Done) {
    let done = check(id, done);
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    assert_eq!(done.stdout, "");
}

/// A torrent of eight pieces whose data lies in `data/`, and a folder `out` for downloads.
struct Case {
    sandbox: Sandbox,
    content: Content,
}

impl Case {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let content = Content::new(&sandbox, "thing", 32 * 1024, 8);
        sandbox.dir("out");
        Self { sandbox, content }
    }

    /// `dunlin WORDS`, the words separated by spaces.
    fn run(&self, line: &str) -> Done {
        let words: Vec<&str> = line.split_whitespace().collect();
        let words: Vec<&dyn AsRef<std::ffi::OsStr>> = words.iter().map(|word| word as _).collect();
        self.sandbox.run("", &words)
    }

    /// The same as root's nobody, for whom permissions count. `None` where that cannot be done.
    fn run_as_nobody(&self, line: &str) -> Option<Done> {
        use std::os::unix::fs::PermissionsExt;
        use std::os::unix::process::CommandExt;
        const NOBODY: u32 = 65_534;
        let words: Vec<&str> = line.split_whitespace().collect();
        let words: Vec<&dyn AsRef<std::ffi::OsStr>> = words.iter().map(|word| word as _).collect();
        let command = |words: Words<'_>| {
            let mut command = self.sandbox.dunlin("", words);
            if rustix::process::geteuid().is_root() {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.sandbox.path(""), open).unwrap();
        let probe = command(&[&"--version"]).output();
        if !probe.is_ok_and(|output| output.status.success()) {
            skip(
                "permissions",
                "nobody else than root can run the program here",
            );
            return None;
        }
        let child = command(&words).spawn().unwrap();
        Some(crate::fixture::wait(child, crate::fixture::PATIENCE))
    }

    /// A download into `folder` works now, and what it brings is right.
    fn finishes(&self, folder: &str) {
        let mut seed = self.seed();
        let line = format!(
            "get thing.torrent -d {folder} --listen 127.0.0.1:0 --peer {}",
            seed.addr()
        );
        self.run(&line).expect(0);
        let got = self.sandbox.path(folder).join("thing");
        crate::fixture::assert_same(&self.content.file, &got);
        seed.kill();
    }

    fn seed(&self) -> crate::fixture::Running {
        let words: Words<'_> = &[&self.content.torrent, &"data", &"--listen", &"127.0.0.1:0"];
        self.sandbox.start("seed", words)
    }

    /// The names in `out`, hidden ones too.
    fn left(&self) -> Vec<std::ffi::OsString> {
        crate::fixture::names(&self.sandbox.path("out"))
    }
}

#[test]
fn every_row_has_a_test_and_every_test_a_row() {
    let sources = [
        include_str!("errors/certificates.rs"),
        include_str!("errors/data.rs"),
        include_str!("errors/links.rs"),
        include_str!("errors/places.rs"),
        include_str!("errors/running.rs"),
        include_str!("errors/sources.rs"),
        include_str!("errors/words.rs"),
    ];
    let rows = rows();
    assert!(rows.len() > 50, "only {} rows were understood", rows.len());
    let mut tested = BTreeSet::new();
    for source in sources {
        for part in source.split("#[test]\nfn ").skip(1) {
            let name = part.split('(').next().unwrap_or_default();
            tested.insert(name.to_owned());
        }
    }
    let written: BTreeSet<String> = rows.keys().cloned().collect();
    let without: Vec<_> = written.difference(&tested).collect();
    assert!(without.is_empty(), "rows without a test: {without:?}");
    let without: Vec<_> = tested.difference(&written).collect();
    assert!(without.is_empty(), "tests without a row: {without:?}");
    for (id, row) in rows {
        assert!(
            row.command.starts_with("dunlin") || row.command.starts_with("any"),
            "{id}"
        );
    }
}

#[test]
fn an_ellipsis_stands_for_any_text() {
    for (pattern, line, is_right) in [
        ("a: b", "a: b", true),
        ("a: b", "a: bc", false),
        ("…: b", "x/y: b", true),
        ("a … c … e", "a b c d e", true),
        ("a … c", "a b d", false),
        ("a…", "abc", true),
    ] {
        assert_eq!(fits(pattern, line), is_right, "{pattern} {line}");
    }
}
