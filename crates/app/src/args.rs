//! What can be typed. What it means is worked out by [`Config`] and the commands in `cli/`.
//!
//! Flags that are options too (see `options`) stay text here: one place checks them, whether they
//! come from a flag, the environment or a file.

mod parse;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;
use crate::failure::Failure;

pub use parse::{Refusal, parse};

const SIZES: &str = "Sizes and rates: 500K, 2M, 1.5G are decimal, KiB, MiB, GiB binary (aria2's K \
is 1024). Durations: 30s, 10m, 1h30m.\nExit codes: 0 done, 1 other, 2 usage, 3 not found, \
4 refused, 5 disk, 6 bad input, 7 unfinished, 8 failed verification, 10 conflict, \
130 interrupted twice.";

#[derive(Parser, Debug)]
#[command(
    name = "dunlin",
    version,
    about = "A peer-to-peer file-sharing system that speaks BitTorrent",
    after_help = SIZES,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    infer_long_args = false
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args, Debug)]
pub struct Global {
    /// Read options from this file instead of $XDG_CONFIG_HOME/dunlin/dunlin.toml
    #[arg(long, value_name = "FILE", global = true, help_heading = "General")]
    pub config: Option<PathBuf>,
    /// Only errors
    #[arg(
        short,
        long,
        global = true,
        help_heading = "General",
        conflicts_with = "verbose"
    )]
    pub quiet: bool,
    /// Say more; twice: say everything
    #[arg(short, long, global = true, help_heading = "General", action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to log: a level, or a filter such as dunlin_host=debug
    #[arg(long, value_name = "FILTER", global = true, help_heading = "General")]
    pub log: Option<String>,
    /// text or json
    #[arg(long, value_name = "FORMAT", global = true, help_heading = "General")]
    pub log_format: Option<String>,
    /// Also log to this file
    #[arg(long, value_name = "FILE", global = true, help_heading = "General")]
    pub log_file: Option<String>,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    Get(Get),
    Seed(Seed),
    Share(Share),
    Create(Create),
    Show(Show),
    Verify(Verify),
    Link(Link),
    Peer(Peer),
    Tracker(Tracker),
    Demo(Demo),
    Completions(Completions),
    Man(Man),
    /// The table of all options, as Markdown
    #[command(name = "__options", hide = true)]
    Options,
}

/// Download
#[derive(Args, Debug)]
#[command(after_help = SIZES)]
pub struct Get {
    /// .torrent files, http(s) URLs of them, magnet links, info hashes, or - for stdin
    #[arg(value_name = "SOURCE", required = true)]
    pub sources: Vec<String>,
    /// Download into this folder [default: here]
    #[arg(short, long, visible_short_alias = 'o', value_name = "DIR")]
    pub dir: Option<String>,
    /// Only these files: a glob, a number or a range such as 2-5 (see `dunlin show`)
    #[arg(short, long, value_name = "GLOB|N|N-M")]
    pub select: Vec<String>,
    /// How long to go on uploading: none, forever, ratio=R, time=DUR [default: none]
    #[arg(long, value_name = "GOAL")]
    pub seed: Option<String>,
    /// Give up after this time
    #[arg(long, value_name = "DUR")]
    pub timeout: Option<String>,
    /// Give up after this time without a byte
    #[arg(long, value_name = "DUR")]
    pub stall_timeout: Option<String>,
    /// Replace existing files that hold something else
    #[arg(long)]
    pub overwrite: bool,
    /// Pieces in order: the same as --order sequential
    #[arg(long, conflicts_with = "order")]
    pub sequential: bool,
    #[command(flatten)]
    pub listen: Listen,
    #[command(flatten)]
    pub swarm: Swarm,
}

/// Upload what is here already
#[derive(Args, Debug)]
#[command(after_help = SIZES)]
pub struct Seed {
    /// The .torrent file
    pub torrent: String,
    /// The folder that holds the content, or the content itself [default: here]
    #[arg(value_name = "DIR|CONTENT")]
    pub content: Option<PathBuf>,
    /// Trust the data without reading it first
    #[arg(long)]
    pub skip_check: bool,
    #[command(flatten)]
    pub listen: Listen,
    #[command(flatten)]
    pub swarm: Swarm,
}

