//! `dunlin share`: makes a torrent of a path and brings along everything that others need to get
//! it: a tracker, which hands out the .torrent too, and a seed.
//!
//! Nothing is written: the .torrent lives in memory, and the same path gives the same torrent the
//! next time, so that a download that was interrupted continues.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dunlin_host::storage::PrepareMode;
use dunlin_host::{Families, Listen};
use dunlin_metainfo::create::Details;
use dunlin_tracker::{Config, Limits, Server};

use crate::args::Share;
use crate::clean::clean;
use crate::events::Events;
use crate::failure::{Code, Failure};
use crate::invitation::{Invitation, host_of, own_address};
use crate::options::SeedGoal;
use crate::progress::Progress;
use crate::settings::{self, Settings};
use crate::signals::Interrupt;
use crate::torrent_maker::{self, Made};
use crate::transfer::{self, Item, Plan};
use crate::tree::Tree;
use crate::{Context, cli, options, quantity, screen};

/// Ports that are tried if the tracker's usual one is taken.
const PORTS_TRIED: u16 = 100;

/// The seed hears of newcomers so often, and dials them: Transmission 3.00 first tries uTP, and
/// does not notice that nobody answers.
const INTERVAL: Duration = Duration::from_secs(20);

pub fn run(args: &Share, context: Context) -> Result<(), Failure> {
    let events = Events::new(args.swarm.json_lines);
    events.end(share(args, context, &events))
}

fn share(args: &Share, mut context: Context, events: &Events) -> Result<(), Failure> {
    args.add_to(&mut context.config)?;
    context.start_logs_here(context.config.get("swarm.port", options::port))?;
    let quiet = context.global.quiet;
    let settings = Settings::new(&context.config)?;
    let listen = settings::listen(&context.config);
    let tree = Tree::read(&args.path)?;
    for path in &tree.left_out {
        let path = clean(&path.to_string_lossy());
        screen::note(&format!(
            "warning: {path}: left out: a link to no file, or no file at all"
        ));
    }
    let dir = folder_of(&args.path)?;
    // Hashing takes minutes: what can be taken is asked before.
    check_free(listen)?;
    let tracker = match settings.trackers.is_empty() {
        true => Some(start_tracker(&context.config)?),
        false => None,
    };
    let (ip, note) = own_address(listen, &settings.network);
    let ip = match &tracker {
        Some(tracker) if !tracker.http_addr().ip().is_unspecified() => tracker.http_addr().ip(),
        Some(_) | None => ip,
    };
    let trackers = match &tracker {
        Some(tracker) => announce_urls(tracker, ip),
        None => settings.trackers.clone(),
    };
    let asked = context
        .config
        .get("share.piece_length", quantity::piece_length);
    let made = make(&tree, asked, trackers, quiet)?;
    let name = made.torrent.name.clone();
    let url = tracker.as_ref().map(|tracker| {
        let path = tracker.serve_file(&format!("{name}.torrent"), made.bytes);
        let host = host_of(SocketAddr::new(ip, tracker.http_addr().port()));
        format!("http://{host}{path}")
    });
    let torrent = Arc::new(made.torrent);
    let plan = Plan {
        // The torrent has them.
        settings: Settings {
            trackers: Vec::new(),
            ..settings
        },
        listen,
        own: None,
        goal: SeedGoal::Forever,
        once: args.once,
        invitation: Some(Invitation::new(&torrent, ip, url, note)),
        timeout: None,
        stall_timeout: None,
        loud: false,
        quiet,
        while_stdin: args.swarm.while_stdin,
        events: events.clone(),
    };
    let mode = PrepareMode::Seed { check: false };
    transfer::run(plan, vec![Item::whole(torrent, dir, mode)], Vec::new())
}

/// The folder that the shared file or folder is in.
fn folder_of(path: &std::path::Path) -> Result<PathBuf, Failure> {
    if path.file_name().is_some() {
        return Ok(torrent_maker::folder_of(path).to_owned());
    }
    // `.`, `..` and their like stand for a folder with a name.
    let full = path.canonicalize();
    let full = full.map_err(|error| Failure::io(path, &error))?;
    Ok(torrent_maker::folder_of(&full).to_owned())
}

/// A port that the user names must be free.
fn check_free(listen: Listen) -> Result<(), Failure> {
    let addr = match listen {
        Listen::Exact(addr) => addr,
        Listen::Port(port) => SocketAddr::from(([0, 0, 0, 0], port)),
        Listen::Auto(_) => return Ok(()),
    };
    match TcpListener::bind(addr) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Failure::new(
            Code::Conflict,
            format!("{addr}: another program listens there; choose another port"),
        )),
        // The host has its own words for the rest.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// HTTP and UDP on the same port: the one that was named, or the first free one.
fn start_tracker(config: &crate::config::Config) -> Result<Server, Failure> {
    let mut wish: SocketAddr = config.get("tracker.http", options::address);
    let is_v6 = settings::network(config).families == Families::V6;
    if is_v6 && config.given("tracker.http").is_none() {
        wish.set_ip(Ipv6Addr::UNSPECIFIED.into());
    }
    let at = |addr| {
        cli::tracker::start(Config {
            http: addr,
            udp: Some(addr),
            limits: Limits {
                interval: INTERVAL,
                min_interval: INTERVAL,
                ..Limits::default()
            },
            ..Config::default()
        })
    };
    let last = match config.given("tracker.http") {
        Some(_) => wish.port(),
        None => wish.port().saturating_add(PORTS_TRIED),
    };
    for port in wish.port()..last {
        match at(SocketAddr::new(wish.ip(), port)) {
            Ok(server) => {
                if port != wish.port() {
                    let taken = wish.port();
                    tracing::info!(target: "dunlin", "port {taken} is taken: the tracker is on {port}");
                }
                return Ok(server);
            }
            Err(failure) if failure.code == Code::Conflict => {}
            Err(failure) => return Err(failure),
        }
    }
    at(SocketAddr::new(wish.ip(), last))
}

/// Tiers: whoever cannot speak one protocol speaks the other.
fn announce_urls(tracker: &Server, ip: IpAddr) -> Vec<Vec<String>> {
    let url = |scheme: &str, addr: SocketAddr| {
        let host = host_of(SocketAddr::new(ip, addr.port()));
        vec![format!("{scheme}://{host}/announce")]
    };
    let mut urls = vec![url("http", tracker.http_addr())];
    urls.extend(tracker.udp_addr().map(|addr| url("udp", addr)));
    urls
}

fn make(
    tree: &Tree,
    piece_length: Option<u64>,
    trackers: Vec<Vec<String>>,
    quiet: bool,
) -> Result<Made, Failure> {
    let interrupt = Interrupt::install()?;
    let piece_len = torrent_maker::piece_len(tree, piece_length)?;
    let mut progress = Progress::new(quiet);
    let details = Details {
        trackers,
        created_by: Some(concat!("dunlin/", env!("CARGO_PKG_VERSION")).to_owned()),
        ..Details::default()
    };
    torrent_maker::make(
        tree,
        &piece_len,
        &details,
        None,
        &mut |at| progress.bytes("hashing", at.done_bytes, at.total_bytes),
        interrupt.flag(),
    )
}
