//! `--select`: which files of a torrent are wanted.
//!
//! A number is the file's place in `dunlin show`, from 1; several may be joined by commas. Anything
//! else is a glob over the path, the path below the torrent's folder, or the file name; `*` also
//! matches `/`.

use std::ops::RangeInclusive;

use dunlin_metainfo::Torrent;

use crate::clean::clean;
use crate::failure::Failure;
use crate::quantity::show_bytes;
use crate::screen;

/// Files that are listed when a selection matches none.
const FILES_LISTED: usize = 100;

/// What the selectors choose: one flag a file; empty if everything is wanted. If one chooses
/// nothing, the files there are go to stderr.
pub fn chosen(torrent: &Torrent, selectors: &[String]) -> Result<Vec<bool>, Failure> {
    wanted(torrent, selectors).map_err(|message| {
        list(torrent);
        Failure::usage(message)
    })
}

/// The same for the selection inside a magnet link (BEP 53), which counts from 0. Places that the
/// torrent does not have are ignored, unless there are no others.
pub fn linked(torrent: &Torrent, ranges: &[RangeInclusive<u32>]) -> Result<Vec<bool>, Failure> {
    if ranges.is_empty() {
        return Ok(Vec::new());
    }
    let is_chosen = |index: usize| {
        let place = u32::try_from(index).ok();
        place.is_some_and(|place| ranges.iter().any(|range| range.contains(&place)))
    };
    let files = || torrent.files.iter().enumerate();
    if !files().any(|(index, file)| !file.attributes.pad && is_chosen(index)) {
        list(torrent);
        return Err(Failure::usage(
            "the link selects no file that the torrent has; choose with --select",
        ));
    }
    Ok(files()
        .map(|(index, file)| file.attributes.pad || is_chosen(index))
        .collect())
}

fn list(torrent: &Torrent) {
    screen::note(&format!("files of {}:", clean(&torrent.name)));
    for (number, file) in (1..).zip(&torrent.files).take(FILES_LISTED) {
        let (size, path) = (show_bytes(file.len), clean(file.path.as_str()));
        screen::note(&format!("{number:>6}  {size:>9}  {path}"));
    }
    let more = torrent.files.len().saturating_sub(FILES_LISTED);
    if more > 0 {
        screen::note(&format!("        and {more} more; `dunlin show` lists all"));
    }
}

/// One flag a file; empty if everything is wanted. Files that are never on the disk count as
/// wanted, they cost nothing.
fn wanted(torrent: &Torrent, selectors: &[String]) -> Result<Vec<bool>, String> {
    if selectors.is_empty() {
        return Ok(Vec::new());
    }
    let paths: Vec<&str> = torrent
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    let mut wanted: Vec<bool> = torrent
        .files
        .iter()
        .map(|file| file.attributes.pad)
        .collect();
    for selector in selectors {
        let mut matched = false;
        for (index, path) in paths.iter().enumerate() {
            let hit = match numbers(selector) {
                Some(ranges) => ranges
                    .iter()
                    .any(|(from, to)| (*from..=*to).contains(&(index + 1))),
                None => matches_path(selector, path),
            };
            if hit && !torrent.files[index].attributes.pad {
                wanted[index] = true;
                matched = true;
            }
        }
        if !matched {
            return Err(format!(
                "--select {selector:?} matches no file of the torrent"
            ));
        }
    }
    Ok(wanted)
}

/// `3`, `2-5`, `1,4-6`: ranges of places, both ends included. `None` if it is a glob.
fn numbers(selector: &str) -> Option<Vec<(usize, usize)>> {
    selector
        .split(',')
        .map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            Some((from.parse().ok()?, to.parse().ok()?))
        })
        .collect()
}

fn matches_path(pattern: &str, path: &str) -> bool {
    let below = path.split_once('/').map_or(path, |(_, below)| below);
    let name = path.rsplit('/').next().unwrap_or(path);
    [path, below, name]
        .into_iter()
        .any(|text| glob(pattern, text))
}

/// `*`, `?` and `[a-z]`; `[!a-z]` is none of them. No backtracking beyond the last `*`, so that
/// time is at most pattern x text.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if let Some(next) = match_one(&pattern[p..], text[t]) {
            p += next;
            t += 1;
        } else if let Some((after, from)) = star {
            p = after;
            t = from + 1;
            star = Some((after, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// How many characters of the pattern match this one character.
fn match_one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => match class(pattern, c) {
            Some((true, len)) => Some(len),
            Some((false, _)) => None,
            None => (c == '[').then_some(1),
        },
        &plain => (plain == c).then_some(1),
    }
}

/// Whether the class at the start of the pattern holds `c`, and its length; `None` if it never
/// closes.
fn class(pattern: &[char], c: char) -> Option<(bool, usize)> {
    let negated = pattern.get(1) == Some(&'!');
    let first = if negated { 2 } else { 1 };
    // A bracket in first place is a member, not the end.
    let end = first + 1 + pattern.get(first + 1..)?.iter().position(|&c| c == ']')?;
    let members = &pattern[first..end];
    let mut found = false;
    let mut at = 0;
    while at < members.len() {
        match (members.get(at + 1), members.get(at + 2)) {
            (Some('-'), Some(&to)) => {
                found |= (members[at]..=to).contains(&c);
                at += 3;
            }
            _ => {
                found |= members[at] == c;
                at += 1;
            }
        }
    }
    Some((found != negated, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_a_shell_but_stars_cross_folders() {
        for (pattern, text, hit) in [
            ("*", "", true),
            ("*.mkv", "a/b.mkv", true),
            ("*.mkv", "a/b.mk", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
            ("?.txt", "é.txt", true),
            ("[a-c]1", "b1", true),
            ("[!a-c]1", "b1", false),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, text), hit, "{pattern} {text}");
        }
        assert!(!glob(&"*a".repeat(200), &"a".repeat(199)));
    }

    #[test]
    fn numbers_are_places_and_ranges() {
        assert_eq!(numbers("3"), Some(vec![(3, 3)]));
        assert_eq!(numbers("1,4-6"), Some(vec![(1, 1), (4, 6)]));
        assert_eq!(numbers("a-b"), None);
        assert_eq!(numbers("1-"), None);
    }

    #[test]
    fn a_pattern_may_name_the_path_its_tail_or_the_file() {
        for pattern in ["T/sub/x.txt", "sub/x.txt", "x.txt", "sub/*", "T/*"] {
            assert!(matches_path(pattern, "T/sub/x.txt"), "{pattern}");
        }
        assert!(!matches_path("ub/x.txt", "T/sub/x.txt"));
    }
}
