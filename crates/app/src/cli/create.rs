//! `dunlin create`: makes a .torrent file.

use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dunlin_metainfo::create::{Details, PieceLen};
use serde_json::json;

use crate::args::Create;
use crate::clean::{clean, clean_json};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::quantity::{self, show_bytes};
use crate::signals::Interrupt;
use crate::torrent_maker::{self, Made};
use crate::tree::Tree;
use crate::{Context, screen};

/// What the user asked for, understood.
struct Plan {
    args: Create,
    piece_length: Option<u64>,
    details: Details,
}

pub fn run(args: Create, context: &Context) -> Result<(), Failure> {
    let plan = plan(args, context)?;
    let started = Instant::now();
    let interrupt = Interrupt::install()?;
    let tree = Tree::read(&plan.args.path)?;
    let output = output(&plan.args, tree.content.name());
    if output.symlink_metadata().is_ok() {
        return Err(torrent_maker::exists(&output));
    }
    if !torrent_maker::folder_of(&output).is_dir() {
        return Err(torrent_maker::no_folder(&output));
    }
    let say = |line: &str| {
        if !context.global.quiet {
            screen::note(line);
        }
    };
    for path in &tree.left_out {
        let path = clean(&path.to_string_lossy());
        screen::note(&format!(
            "warning: {path}: left out: a link to no file, or no file at all"
        ));
    }
    let piece_len = torrent_maker::piece_len(&tree, plan.piece_length)?;
    say(&format!("piece length {}", piece_len.reason));
    let mut progress = Progress::new(context.global.quiet);
    let made = torrent_maker::make(
        &tree,
        &piece_len,
        &plan.details,
        plan.args.threads,
        &mut |at| progress.bytes("hashing", at.done_bytes, at.total_bytes),
        interrupt.flag(),
    )?;
    drop(progress);
    torrent_maker::write_new(&output, &made.bytes)?;
    let seconds = started.elapsed().as_secs_f64();
    if plan.args.json {
        return screen::out(&clean_json(&document(&made, &piece_len, &output, seconds)));
    }
    let torrent = &made.torrent;
    say(&format!(
        "{}: {} in {} {}, info hash {}",
        clean(&torrent.name),
        show_bytes(torrent.layout.bytes()),
        torrent.files.len(),
        if torrent.files.len() == 1 {
            "file"
        } else {
            "files"
        },
        torrent.info_hash
    ));
    screen::out(&output.to_string_lossy())
}

fn plan(args: Create, context: &Context) -> Result<Plan, Failure> {
    if args.v2 || args.hybrid {
        let flag = if args.v2 { "--v2" } else { "--hybrid" };
        return Err(Failure::usage(format!(
            "{flag} is not built yet; leave it out for v1"
        )));
    }
    if args.threads == Some(0) {
        return Err(Failure::usage(
            "--threads 0 would never end; write 1 or more",
        ));
    }
    let mut config = context.config.clone();
    config.add_flag("share.piece_length", args.piece_length.clone())?;
    for url in args
        .trackers
        .iter()
        .flat_map(|tier| tier.split(','))
        .chain(web_seeds(&args))
    {
        if !url.contains("://") || url.contains(char::is_whitespace) {
            return Err(Failure::usage(format!(
                "{url:?} is no URL: write http://HOST:PORT/announce"
            )));
        }
    }
    let tier = |tier: &String| tier.split(',').map(str::to_owned).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let details = Details {
        trackers: args.trackers.iter().map(tier).collect(),
        web_seeds: args.web_seeds.clone(),
        private: args.private,
        source: args.source.clone(),
        comment: args.comment.clone(),
        created_by: Some(concat!("dunlin/", env!("CARGO_PKG_VERSION")).to_owned()),
        created: now
            .filter(|_| !args.no_date)
            .map(|since| since.as_secs() as i64),
    };
    Ok(Plan {
        piece_length: config.get("share.piece_length", quantity::piece_length),
        args,
        details,
    })
}

fn web_seeds(args: &Create) -> impl Iterator<Item = &str> {
    args.web_seeds.iter().map(String::as_str)
}

/// `NAME.torrent` here, or in the folder that `-o` names.
fn output(args: &Create, name: &str) -> PathBuf {
    let default = format!("{name}.torrent");
    match &args.output {
        Some(path) if path.is_dir() => path.join(default),
        Some(path) => path.clone(),
        None => PathBuf::from(default),
    }
}

fn document(made: &Made, piece_len: &PieceLen, output: &std::path::Path, seconds: f64) -> String {
    let torrent = &made.torrent;
    let document = json!({
        "info_hash_v1": torrent.info_hash.to_string(),
        "info_hash_v2": torrent.info_hash_v2.map(|hash| hash.to_string()),
        "name": torrent.name,
        "piece_length": piece_len.len,
        "piece_length_reason": piece_len.reason,
        "pieces": torrent.layout.pieces(),
        "bytes": torrent.layout.bytes(),
        "files": torrent.files.len(),
        "seconds": seconds,
        "output": output.to_string_lossy(),
    });
    format!("{document:#}")
}
