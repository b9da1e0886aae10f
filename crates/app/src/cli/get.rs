//! `dunlin get`: downloads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dunlin_host::storage::PrepareMode;
use dunlin_metainfo::Torrent;

use crate::args::Get;
use crate::clean::clean;
use crate::events::Events;
use crate::failure::{Code, Failure};
use crate::quantity;
use crate::settings::{self, Settings};
use crate::transfer::{self, Item, Plan};
use crate::{Context, options, screen, select, source};

/// Files that are listed when a selection matches none.
const FILES_LISTED: usize = 100;

pub fn run(args: &Get, context: Context) -> Result<(), Failure> {
    let events = Events::new(args.swarm.json_lines);
    events.end(get(args, context, &events))
}

fn get(args: &Get, mut context: Context, events: &Events) -> Result<(), Failure> {
    args.add_to(&mut context.config)?;
    context.start_logs_here(context.config.get("swarm.port", options::port))?;
    let config = &context.config;
    let plan = Plan {
        settings: Settings::new(config)?,
        listen: settings::listen(config),
        goal: config.get("share.seed", options::seed_goal),
        timeout: config.get_given("download.timeout", quantity::interval),
        stall_timeout: config.get_given("download.stall_timeout", quantity::interval),
        loud: false,
        quiet: context.global.quiet,
        while_stdin: args.swarm.while_stdin,
        events: events.clone(),
    };
    let dir = PathBuf::from(config.text("download.dir"));
    if dir.exists() && !dir.is_dir() {
        let line = format!("{}: is not a folder; choose another --dir", dir.display());
        return Err(Failure::new(Code::Conflict, line));
    }
    if args.sources.iter().filter(|source| *source == "-").count() > 1 {
        return Err(Failure::usage(
            "- names stdin, which holds one torrent; write it once",
        ));
    }
    let (items, failed) = items(args, &dir, events);
    if items.is_empty() {
        return transfer::first_of(failed);
    }
    transfer::run(plan, items, failed)
}

/// Every source is tried; what is wrong with one does not stop the others.
fn items(args: &Get, dir: &Path, events: &Events) -> (Vec<Item>, Vec<Failure>) {
    let mut items: Vec<Item> = Vec::new();
    let mut failed = Vec::new();
    for source in &args.sources {
        let item = source::load(source).and_then(|torrent| {
            if items
                .iter()
                .any(|item| item.torrent.info_hash == torrent.info_hash)
            {
                let line = format!("{source}: the same torrent is named twice");
                return Err(Failure::new(Code::Conflict, line));
            }
            let mode = PrepareMode::Download {
                overwrite: args.overwrite,
            };
            let wanted = wanted(&torrent, &args.select)?;
            Ok(Item {
                torrent: Arc::new(torrent),
                dir: dir.to_owned(),
                mode,
                wanted,
            })
        });
        match item {
            Ok(item) => items.push(item),
            Err(failure) => {
                if args.sources.len() > 1 {
                    events.error(None, &failure);
                    screen::note(&format!("error: {failure}"));
                }
                failed.push(failure);
            }
        }
    }
    (items, failed)
}

fn wanted(torrent: &Torrent, selectors: &[String]) -> Result<Vec<bool>, Failure> {
    select::wanted(torrent, selectors).map_err(|message| {
        screen::note(&format!("files of {}:", clean(&torrent.name)));
        for (number, file) in (1..).zip(&torrent.files).take(FILES_LISTED) {
            let size = quantity::show_bytes(file.len);
            screen::note(&format!(
                "{number:>6}  {size:>9}  {}",
                clean(file.path.as_str())
            ));
        }
        if let Some(more) = torrent
            .files
            .len()
            .checked_sub(FILES_LISTED)
            .filter(|&n| n > 0)
        {
            screen::note(&format!("        and {more} more; `dunlin show` lists all"));
        }
        Failure::usage(message)
    })
}
