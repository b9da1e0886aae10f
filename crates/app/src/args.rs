//! What can be typed. What it means is worked out by [`Config`] and the commands in `cli/`.
//!
//! Flags that are options too (see `options`) stay text here: one place checks them, whether they
//! come from a flag, the environment or a file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;
use crate::failure::Failure;

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
    Create(Create),
    Show(Show),
    Verify(Verify),
    Peer(Peer),
    Tracker(Tracker),
    Demo(Demo),
    /// The table of all options, as Markdown
    #[command(name = "__options", hide = true)]
    Options,
}

/// Download
#[derive(Args, Debug)]
#[command(after_help = SIZES)]
pub struct Get {
    /// .torrent files, or - for one on stdin
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
    /// A .torrent file, or - for stdin
    pub source: String,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Check data against a .torrent file
#[derive(Args, Debug)]
pub struct Verify {
    /// The .torrent file, or - for stdin
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
    /// Where to listen [default: 0.0.0.0:6969]
    #[arg(long, value_name = "ADDR:PORT")]
    pub http: Option<String>,
    #[arg(long, value_name = "ADDR:PORT", hide = true)]
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
    /// One event a line on stdout
    #[arg(long)]
    pub json_lines: bool,
    #[arg(long, value_name = "WORD", hide = true)]
    pub encryption: Option<String>,
    #[arg(long, hide = true)]
    pub no_dht: bool,
    #[arg(long, hide = true)]
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

impl Listen {
    fn add_to(&self, config: &mut Config) -> Result<(), Failure> {
        config.add_flag("swarm.port", self.port.clone())?;
        config.add_flag("swarm.listen", self.listen.clone())
    }
}

impl Swarm {
    pub fn add_to(&self, config: &mut Config) -> Result<(), Failure> {
        config.add_flag("swarm.peers", self.peers.iter().cloned())?;
        config.add_flag("swarm.trackers", self.trackers.iter().cloned())?;
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
        config.add_flag("swarm.encryption", self.encryption.clone())
    }
}

/// A usage error in one line, or the text of `--help` and `--version`.
pub fn parse(words: Vec<std::ffi::OsString>) -> Result<Cli, Refusal> {
    if let Some(failure) = words.get(1).and_then(|word| hint(&word.to_string_lossy())) {
        return Err(Refusal::Wrong(failure));
    }
    Cli::try_parse_from(words).map_err(|error| {
        use clap::error::ErrorKind;
        let texts = [
            ErrorKind::DisplayHelp,
            ErrorKind::DisplayVersion,
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ];
        if texts.contains(&error.kind()) {
            Refusal::Text(Box::new(error))
        } else {
            Refusal::Wrong(Failure::usage(one_line(&error)))
        }
    })
}

#[derive(Debug)]
pub enum Refusal {
    Text(Box<clap::Error>),
    Wrong(Failure),
}

/// Clap's error without its headings and without the usage.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\nUsage:").next().unwrap_or_default();
    let text = text
        .split("\nFor more information")
        .next()
        .unwrap_or_default();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let line = lines.join("; ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    format!(
        "{}; see --help",
        line.replace(":;", ":").replace("; tip:", "; try:")
    )
}

/// For a first word that is no command but looks like something to download, or names a command
/// that will exist.
fn hint(word: &str) -> Option<Failure> {
    const NOT_BUILT: [&str; 4] = ["share", "link", "completions", "man"];
    if NOT_BUILT.contains(&word) {
        return Some(Failure::usage(match word {
            "share" => {
                "`dunlin share` is not built yet; until then: dunlin create FILE, \
                 then dunlin seed FILE.torrent"
            }
            "link" => "`dunlin link` is not built yet; `dunlin show` tells the magnet link",
            _ => "not built yet; see --help",
        }));
    }
    let looks_like_source = word.ends_with(".torrent")
        || ["magnet:", "http://", "https://"]
            .iter()
            .any(|start| word.starts_with(start))
        || crate::source::is_info_hash(word);
    looks_like_source.then(|| {
        Failure::usage(format!(
            "{word:?} is no command; to download it: dunlin get {word}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::OPTIONS;
    use clap::CommandFactory;

    fn parse_line(line: &str) -> Result<Cli, Refusal> {
        parse(line.split(' ').map(Into::into).collect())
    }

    fn failure(line: &str) -> String {
        match parse_line(line) {
            Err(Refusal::Wrong(failure)) => failure.message,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_the_option_table_exists() {
        let command = Cli::command();
        let known: Vec<String> = command
            .get_subcommands()
            .chain([&command])
            .flat_map(clap::Command::get_arguments)
            .filter_map(|argument| argument.get_long().map(|long| format!("--{long}")))
            .collect();
        for spec in OPTIONS.iter().filter(|spec| !spec.flag.is_empty()) {
            assert!(known.iter().any(|flag| flag == spec.flag), "{}", spec.flag);
        }
    }

    #[test]
    fn what_is_not_built_is_absent_from_the_help() {
        let mut command = Cli::command();
        command.build();
        let mut texts = vec![command.render_long_help().to_string()];
        texts.extend(
            command
                .get_subcommands_mut()
                .filter(|sub| !sub.is_hide_set())
                .map(|sub| sub.render_long_help().to_string()),
        );
        for text in texts {
            for word in [
                "dht",
                "pex",
                "lsd",
                "encryption",
                "share PATH",
                "completions",
                "hybrid",
            ] {
                assert!(!text.to_lowercase().contains(word), "{word} in {text}");
            }
        }
    }

    #[test]
    fn something_to_download_hints_at_get() {
        assert!(failure("dunlin thing.torrent").ends_with("dunlin get thing.torrent"));
        assert!(failure("dunlin magnet:?xt=urn:btih:0").contains("dunlin get magnet:"));
        assert!(failure("dunlin share x").contains("not built yet"));
    }

    #[test]
    fn a_usage_error_is_one_line() {
        for line in [
            "dunlin gte x",
            "dunlin get",
            "dunlin get x --dwon 1M",
            "dunlin -q -v get x",
        ] {
            let text = failure(line);
            assert!(!text.contains('\n') && !text.contains("Usage"), "{text}");
        }
        assert!(failure("dunlin sed x").contains("'seed'"));
    }

    #[test]
    fn flags_become_options() {
        let Ok(cli) = parse_line("dunlin get a.torrent --up 1M --peer a:1 --peer b:2 --sequential")
        else {
            panic!()
        };
        let Command::Get(get) = cli.command else {
            panic!()
        };
        let mut config = Config::default();
        get.add_to(&mut config).unwrap();
        assert_eq!(config.text("limits.up"), "1M");
        assert_eq!(config.list("swarm.peers"), ["a:1", "b:2"]);
        assert_eq!(config.text("pieces.order"), "sequential");
    }
}
