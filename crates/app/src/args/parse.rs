//! From words to [`Cli`], or to one line that says what is wrong with them.

use clap::Parser;

use super::Cli;
use crate::failure::Failure;

/// A usage error in one line, or the text of `--help` and `--version`.
pub fn parse(words: Vec<std::ffi::OsString>) -> Result<Cli, Refusal> {
    if let Some(failure) = words.get(1).and_then(|word| hint(&word.to_string_lossy())) {
        return Err(Refusal::Wrong(failure));
    }
    Cli::try_parse_from(words).map_err(|error| {
        use clap::error::ErrorKind;
        let texts = [
            ErrorKind::DisplayHelp,
            ErrorKind::DisplayVersion,
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ];
        if texts.contains(&error.kind()) {
            Refusal::Text(Box::new(error))
        } else {
            Refusal::Wrong(Failure::usage(one_line(&error)))
        }
    })
}

#[derive(Debug)]
pub enum Refusal {
    Text(Box<clap::Error>),
    Wrong(Failure),
}

/// Clap's error without its headings and without the usage.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\nUsage:").next().unwrap_or_default();
    let text = text
        .split("\nFor more information")
        .next()
        .unwrap_or_default();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let line = lines.join("; ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    format!(
        "{}; see --help",
        line.replace(":;", ":").replace("; tip:", "; try:")
    )
}

/// For a first word that is no command but looks like something to download.
fn hint(word: &str) -> Option<Failure> {
    let looks_like_source = word.ends_with(".torrent")
        || ["magnet:", "http://", "https://"]
            .iter()
            .any(|start| word.starts_with(start))
        || crate::source::is_info_hash(word);
    // A shell would read `&` and `?`, and cut at blanks.
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:%+,@".contains(c);
    let typed = match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    looks_like_source.then(|| {
        Failure::usage(format!(
            "{word:?} is no command; to download it: dunlin get {typed}"
        ))
    })
}