/// Share a file or folder: everything the other side needs is one line to type
#[derive(Args, Debug)]
#[command(after_help = SIZES)]
pub struct Share {
    /// The file or folder
    pub path: PathBuf,
    /// End when one receiver has everything
    #[arg(long)]
    pub once: bool,
    /// Where the tracker listens [default: 0.0.0.0:6969, else the next free port]
    #[arg(long, value_name = "ADDR:PORT")]
    pub http: Option<String>,
    /// auto, or a size; K and M are binary here [default: auto]
    #[arg(long, value_name = "SIZE")]
    pub piece_length: Option<String>,
    #[command(flatten)]
    pub listen: Listen,
    #[command(flatten)]
    pub swarm: Swarm,
}

/// Make a .torrent file
#[derive(Args, Debug)]
#[command(after_help = "For --piece-length, K and M are binary: 256K is 262,144 bytes.")]
pub struct Create {
    /// The file or folder to share
    pub path: PathBuf,
    /// Where to write it [default: NAME.torrent, here]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// A BitTorrent v1 torrent: the default
    #[arg(long)]
    pub v1: bool,
    #[arg(long, hide = true)]
    pub hybrid: bool,
    #[arg(long, hide = true)]
    pub v2: bool,
    /// auto, or a size [default: auto]
    #[arg(long, value_name = "SIZE")]
    pub piece_length: Option<String>,
    /// Announce URL; a,b is one tier, a repeated flag a new one
    #[arg(long = "tracker", value_name = "URL")]
    pub trackers: Vec<String>,
    /// URL of a web server that has the content
    #[arg(long = "web-seed", value_name = "URL")]
    pub web_seeds: Vec<String>,
    /// Peers may come from its trackers only
    #[arg(long)]
    pub private: bool,
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// Text that makes this torrent differ from others of the same content
    #[arg(long, value_name = "TEXT")]
    pub source: Option<String>,
    /// Threads that hash [default: one a core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Leave out the date: the same input gives the same bytes
    #[arg(long)]
    pub no_date: bool,
    /// Print the result as one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Tell what a .torrent file holds
#[derive(Args, Debug)]
pub struct Show {
    /// A .torrent file, an http(s) URL of one, a magnet link, or - for stdin
    pub source: String,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub way: Way,
}

/// Check data against a .torrent file
#[derive(Args, Debug)]
pub struct Verify {
    /// The .torrent file, an http(s) URL of one, or - for stdin
    pub torrent: String,
    /// The folder that holds the content, or the content itself [default: here]
    #[arg(value_name = "DIR|CONTENT")]
    pub content: Option<PathBuf>,
    /// Threads that hash [default: one a core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub way: Way,
}

/// Print the magnet link of a torrent
#[derive(Args, Debug)]
pub struct Link {
    /// A .torrent file, an http(s) URL of one, or - for stdin
    pub source: String,
    #[command(flatten)]
    pub way: Way,
}

/// Run one peer of a swarm from a config file that all its peers share
#[derive(Args, Debug)]
#[command(after_help = SIZES)]
pub struct Peer {
    /// The TOML file (see examples/peer/)
    #[arg(value_name = "CONFIG")]
    pub file: PathBuf,
    /// Address or name to listen on
    pub host: String,
    /// Port to listen on
    pub port: u16,
    /// Where relative paths start [default: the folder of CONFIG]
    #[arg(short, long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    #[command(flatten)]
    pub swarm: Swarm,
}

/// Run a tracker
#[derive(Args, Debug)]
pub struct Tracker {
    /// Where to listen for HTTP [default: 0.0.0.0:6969]
    #[arg(long, value_name = "ADDR:PORT")]
    pub http: Option<String>,
    /// Where to listen for UDP, or off [default: 0.0.0.0:6969]
    #[arg(long, value_name = "ADDR:PORT")]
    pub udp: Option<String>,
    /// One event a line on stdout
    #[arg(long)]
    pub json_lines: bool,
}

/// Watch a real swarm on this machine
#[derive(Args, Debug)]
#[command(after_help = SIZES)]
pub struct Demo {
    /// Leeches, besides the one seed
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub peers: u16,
    /// Size of the file
    #[arg(long, value_name = "SIZE", default_value = "128MiB", value_parser = crate::quantity::size)]
    pub size: u64,
    /// Upload limit of every peer, in bytes per second
    #[arg(long, value_name = "RATE", default_value = "10M")]
    pub up: String,
    /// No upload limits
    #[arg(long, conflicts_with = "up")]
    pub unlimited: bool,
    /// Put the files under this folder [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave the files there
    #[arg(long)]
    pub keep: bool,
}

/// Print what a shell needs to complete these commands
#[derive(Args, Debug)]
#[command(after_help = "For example: dunlin completions bash > \
    ~/.local/share/bash-completion/completions/dunlin")]
pub struct Completions {
    pub shell: clap_complete::Shell,
}

/// Write the manual pages
#[derive(Args, Debug)]
#[command(after_help = "For example: dunlin man ~/.local/share/man/man1, then: man dunlin")]
pub struct Man {
    /// The folder for them; made if it does not exist
    pub dir: PathBuf,
}

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Swarm")]
pub struct Listen {
    /// Port on all interfaces [default: 6881, else the next free one]
    #[arg(short, long, value_name = "N")]
    pub port: Option<String>,
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR:PORT", conflicts_with = "port")]
    pub listen: Option<String>,
}

/// Which part of this machine's network is used, by whatever asks somebody for something.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Swarm")]
pub struct Way {
    /// Use this network interface, or this address of one, and no other
    #[arg(long, value_name = "NAME|ADDR")]
    pub interface: Option<String>,
    /// Use IPv4 alone
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Use IPv6 alone
    #[arg(short = '6', long)]
    pub ipv6: bool,
}

/// What `get`, `seed` and `peer` share.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Swarm")]
pub struct Swarm {
    /// Dial this peer
    #[arg(long = "peer", value_name = "HOST:PORT")]
    pub peers: Vec<String>,
    /// Ask this tracker too; a,b is one tier
    #[arg(long = "tracker", value_name = "URL")]
    pub trackers: Vec<String>,
    #[command(flatten)]
    pub way: Way,
    /// Download limit [default: unlimited]
    #[arg(long, value_name = "RATE")]
    pub down: Option<String>,
    /// Upload limit [default: unlimited]
    #[arg(long, value_name = "RATE")]
    pub up: Option<String>,
    /// Connections a torrent [default: 80]
    #[arg(long, value_name = "N")]
    pub max_peers: Option<String>,
    /// rarest-first, random or sequential [default: rarest-first]
    #[arg(long, value_name = "ORDER")]
    pub order: Option<String>,
    /// Peers unchoked for their rate; one optimistic peer comes on top [default: 4]
    #[arg(long, value_name = "N")]
    pub preferred_neighbors: Option<String>,
    /// Time between two choices of preferred neighbours [default: 10s]
    #[arg(long, value_name = "DUR")]
    pub unchoking_interval: Option<String>,
    /// Time between two choices of the optimistic peer [default: 30s]
    #[arg(long, value_name = "DUR")]
    pub optimistic_interval: Option<String>,
    /// Whom a leech prefers: tit-for-tat
    #[arg(long, value_name = "WORD")]
    pub leech_strategy: Option<String>,
    /// Whom a seed prefers: round-robin or fastest-upload [default: round-robin]
    #[arg(long, value_name = "WORD")]
    pub seed_strategy: Option<String>,
    /// Super-seed: off, auto (whoever brings the first copy, until that is out) or on
    #[arg(long, value_name = "WORD")]
    pub super_seed: Option<String>,
    /// One event a line on stdout
    #[arg(long)]
    pub json_lines: bool,
    #[arg(long, value_name = "WORD", hide = true)]
    pub encryption: Option<String>,
    #[arg(long, hide = true)]
    pub no_dht: bool,
    /// Do not exchange addresses of peers with peers
    #[arg(long)]
    pub no_pex: bool,
    #[arg(long, hide = true)]
    pub no_lsd: bool,
    #[arg(long, hide = true)]
    pub no_portmap: bool,
    /// End when stdin does: for a parent that may die.
    #[arg(long, hide = true)]
    pub while_stdin: bool,
}

impl Global {
    pub fn add_to(&self, config: &mut Config) -> Result<(), Failure> {
        config.add_flag("log.level", self.log.clone())?;
        config.add_flag("log.format", self.log_format.clone())?;
        config.add_flag("log.file", self.log_file.clone())
    }
}

impl Get {
    pub fn add_to(&self, config: &mut Config) -> Result<(), Failure> {
        self.listen.add_to(config)?;
        self.swarm.add_to(config)?;
        config.add_flag("download.dir", self.dir.clone())?;
        config.add_flag("share.seed", self.seed.clone())?;
        config.add_flag("download.timeout", self.timeout.clone())?;
        config.add_flag("download.stall_timeout", self.stall_timeout.clone())?;
        if self.sequential {
            config.add_flag("pieces.order", ["sequential".to_owned()])?;
        }
        Ok(())
    }
}

impl Seed {
    pub fn add_to(&self, config: &mut Config) -> Result<(), Failure> {
        self.listen.add_to(config)?;
        self.swarm.add_to(config)
    }
}

impl Share {
    pub fn add_to(&self, config: &mut Config) -> Result<(), Failure> {
        self.listen.add_to(config)?;
        self.swarm.add_to(config)?;
        config.add_flag("tracker.http", self.http.clone())?;
        config.add_flag("share.piece_length", self.piece_length.clone())
    }
}

impl Listen {
    fn add_to(&self, config: &mut Config) -> Result<(), Failure> {
        config.add_flag("swarm.port", self.port.clone())?;
        config.add_flag("swarm.listen", self.listen.clone())
    }
}

impl Way {
    pub fn add_to(&self, config: &mut Config) -> Result<(), Failure> {
        config.add_flag("swarm.interface", self.interface.clone())?;
        let family = [(self.ipv4, "ipv4"), (self.ipv6, "ipv6")];
        let family = family.into_iter().find(|(is_given, _)| *is_given);
        config.add_flag("swarm.family", family.map(|(_, word)| word.to_owned()))
    }
}

impl Swarm {
    pub fn add_to(&self, config: &mut Config) -> Result<(), Failure> {
        config.add_flag("swarm.peers", self.peers.iter().cloned())?;
        config.add_flag("swarm.trackers", self.trackers.iter().cloned())?;
        self.way.add_to(config)?;
        config.add_flag("limits.down", self.down.clone())?;
        config.add_flag("limits.up", self.up.clone())?;
        config.add_flag("limits.max_peers", self.max_peers.clone())?;
        config.add_flag("pieces.order", self.order.clone())?;
        config.add_flag(
            "choking.preferred_neighbors",
            self.preferred_neighbors.clone(),
        )?;
        config.add_flag(
            "choking.unchoking_interval",
            self.unchoking_interval.clone(),
        )?;
        config.add_flag(
            "choking.optimistic_unchoking_interval",
            self.optimistic_interval.clone(),
        )?;
        config.add_flag("choking.leech_strategy", self.leech_strategy.clone())?;
        config.add_flag("choking.seed_strategy", self.seed_strategy.clone())?;
        config.add_flag("choking.super_seed", self.super_seed.clone())?;
        if self.no_pex {
            config.add_flag("swarm.pex", ["false".to_owned()])?;
        }
        config.add_flag("swarm.encryption", self.encryption.clone())
    }
}

#[cfg(test)]
mod tests;
