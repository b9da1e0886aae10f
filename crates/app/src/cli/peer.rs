//! `dunlin peer`: one peer of a swarm, run by a config file that all peers of the swarm share.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dunlin_host::storage::PrepareMode;
use dunlin_host::{Listen, Network};
use dunlin_metainfo::create::Details;
use dunlin_metainfo::{Magnet, Torrent};

use crate::args::Peer;
use crate::clean::clean;
use crate::config::Config;
use crate::events::Events;
use crate::failure::{Code, Failure, system_words};
use crate::options::SeedGoal;
use crate::progress::Progress;
use crate::quantity;
use crate::settings::Settings;
use crate::signals::Interrupt;
use crate::torrent_maker::folder_of;
use crate::transfer::{self, Item, Plan};
use crate::tree::Tree;
use crate::{Context, content, data, options, peers, screen, source, torrent_maker};

/// How long a peer without data waits for another one to make the .torrent file.
const TORRENT_WAIT: Duration = Duration::from_secs(60);

/// Time between two looks for it.
const TORRENT_LOOK_INTERVAL: Duration = Duration::from_millis(100);

pub fn run(args: &Peer, context: Context) -> Result<(), Failure> {
    let events = Events::new(args.swarm.json_lines);
    events.end(peer(args, context, &events))
}

fn peer(args: &Peer, mut context: Context, events: &Events) -> Result<(), Failure> {
    if context.global.config.is_some() {
        return Err(Failure::usage(
            "peer takes its config as an argument; leave out --config",
        ));
    }
    context.config.add_file(&args.file)?;
    context.config.add_environment(crate::environment())?;
    args.swarm.add_to(&mut context.config)?;
    let home = folder_of(&args.file).to_owned();
    let dir = args.dir.clone().unwrap_or_else(|| home.clone());
    if !dir.is_dir() {
        let line = format!("{}: no such folder; make it first", dir.display());
        return Err(Failure::new(Code::NotFound, line));
    }
    context.start_logs(Some("peer_{port}.log"), &dir, args.port)?;
    let listen = listen(&args.host, args.port)?;
    let settings = Settings::new(&context.config)?;
    let job = Job::new(&context.config, &args.file, &dir, &home)?;
    let item = job.item(events, context.global.quiet)?;
    item.check_reachable(&settings)?;
    let plan = Plan {
        settings,
        listen: Listen::Exact(listen),
        own: Some(listen),
        goal: context
            .config
            .get_given("share.seed", options::seed_goal)
            .unwrap_or(SeedGoal::Forever),
        once: false,
        invitation: None,
        timeout: None,
        stall_timeout: None,
        loud: true,
        quiet: context.global.quiet,
        while_stdin: args.swarm.while_stdin,
        events: events.clone(),
    };
    transfer::run(plan, vec![item], Vec::new())
}

fn listen(host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = bare.unwrap_or(host).to_owned();
    let addresses = peers::addresses(&(host.clone(), port)).map_err(|error| {
        let words = system_words(&error);
        let line = format!("{host}: no such host ({words}); check the name");
        Failure::new(Code::NotFound, line)
    })?;
    let first = addresses.first().copied();
    first.ok_or_else(|| Failure::new(Code::NotFound, format!("{host}: has no address")))
}

/// What this peer shares, with all paths worked out.
struct Job {
    /// The data, if the config names it.
    file: Option<PathBuf>,
    /// Where the .torrent is looked for, the first one being where it is made.
    torrents: Vec<PathBuf>,
    magnet: Option<Magnet>,
    piece_length: Option<u64>,
    trackers: Vec<Vec<String>>,
    dir: PathBuf,
}

