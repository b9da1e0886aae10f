//! Would the tests notice? `cargo xtask mutate` breaks a decision of the engine on purpose, one at a
//! time, and says which test, oracle or figure caught it.
//!
//! A mutation is a file of `xtask/mutations`, see [`spec`]. It is applied to a copy of the tree in the
//! build folder, never to the tree itself; there the tests run that the file chooses. One that
//! nobody notices means that a test is missing: then the command fails.

mod spec;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use spec::Mutation;

/// Tests that take longer, compiled already, hang: that is noticed too.
const LATEST: Duration = Duration::from_secs(600);

/// Tests named in a row of the table.
const NAMED: usize = 3;

/// Length of the message in a row of the table.
const MESSAGE_MAX: usize = 120;

/// Runs the mutations whose names hold one of `only`, or all.
pub(crate) fn run(root: &Path, only: &[&str]) -> Result<()> {
    let mutations = spec::read_all(root)?;
    let chosen: Vec<&Mutation> = mutations
        .iter()
        .filter(|mutation| only.is_empty() || only.iter().any(|&word| mutation.name.contains(word)))
        .collect();
    ensure!(
        !chosen.is_empty(),
        "no mutation is called {}",
        only.join(" or ")
    );
    let scratch = Scratch::new(root)?;
    let mut sound: BTreeSet<&str> = BTreeSet::new();
    for tests in chosen.iter().flat_map(|mutation| &mutation.tests) {
        if sound.insert(tests) {
            let noticed = scratch.test(tests)?;
            ensure!(noticed.is_none(), "unchanged, {tests} fails: {noticed:?}");
        }
    }
    println!("| if | then fails | and says |\n|--|--|--|");
    let mut unnoticed = Vec::new();
    for mutation in chosen {
        let row = scratch
            .notice(mutation)
            .with_context(|| mutation.name.clone())?;
        println!("{row}");
        if row.noticed.is_none() {
            unnoticed.push(mutation.name.as_str());
        }
    }
    if !unnoticed.is_empty() {
        bail!("nobody noticed: {}", unnoticed.join(", "));
    }
    Ok(())
}

/// A copy of the tree with a build folder of its own.
#[derive(Debug)]
struct Scratch {
    tree: PathBuf,
    target: PathBuf,
}

impl Scratch {
    /// Files that did not change keep their times, so that little is compiled again.
    fn new(root: &Path) -> Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR");
        let target = target.map_or_else(|| root.join("target"), PathBuf::from);
        let folder = target.join("mutate");
        let scratch = Self {
            tree: folder.join("tree"),
            target: folder.join("target"),
        };
        let words = "ls-files -z --cached --others --exclude-standard";
        let output = Command::new("git")
            .args(words.split(' '))
            .current_dir(root)
            .output()
            .context("git lists the files")?;
        ensure!(output.status.success(), "git ls-files: {}", output.status);
        let listed = String::from_utf8(output.stdout)?;
        let names: BTreeSet<PathBuf> = listed
            .split_terminator('\0')
            .map(PathBuf::from)
            .filter(|name| root.join(name).is_file())
            .collect();
        for name in &names {
            write_if_other(&scratch.tree.join(name), &fs::read(root.join(name))?)?;
        }
        scratch.remove_others(&scratch.tree, &names)?;
        Ok(scratch)
    }

    /// What was renamed or deleted since the last time would still be compiled.
    fn remove_others(&self, folder: &Path, names: &BTreeSet<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.remove_others(&path, names)?;
            } else if !names.contains(path.strip_prefix(&self.tree)?) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Applies the mutation, runs its tests, takes it back.
    fn notice<'a>(&self, mutation: &'a Mutation) -> Result<Row<'a>> {
        let mutated = mutation.apply(&self.tree)?;
        let mut sound = Vec::new();
        for (name, text) in &mutated {
            let path = self.tree.join(name);
            sound.push((path.clone(), fs::read(&path)?));
            write_if_other(&path, text.as_bytes())?;
        }
        let mut noticed = Ok(None);
        for tests in &mutation.tests {
            noticed = self.test(tests);
            if !matches!(noticed, Ok(None)) {
                break;
            }
        }
        for (path, bytes) in sound {
            write_if_other(&path, &bytes)?;
        }
        let noticed = noticed?;
        Ok(Row { mutation, noticed })
    }

    /// `None` if the tests pass.
    fn test(&self, tests: &str) -> Result<Option<Noticed>> {
        let built = self.cargo(&["--no-run"], tests).output()?;
        ensure!(
            built.status.success(),
            "{tests} does not compile:\n{}",
            String::from_utf8_lossy(&built.stderr)
        );
        let said = self.target.join("said.txt");
        let out = fs::File::create(&said)?;
        let mut child = self
            .cargo(&["--no-fail-fast"], tests)
            .process_group(0)
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if started.elapsed() > LATEST {
                let group = format!("-{}", child.id());
                Command::new("kill")
                    .args(["-s", "KILL", "--", &group])
                    .status()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let text = String::from_utf8_lossy(&fs::read(&said)?).into_owned();
        Ok(match status {
            Some(status) if status.success() => None,
            Some(status) => Some(Noticed::of(&text, &status.to_string())),
            None => Some(Noticed::of(&text, "the tests do not end")),
        })
    }

    fn cargo(&self, first: &[&str], tests: &str) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["test", "--quiet"])
            .args(first)
            .args(tests.split_whitespace())
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            // Compiling is most of the work.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            // The message of a failure is one line of a table.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null());
        cargo
    }
}

