//! `dunlin seed`: uploads what is here already.

use std::sync::Arc;

use dunlin_host::storage::PrepareMode;

use crate::args::Seed;
use crate::events::Events;
use crate::failure::Failure;
use crate::options::SeedGoal;
use crate::settings::{self, Settings};
use crate::transfer::{self, Item, Plan};
use crate::{Context, content, options, source};

pub fn run(args: &Seed, context: Context) -> Result<(), Failure> {
    let events = Events::new(args.swarm.json_lines);
    events.end(seed(args, context, &events))
}

fn seed(args: &Seed, mut context: Context, events: &Events) -> Result<(), Failure> {
    args.add_to(&mut context.config)?;
    context.start_logs_here(context.config.get("swarm.port", options::port))?;
    let settings = Settings::new(&context.config)?;
    let torrent = source::load(&args.torrent, &settings.network)?;
    let dir = content::folder_of(&torrent, args.content.as_deref())?;
    let plan = Plan {
        settings,
        listen: settings::listen(&context.config),
        own: None,
        goal: SeedGoal::Forever,
        once: false,
        invitation: None,
        timeout: None,
        stall_timeout: None,
        loud: false,
        quiet: context.global.quiet,
        while_stdin: args.swarm.while_stdin,
        events: events.clone(),
    };
    let mode = PrepareMode::Seed {
        check: !args.skip_check,
    };
    let item = Item::whole(Arc::new(torrent), dir, mode);
    transfer::run(plan, vec![item], Vec::new())
}
