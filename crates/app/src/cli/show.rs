//! `dunlin show`: what a .torrent file or a link says.
//!
//! A torrent of any version and a magnet link become the same [`Facts`], so that there is one
//! document and one page for all. What a link cannot know is `null`.

mod facts;
mod page;

use dunlin_metainfo::TorrentFile;
use serde_json::{Value, json};

use crate::args::Show;
use crate::clean::clean_json;
use crate::failure::Failure;
use crate::source::{self, Found};
use crate::{Context, screen, settings};
use facts::Facts;

pub fn run(args: &Show, mut context: Context) -> Result<(), Failure> {
    args.way.add_to(&mut context.config)?;
    let network = settings::network(&context.config);
    let facts = match source::find(&args.source, None, &network)? {
        Found::Torrent(torrent) => Facts::from(*torrent),
        Found::V2Only(torrent) => Facts::from(*torrent),
        Found::Link(_) if source::is_info_hash(&args.source) => {
            return Err(Failure::usage(format!(
                "{}: a bare info hash tells nothing else; to download it name a peer: \
                 dunlin get HASH --peer HOST:PORT",
                args.source
            )));
        }
        Found::Link(magnet) => Facts::from(*magnet),
    };
    if args.json {
        return screen::out(&clean_json(&format!("{:#}", document(&facts))));
    }
    page::lines(&facts)
        .iter()
        .try_for_each(|line| screen::out(line))
}

fn document(facts: &Facts) -> Value {
    let files = facts.files.as_ref();
    let files = files.map(|files| files.iter().map(entry).collect::<Vec<_>>());
    let selected = facts.magnet.select.iter();
    let selected: Vec<_> = selected.map(|range| (range.start(), range.end())).collect();
    json!({
        "name": facts.magnet.name,
        "info_hash_v1": facts.magnet.info_hash.map(|hash| hash.to_string()),
        "info_hash_v2": facts.magnet.info_hash_v2.map(|hash| hash.to_string()),
        "bytes": facts.bytes,
        "piece_length": facts.piece_length,
        "pieces": facts.pieces,
        "private": facts.private,
        "trackers": facts.trackers,
        "web_seeds": facts.magnet.web_seeds,
        "nodes": facts.nodes,
        "peers": facts.magnet.peers,
        "selected": selected,
        "created": facts.created,
        "created_by": facts.created_by,
        "comment": facts.comment,
        "source": facts.source,
        "files": files,
        "magnet": facts.magnet.to_string(),
    })
}

fn entry(file: &TorrentFile) -> Value {
    let mut entry = json!({
        "path": file.path.as_str(),
        "bytes": file.len,
        "attributes": attributes(file),
    });
    if let Some(target) = &file.attributes.symlink {
        entry["symlink"] = json!(target.as_str());
    }
    if let Some(root) = file.pieces_root {
        entry["pieces_root"] = json!(root.to_string());
    }
    entry
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

#[cfg(test)]
mod tests;
