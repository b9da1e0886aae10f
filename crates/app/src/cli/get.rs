//! `dunlin get`: downloads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dunlin_host::storage::PrepareMode;

use crate::args::Get;
use crate::events::Events;
use crate::failure::{Code, Failure};
use crate::quantity;
use crate::settings::{self, Settings};
use crate::source::{self, Found};
use crate::transfer::{self, Item, Plan};
use crate::{Context, options, screen, select};

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
        own: None,
        goal: config.get("share.seed", options::seed_goal),
        once: false,
        invitation: None,
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
    let (items, failed) = items(args, &dir, &plan);
    if items.is_empty() {
        return transfer::first_of(failed);
    }
    transfer::run(plan, items, failed)
}

/// Every source is tried; what is wrong with one does not stop the others.
fn items(args: &Get, dir: &Path, plan: &Plan) -> (Vec<Item>, Vec<Failure>) {
    let mut items: Vec<Item> = Vec::new();
    let mut failed = Vec::new();
    for source in &args.sources {
        let item = item(args, source, dir, plan).and_then(|item| {
            let is_known = |other: &Item| other.info_hash == item.info_hash;
            if items.iter().any(is_known) {
                let line = format!("{source}: the same torrent is named twice");
                return Err(Failure::new(Code::Conflict, line));
            }
            Ok(item)
        });
        match item {
            Ok(item) => items.push(item),
            Err(failure) => {
                if args.sources.len() > 1 {
                    plan.events.error(None, &failure);
                    screen::note(&format!("error: {failure}"));
                }
                failed.push(failure);
            }
        }
    }
    (items, failed)
}

fn item(args: &Get, source: &str, dir: &Path, plan: &Plan) -> Result<Item, Failure> {
    let dir = dir.to_owned();
    let mode = PrepareMode::Download {
        overwrite: args.overwrite,
    };
    match source::find(source, plan.timeout, &plan.settings.network)? {
        Found::Torrent(torrent) => {
            let wanted = select::chosen(&torrent, &args.select)?;
            Ok(Item::selected(Arc::new(*torrent), wanted, dir, mode))
        }
        Found::V2Only(_) => Err(source::v2_only(source)),
        Found::Link(magnet) => {
            let selectors = args.select.clone();
            let item = Item::link(magnet, selectors, dir, mode)?;
            item.check_reachable(&plan.settings)?;
            Ok(item)
        }
    }
}