impl Job {
    fn new(config: &Config, shown: &Path, dir: &Path, home: &Path) -> Result<Self, Failure> {
        let file = config.given("share.file").map(|file| dir.join(file));
        let magnet = config.given("share.magnet").map(source::link).transpose()?;
        let torrent = match (config.given("share.torrent"), config.given("share.file")) {
            (Some(torrent), _) => Some(torrent.to_owned()),
            (None, Some(file)) => Some(format!("{}.torrent", file.trim_end_matches('/'))),
            (None, None) if magnet.is_some() => None,
            (None, None) => {
                return Err(Failure::new(
                    Code::NotFound,
                    format!(
                        "{}: nothing to share: set share.file, share.torrent or share.magnet",
                        shown.display()
                    ),
                ));
            }
        };
        // A peer in a folder of its own finds what the peer beside the config made.
        let mut torrents: Vec<PathBuf> = torrent
            .iter()
            .flat_map(|torrent| [dir.join(torrent), home.join(torrent)])
            .collect();
        torrents.dedup();
        let tier = |tier: &String| tier.split(',').map(str::to_owned).collect();
        Ok(Self {
            file,
            torrents,
            magnet,
            piece_length: config
                .get_given("share.piece_length", quantity::piece_length)
                .flatten(),
            trackers: config.list("swarm.trackers").iter().map(tier).collect(),
            dir: dir.to_owned(),
        })
    }

    fn item(&self, events: &Events, quiet: bool) -> Result<Item, Failure> {
        let present = self.file.as_deref().filter(|file| file.exists());
        let item = if let Some(path) = self.found() {
            let torrent = self.load(&path)?;
            self.existing(torrent, present.is_some(), quiet)
        } else if let Some(file) = present {
            self.make(file, events, quiet)
        } else if let Some(magnet) = &self.magnet {
            return self.linked(magnet);
        } else {
            let torrent = self.wait()?;
            self.existing(torrent, false, quiet)
        }?;
        let linked = self.magnet.as_ref().and_then(|magnet| magnet.info_hash);
        match linked {
            Some(hash) if hash != item.info_hash => Err(Failure::new(
                Code::BadInput,
                format!(
                    "{}: its info hash is {}, share.magnet names {hash}; leave out one of them",
                    item.name(),
                    item.info_hash
                ),
            )),
            Some(_) | None => Ok(item),
        }
    }

    /// Everything that is not here is the swarm's to tell, even what the torrent is.
    fn linked(&self, magnet: &Magnet) -> Result<Item, Failure> {
        let dir = self.file.as_deref().map_or(&*self.dir, folder_of);
        std::fs::create_dir_all(dir).map_err(|error| Failure::io(dir, &error))?;
        let mode = PrepareMode::Download { overwrite: false };
        Item::link(Box::new(magnet.clone()), Vec::new(), dir.to_owned(), mode)
    }

    fn found(&self) -> Option<PathBuf> {
        self.torrents.iter().find(|path| path.exists()).cloned()
    }

    fn load(&self, path: &Path) -> Result<Torrent, Failure> {
        let shown = path.to_string_lossy();
        let torrent = source::load(&shown, &Network::default())?;
        let actual = u64::from(torrent.layout.piece_length());
        match self.piece_length {
            Some(asked) if asked != actual => Err(Failure::new(
                Code::BadInput,
                format!(
                    "{shown}: its piece length is {actual}, share.piece_length asks for {asked}; \
                     leave the key out or remove the .torrent file"
                ),
            )),
            Some(_) | None => Ok(torrent),
        }
    }

    /// A torrent that exists: whatever is missing of it is downloaded.
    fn existing(&self, torrent: Torrent, present: bool, quiet: bool) -> Result<Item, Failure> {
        let dir = match &self.file {
            Some(file) => {
                let name = content::root(&torrent);
                if file.file_name() != Some(name.as_ref()) {
                    return Err(Failure::new(
                        Code::BadInput,
                        format!(
                            "{}: the .torrent file is about {:?}; share.file must end in that name",
                            file.display(),
                            clean(name)
                        ),
                    ));
                }
                folder_of(file).to_owned()
            }
            None => self.dir.clone(),
        };
        std::fs::create_dir_all(&dir).map_err(|error| Failure::io(&dir, &error))?;
        let torrent = Arc::new(torrent);
        let is_whole = present && is_whole(&torrent, &dir, quiet)?;
        let mode = if is_whole {
            PrepareMode::Seed { check: false }
        } else {
            PrepareMode::Download { overwrite: false }
        };
        Ok(Item::whole(torrent, dir, mode))
    }