/// What the tests said.
#[derive(PartialEq, Eq, Debug)]
struct Noticed {
    /// Those that failed.
    tests: Vec<String>,
    /// Of the first one.
    message: String,
}

impl Noticed {
    /// Reads what the test harness prints; `end` is said if that is nothing.
    fn of(text: &str, end: &str) -> Self {
        let name = |line: &str| -> Option<String> {
            let name = line.strip_prefix("---- ")?.strip_suffix(" stdout ----")?;
            Some(name.to_owned())
        };
        let tests: Vec<String> = text.lines().filter_map(name).collect();
        // What follows "thread '...' panicked at ...:" is the message, up to an empty line.
        let mut lines = text.lines().skip_while(|line| name(line).is_none());
        let message = lines
            .by_ref()
            .find(|line| line.contains("panicked at"))
            .map(|_| {
                let lines =
                    lines.take_while(|line| !line.is_empty() && !line.starts_with("note: "));
                let words = lines.flat_map(str::split_whitespace).collect::<Vec<_>>();
                words.join(" ")
            });
        let message = message.unwrap_or_else(|| end.to_owned());
        let message = match message.char_indices().nth(MESSAGE_MAX) {
            Some((end, _)) => format!("{} ...", &message[..end]),
            None => message,
        };
        Self { tests, message }
    }
}

/// A row of the table.
#[derive(Debug)]
struct Row<'a> {
    mutation: &'a Mutation,
    noticed: Option<Noticed>,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = &self.mutation.about;
        let Some(noticed) = &self.noticed else {
            return write!(f, "| {about} | **nothing** | |");
        };
        let named: Vec<String> = noticed
            .tests
            .iter()
            .take(NAMED)
            .map(|name| format!("`{name}`"))
            .collect();
        let more = match noticed.tests.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = noticed.message.replace('|', "/");
        write!(f, "| {about} | {}{more} | {message} |", named.join(", "))
    }
}

fn write_if_other(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, bytes).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_still_applies() {
        let root = crate::root().unwrap();
        let mutations = spec::read_all(&root).unwrap();
        assert!(mutations.len() >= 15, "{}", mutations.len());
        for mutation in mutations {
            if let Err(error) = mutation.apply(&root) {
                panic!("xtask/mutations/{}: {error:#}", mutation.name);
            }
        }
    }

    #[test]
    fn what_failed_and_why_is_found_in_what_the_harness_says() {
        let said = "running 2 tests\n..\nfailures:\n\n---- trade::a stdout ----\n\n\
            thread 'trade::a' (7) panicked at crates/x.rs:1:2:\nseed 3: [\n    \"finish: no\",\n]\n\
            note: run with\n\n---- trade::b stdout ----\n\nthread 'trade::b' panicked at y:\nz\n";
        let noticed = Noticed::of(said, "exit status: 101");
        assert_eq!(noticed.tests, ["trade::a", "trade::b"]);
        assert_eq!(noticed.message, "seed 3: [ \"finish: no\", ]");
        assert_eq!(Noticed::of("", "killed").message, "killed");
    }
}
