//! `show` for people: a page of 80 columns.
//!
//! Texts and paths are broken to fit. Links and URLs are not, they are there to be copied. Whatever
//! a stranger wrote goes through [`clean`].

use std::ops::RangeInclusive;

use dunlin_metainfo::TorrentFile;

use super::attributes;
use super::facts::Facts;
use crate::clean::{clean, date};
use crate::quantity::show_bytes;
use crate::screen::{COLUMNS, wrap};

/// Columns of `info hash v1  `.
const LABEL: usize = 14;

/// Columns of `     1  145.6 KB   `.
const FILE_LABEL: usize = 19;

pub(super) fn lines(facts: &Facts) -> Vec<String> {
    let mut page = Page::default();
    let magnet = &facts.magnet;
    page.text("name", magnet.name.as_deref());
    page.text(
        "info hash v1",
        magnet.info_hash.map(|hash| hash.to_string()),
    );
    page.text(
        "info hash v2",
        magnet.info_hash_v2.map(|hash| hash.to_string()),
    );
    page.text("size", facts.bytes.map(|bytes| size(bytes, facts)));
    if let (Some(pieces), Some(len)) = (facts.pieces, facts.piece_length) {
        page.text("pieces", Some(format!("{pieces} of {}", binary(len))));
    }
    if facts.files.is_some() && magnet.info_hash.is_none() {
        let words = "not yet: it is BitTorrent v2 only; ask for a v1 or hybrid one";
        page.text("transfer", Some(words));
    }
    if facts.private == Some(true) {
        page.text("private", Some("peers come from its trackers only"));
    }
    for (tier, urls) in (1..).zip(&facts.trackers) {
        // A link has no tiers, and one tier needs no number.
        let numbered = facts.files.is_some() && facts.trackers.len() > 1;
        let label = if numbered {
            format!("tracker {tier}")
        } else {
            "tracker".to_owned()
        };
        urls.iter().for_each(|url| page.whole(&label, url));
    }
    magnet
        .web_seeds
        .iter()
        .for_each(|url| page.whole("web seed", url));
    for (host, port) in &facts.nodes {
        page.whole("DHT node", &format!("{host}:{port}"));
    }
    for (host, port) in &magnet.peers {
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        page.whole("peer", &format!("{host}:{port}"));
    }
    page.text("created", facts.created.map(date));
    page.text("created by", facts.created_by.as_deref());
    page.text("comment", facts.comment.as_deref());
    page.text("source", facts.source.as_deref());
    if !magnet.select.is_empty() {
        page.text("selected", Some(selected(&magnet.select)));
    }
    page.whole("magnet", &magnet.to_string());
    match &facts.files {
        Some(files) => page.files(files),
        None => page.text("files", Some("told by the peers: dunlin get")),
    }
    page.lines
}

#[derive(Default)]
struct Page {
    lines: Vec<String>,
}

impl Page {
    /// A text that may be broken. Nothing if there is none.
    fn text(&mut self, label: &str, text: Option<impl AsRef<str>>) {
        let Some(text) = text else { return };
        let lines = text.as_ref().lines().map(clean);
        let lines: Vec<String> = lines
            .flat_map(|line| split(&wrap(&line, COLUMNS - LABEL), COLUMNS - LABEL))
            .collect();
        self.entry(&format!("{label:<LABEL$}"), &lines);
    }

    /// A text that is of use in one piece only.
    fn whole(&mut self, label: &str, text: &str) {
        self.entry(&format!("{label:<LABEL$}"), &[clean(text)]);
    }

    fn files(&mut self, files: &[TorrentFile]) {
        let pads = files.iter().filter(|file| file.attributes.pad).count();
        let pads = match pads {
            0 => String::new(),
            pads => format!(" (and {pads} of padding, which are never stored)"),
        };
        let stored = files.iter().filter(|file| !file.attributes.pad).count();
        self.text("files", Some(format!("{stored}{pads}")));
        // The numbers are those of `--select`: pads have theirs too.
        for (number, file) in (1..).zip(files).filter(|(_, file)| !file.attributes.pad) {
            let mut text = clean(file.path.as_str());
            if let Some(target) = &file.attributes.symlink {
                text.push_str(&format!(" -> {}", clean(target.as_str())));
            }
            let words = attributes(file);
            if !words.is_empty() {
                text.push_str(&format!("  ({})", words.join(", ")));
            }
            let size = show_bytes(file.len);
            let lines = split(&text, COLUMNS - FILE_LABEL);
            self.entry(&format!("{number:>6}  {size:>9}  "), &lines);
        }
    }

    /// The lines one below the other, right of the label.
    fn entry(&mut self, label: &str, lines: &[String]) {
        let mut label = label.to_owned();
        for line in lines {
            self.lines
                .push(format!("{label}{line}").trim_end().to_owned());
            label = " ".repeat(label.len());
        }
    }
}

/// Lines of at most `columns` characters.
fn split(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let chars: Vec<char> = line.chars().collect();
        lines.extend(
            chars
                .chunks(columns)
                .map(|line| line.iter().collect::<String>()),
        );
    }
    lines
}

fn size(bytes: u64, facts: &Facts) -> String {
    let files = facts.files.iter().flatten();
    let pads: u64 = files
        .filter(|file| file.attributes.pad)
        .map(|file| file.len)
        .sum();
    let pads = match pads {
        0 => String::new(),
        pads => format!(", {} of it padding", show_bytes(pads)),
    };
    match bytes {
        0..1000 => format!("{bytes} bytes{pads}"),
        _ => format!("{} ({bytes} bytes){pads}", show_bytes(bytes)),
    }
}

/// Pieces are powers of two nearly always.
fn binary(len: u32) -> String {
    match len {
        len if len.is_multiple_of(1 << 20) => format!("{} MiB", len >> 20),
        len if len.is_multiple_of(1 << 10) => format!("{} KiB", len >> 10),
        len => format!("{len} bytes"),
    }
}

/// Counted from 1, as everywhere on the command line.
fn selected(ranges: &[RangeInclusive<u32>]) -> String {
    let range = |range: &RangeInclusive<u32>| {
        let (first, last) = (u64::from(*range.start()) + 1, u64::from(*range.end()) + 1);
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    let ranges: Vec<String> = ranges.iter().map(range).collect();
    format!("files {}", ranges.join(", "))
}