    fn make(&self, file: &Path, events: &Events, quiet: bool) -> Result<Item, Failure> {
        let interrupt = Interrupt::install()?;
        let output = &self.torrents[0];
        let tree = Tree::read(file)?;
        let piece_len = torrent_maker::piece_len(&tree, self.piece_length)?;
        tracing::info!(target: "dunlin", "making {}: piece length {}", output.display(), piece_len.reason);
        let mut progress = Progress::new(quiet);
        let details = Details {
            trackers: self.trackers.clone(),
            ..Details::default()
        };
        let made = torrent_maker::make(
            &tree,
            &piece_len,
            &details,
            None,
            &mut |at| progress.bytes("hashing", at.done_bytes, at.total_bytes),
            interrupt.flag(),
        )?;
        drop(progress);
        if let Err(failure) = torrent_maker::write_new(output, &made.bytes) {
            if failure.code != Code::Conflict {
                return Err(failure);
            }
            // Another peer made it at the same time.
            let torrent = self.load(output)?;
            return self.existing(torrent, true, quiet);
        }
        if !events.is_on() {
            screen::out(&output.to_string_lossy())?;
        }
        let dir = folder_of(file).to_owned();
        let mode = PrepareMode::Seed { check: false };
        Ok(Item::whole(Arc::new(made.torrent), dir, mode))
    }

    /// Without data and without a torrent there is only hope that another peer makes it.
    fn wait(&self) -> Result<Torrent, Failure> {
        let interrupt = Interrupt::install()?;
        let places: Vec<String> = self
            .torrents
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let places = places.join(" or ");
        tracing::info!(target: "dunlin", "waiting for {places}, which the peer with the data makes");
        let started = Instant::now();
        while started.elapsed() < TORRENT_WAIT {
            if let Some(path) = self.found() {
                return self.load(&path);
            }
            if interrupt.is_set() {
                return Err(Failure::new(
                    Code::Unfinished,
                    format!("interrupted: no {places}"),
                ));
            }
            std::thread::sleep(TORRENT_LOOK_INTERVAL);
        }
        Err(Failure::new(
            Code::NotFound,
            format!(
                "{places}: did not appear; start a peer that has share.file, or set share.torrent"
            ),
        ))
    }
}

/// Whether the data is all there, right, and under its final names.
fn is_whole(torrent: &Torrent, dir: &Path, quiet: bool) -> Result<bool, Failure> {
    let interrupt = Interrupt::install()?;
    let mut progress = Progress::new(quiet);
    let report = dunlin_host::storage::verify(
        torrent,
        dir,
        data::cores(),
        &mut |at| progress.bytes("checking", at.done_bytes, at.total_bytes),
        interrupt.flag(),
    )
    .map_err(|error| data::storage_failure(torrent, &error))?;
    // What still has its unfinished name is for the download to name.
    let is_named = |path: &Path| dir.join(path).is_file();
    Ok(report.bad_pieces == 0 && report.files.iter().all(|file| is_named(&file.path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_be_a_name_or_an_address_of_either_kind() {
        assert_eq!(
            listen("127.0.0.1", 0).unwrap(),
            "127.0.0.1:0".parse().unwrap()
        );
        assert_eq!(listen("::1", 7001).unwrap(), "[::1]:7001".parse().unwrap());
        assert_eq!(listen("localhost", 7001).unwrap().port(), 7001);
    }
}
