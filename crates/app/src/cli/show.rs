//! `dunlin show`: what a .torrent file holds.

use std::ops::RangeInclusive;

use dunlin_metainfo::{Magnet, Torrent, TorrentFile};
use serde_json::{Value, json};

use crate::args::Show;
use crate::clean::{clean, date};
use crate::failure::Failure;
use crate::quantity::show_bytes;
use crate::source::{self, Found};
use crate::{Context, screen};

pub fn run(args: &Show, _context: &Context) -> Result<(), Failure> {
    let torrent = match source::find(&args.source, None)? {
        Found::Torrent(torrent) => torrent,
        Found::Link(_) if source::is_info_hash(&args.source) => {
            return Err(Failure::usage(format!(
                "{}: a bare info hash tells nothing else; to download it name a peer: \
                 dunlin get HASH --peer HOST:PORT",
                args.source
            )));
        }
        Found::Link(magnet) => return show_link(&magnet, args.json),
    };
    if args.json {
        return screen::out(&format!("{:#}", document(&torrent)));
    }
    lines(&torrent)
        .iter()
        .try_for_each(|line| screen::out(line))
}

/// What a link tells by itself; the rest is known to the peers.
fn show_link(magnet: &Magnet, json: bool) -> Result<(), Failure> {
    if json {
        return screen::out(&format!("{:#}", link_document(magnet)));
    }
    let mut lines = Vec::new();
    let mut add = |label: &str, text: &str| lines.push(format!("{label:<13} {}", clean(text)));
    if let Some(name) = &magnet.name {
        add("name", name);
    }
    if let Some(hash) = magnet.info_hash {
        add("info hash v1", &hash.to_string());
    }
    if let Some(hash) = magnet.info_hash_v2 {
        add("info hash v2", &hash.to_string());
    }
    if let Some(bytes) = magnet.length {
        add("size", &format!("{} ({bytes} bytes)", show_bytes(bytes)));
    }
    magnet.trackers.iter().for_each(|url| add("tracker", url));
    magnet.web_seeds.iter().for_each(|url| add("web seed", url));
    for (host, port) in &magnet.peers {
        add("peer", &format!("{host}:{port}"));
    }
    if !magnet.select.is_empty() {
        // Counted from 1, as everywhere on the command line.
        let range = |range: &RangeInclusive<u32>| {
            let (first, last) = (u64::from(*range.start()) + 1, u64::from(*range.end()) + 1);
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        };
        let ranges: Vec<String> = magnet.select.iter().map(range).collect();
        add("selected", &format!("files {}", ranges.join(", ")));
    }
    add("magnet", &magnet.to_string());
    add("files", "told by the peers: dunlin get");
    lines.iter().try_for_each(|line| screen::out(line))
}

/// The same keys as for a torrent; null is what only the metadata tells.
fn link_document(magnet: &Magnet) -> Value {
    let tiers: Value = magnet.trackers.iter().map(|url| json!([url])).collect();
    let peers: Value = magnet.peers.iter().map(|peer| json!(peer)).collect();
    json!({
        "name": magnet.name,
        "info_hash_v1": magnet.info_hash.map(|hash| hash.to_string()),
        "info_hash_v2": magnet.info_hash_v2.map(|hash| hash.to_string()),
        "bytes": magnet.length,
        "piece_length": null,
        "pieces": null,
        "private": null,
        "trackers": tiers,
        "web_seeds": magnet.web_seeds,
        "nodes": [],
        "peers": peers,
        "created": null,
        "created_by": null,
        "comment": null,
        "source": null,
        "files": null,
        "magnet": magnet.to_string(),
    })
}

fn document(torrent: &Torrent) -> Value {
    let files: Vec<Value> = torrent
        .files
        .iter()
        .map(|file| {
            let mut entry = json!({
                "path": file.path.as_str(),
                "bytes": file.len,
                "attributes": attributes(file),
            });
            if let Some(target) = &file.attributes.symlink {
                entry["symlink"] = json!(target.as_str());
            }
            entry
        })
        .collect();
    json!({
        "name": torrent.name,
        "info_hash_v1": torrent.info_hash.to_string(),
        "info_hash_v2": torrent.info_hash_v2.map(|hash| hash.to_string()),
        "bytes": torrent.layout.bytes(),
        "piece_length": torrent.layout.piece_length(),
        "pieces": torrent.layout.pieces(),
        "private": torrent.private,
        "trackers": torrent.trackers,
        "web_seeds": torrent.web_seeds,
        "nodes": torrent.nodes.iter().map(|(host, port)| json!([host, port])).collect::<Value>(),
        "created": torrent.created,
        "created_by": torrent.created_by,
        "comment": torrent.comment,
        "source": torrent.source,
        "files": files,
        "magnet": torrent.magnet().to_string(),
    })
}

/// BEP 47, in words.
fn attributes(file: &TorrentFile) -> Vec<&'static str> {
    let flags = &file.attributes;
    [
        (flags.pad, "pad"),
        (flags.executable, "executable"),
        (flags.hidden, "hidden"),
        (flags.symlink.is_some(), "symlink"),
    ]
    .into_iter()
    .filter_map(|(set, word)| set.then_some(word))
    .collect()
}

fn lines(torrent: &Torrent) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |label: &str, text: &str| lines.push(format!("{label:<13} {}", clean(text)));
    let layout = &torrent.layout;
    add("name", &torrent.name);
    add("info hash v1", &torrent.info_hash.to_string());
    if let Some(hash) = torrent.info_hash_v2 {
        add("info hash v2", &hash.to_string());
    }
    let bytes = layout.bytes();
    add("size", &format!("{} ({bytes} bytes)", show_bytes(bytes)));
    add(
        "pieces",
        &format!("{} of {} bytes", layout.pieces(), layout.piece_length()),
    );
    if torrent.private {
        add("private", "peers come from its trackers only");
    }
    for (tier, urls) in torrent.trackers.iter().enumerate() {
        add("tracker", &format!("tier {}: {}", tier + 1, urls.join(" ")));
    }
    for url in &torrent.web_seeds {
        add("web seed", url);
    }
    for (host, port) in &torrent.nodes {
        add("DHT node", &format!("{host}:{port}"));
    }
    if let Some(created) = torrent.created {
        add("created", &date(created));
    }
    let texts = [
        ("created by", &torrent.created_by),
        ("comment", &torrent.comment),
        ("source", &torrent.source),
    ];
    for (label, text) in texts {
        if let Some(text) = text {
            add(label, text);
        }
    }
    add("magnet", &torrent.magnet().to_string());
    add("files", &torrent.files.len().to_string());
    for (number, file) in (1..).zip(&torrent.files) {
        let words = attributes(file);
        let words = if words.is_empty() {
            String::new()
        } else {
            format!("  ({})", words.join(", "))
        };
        let path = clean(file.path.as_str());
        lines.push(format!(
            "{number:>6}  {:>9}  {path}{words}",
            show_bytes(file.len)
        ));
    }
    lines
}
