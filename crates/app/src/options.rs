//! The table of all options: one row an option, with its name in a file, its flag and its default.
//!
//! The environment name follows from the key (`limits.down` is `DUNLIN_LIMITS__DOWN`). What a file,
//! the environment or a flag says is checked by the same row, and `docs/options.md` is printed from
//! these rows, so that the four cannot disagree.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::quantity;

/// One option.
#[derive(Debug)]
pub struct Spec {
    /// `section.name` as in a config file.
    pub key: &'static str,
    /// The flag, or empty where only a file makes sense.
    pub flag: &'static str,
    pub default: &'static str,
    pub help: &'static str,
    /// Takes several values: an array in a file, words in the environment, a repeated flag.
    pub list: bool,
    pub check: fn(&str) -> Result<(), String>,
}

impl Spec {
    pub fn env(&self) -> String {
        format!(
            "DUNLIN_{}",
            self.key.to_ascii_uppercase().replace('.', "__")
        )
    }
}

pub fn find(key: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.key == key)
}

const fn one(
    key: &'static str,
    flag: &'static str,
    default: &'static str,
    check: fn(&str) -> Result<(), String>,
    help: &'static str,
) -> Spec {
    Spec {
        key,
        flag,
        default,
        help,
        list: false,
        check,
    }
}

const fn many(
    key: &'static str,
    flag: &'static str,
    check: fn(&str) -> Result<(), String>,
    help: &'static str,
) -> Spec {
    Spec {
        key,
        flag,
        default: "",
        help,
        list: true,
        check,
    }
}

pub const OPTIONS: &[Spec] = &[
    one(
        "share.file",
        "",
        "",
        text,
        "what a `peer` shares, or downloads if it is absent",
    ),
    one(
        "share.torrent",
        "",
        "",
        text,
        "its .torrent file; made as `FILE.torrent` if not named",
    ),
    one(
        "share.magnet",
        "",
        "",
        |t| {
            dunlin_metainfo::Magnet::parse(t)
                .map(drop)
                .map_err(|error| error.to_string())
        },
        "a magnet link, for peers that have neither `file` nor `torrent`",
    ),
    one(
        "share.piece_length",
        "--piece-length",
        "auto",
        |t| quantity::piece_length(t).map(drop),
        "piece length of a torrent that is made; K and M are binary here",
    ),
    one(
        "share.seed",
        "--seed",
        "none",
        |t| seed_goal(t).map(drop),
        "how long to go on uploading: none, forever, ratio=R, time=DUR (default of `peer`: forever)",
    ),
    one("download.dir", "--dir", ".", text, "folder for downloads"),
    one(
        "download.timeout",
        "--timeout",
        "",
        |t| quantity::interval(t).map(drop),
        "give up after this time",
    ),
    one(
        "download.stall_timeout",
        "--stall-timeout",
        "",
        |t| quantity::interval(t).map(drop),
        "give up after this time without a byte",
    ),
    one(
        "choking.preferred_neighbors",
        "--preferred-neighbors",
        "4",
        |t| count(t).map(drop),
        "peers that are unchoked for their rate; one optimistic peer comes on top",
    ),
    one(
        "choking.unchoking_interval",
        "--unchoking-interval",
        "10s",
        |t| quantity::interval(t).map(drop),
        "time between two choices of preferred neighbours",
    ),
    one(
        "choking.optimistic_unchoking_interval",
        "--optimistic-interval",
        "30s",
        |t| quantity::interval(t).map(drop),
        "time between two choices of the optimistic peer",
    ),
    one(
        "choking.leech_strategy",
        "--leech-strategy",
        "tit-for-tat",
        |t| word(t, &["tit-for-tat"]),
        "whom a leech prefers: tit-for-tat",
    ),
    one(
        "choking.seed_strategy",
        "--seed-strategy",
        "round-robin",
        |t| word(t, &["round-robin", "fastest-upload"]),
        "whom a seed prefers: round-robin or fastest-upload",
    ),
    one(
        "choking.super_seed",
        "--super-seed",
        "off",
        |t| word(t, &["off", "auto", "on"]),
        "each piece to one peer first (BEP 16): off, auto (whoever brings the first copy, until that is out) or on (every seed, until then)",
    ),
    one(
        "pieces.order",
        "--order",
        "rarest-first",
        |t| word(t, &["rarest-first", "random", "sequential"]),
        "which pieces first: rarest-first, random or sequential",
    ),
    one(
        "swarm.port",
        "--port",
        "6881",
        |t| port(t).map(drop),
        "port on all interfaces; if not given and taken, the next free one",
    ),
    one(
        "swarm.listen",
        "--listen",
        "",
        |t| address(t).map(drop),
        "address and port to listen on",
    ),
    one(
        "swarm.interface",
        "--interface",
        "",
        text,
        "use this network interface (a name or one of its addresses) and no other",
    ),
    one(
        "swarm.family",
        "--ipv4",
        "both",
        |t| word(t, &["both", "ipv4", "ipv6"]),
        "addresses to use: both, ipv4 (`--ipv4`) or ipv6 (`--ipv6`)",
    ),
    many(
        "swarm.trackers",
        "--tracker",
        tracker_tier,
        "announce URLs besides the torrent's own; a,b is one tier",
    ),
    many(
        "swarm.peers",
        "--peer",
        |t| host_port(t).map(drop),
        "peers to dial, HOST:PORT",
    ),
    one(
        "swarm.dht",
        "--no-dht",
        "false",
        |t| off(t, "DHT"),
        "not built yet: false",
    ),
    one(
        "swarm.pex",
        "--no-pex",
        "true",
        |t| switch(t).map(drop),
        "connected peers tell each other of more (never of private torrents)",
    ),
    one(
        "swarm.lsd",
        "--no-lsd",
        "false",
        |t| off(t, "local discovery"),
        "not built yet: false",
    ),
    one(
        "swarm.portmap",
        "--no-portmap",
        "false",
        |t| off(t, "port mapping"),
        "not built yet: false",
    ),
    one(
        "swarm.encryption",
        "--encryption",
        "off",
        |t| off(t, "encryption"),
        "not built yet: off",
    ),
    one(
        "limits.down",
        "--down",
        "unlimited",
        |t| quantity::rate(t).map(drop),
        "bytes per second that we ask for, over all torrents",
    ),
    one(
        "limits.up",
        "--up",
        "unlimited",
        |t| quantity::rate(t).map(drop),
        "bytes per second that we send, over all torrents",
    ),
    one(
        "limits.max_peers",
        "--max-peers",
        "80",
        |t| count(t).map(drop),
        "connections a torrent",
    ),
    one(
        "log.level",
        "--log",
        "info",
        text,
        "what to log: error, warn, info, debug, trace, or a filter such as dunlin_host=debug",
    ),
    one(
        "log.format",
        "--log-format",
        "text",
        |t| word(t, &["text", "json"]),
        "text or json",
    ),
    one(
        "log.file",
        "--log-file",
        "",
        text,
        "also log to this file (`peer`: peer_{port}.log; {port} is the port)",
    ),
    one(
        "tracker.http",
        "--http",
        "0.0.0.0:6969",
        |t| address(t).map(drop),
        "address and port of the HTTP tracker",
    ),
    one(
        "tracker.udp",
        "--udp",
        "0.0.0.0:6969",
        |t| address_or_off(t).map(drop),
        "address and port of the UDP tracker, or off",
    ),
];

fn text(text: &str) -> Result<(), String> {
    if text.is_empty() {
        Err("is empty".to_owned())
    } else {
        Ok(())
    }
}

fn word(text: &str, words: &[&str]) -> Result<(), String> {
    if words.contains(&text) {
        return Ok(());
    }
    Err(format!("{text:?} is not one of: {}", words.join(", ")))
}

/// Something that is not built can be switched off, and nothing else.
fn off(text: &str, what: &str) -> Result<(), String> {
    match text {
        "false" | "off" => Ok(()),
        _ => Err(format!("{what} is not built yet; leave it off")),
    }
}

pub fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "on" => Ok(true),
        "false" | "off" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=100_000).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is no number between 1 and 100000")),
    }
}

pub fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no port: write a number up to 65535"))
}

pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no address: write 0.0.0.0:6881 or [::]:6881"))
}

pub fn address_or_off(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "false" | "off" => Ok(None),
        _ => address(text).map(Some),
    }
}

/// The host part is resolved later: it may be a name.
pub fn host_port(text: &str) -> Result<(&str, u16), String> {
    let wrong = || format!("{text:?} is no peer: write HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    match port.parse() {
        Ok(port) if port > 0 && !host.is_empty() && (bare.is_some() || !host.contains(':')) => {
            Ok((host, port))
        }
        _ => Err(wrong()),
    }
}

fn tracker_tier(text: &str) -> Result<(), String> {
    for url in text.split(',') {
        dunlin_host::check_tracker(url).map_err(|why| {
            format!("{url:?} is no tracker: {why}; write http://HOST:PORT/announce")
        })?;
    }
    Ok(())
}

/// When a finished download stops uploading.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SeedGoal {
    /// When nothing else is being downloaded.
    None,
    Forever,
    /// Bytes uploaded over bytes of the torrent.
    Ratio(f64),
    Time(std::time::Duration),
}

pub fn seed_goal(text: &str) -> Result<SeedGoal, String> {
    let wrong = || format!("{text:?} is not one of: none, forever, ratio=1.5, time=1h");
    match text.split_once('=') {
        None if text == "none" => Ok(SeedGoal::None),
        None if text == "forever" => Ok(SeedGoal::Forever),
        Some(("ratio", ratio)) => match ratio.parse::<f64>() {
            Ok(ratio) if ratio.is_finite() && ratio > 0.0 => Ok(SeedGoal::Ratio(ratio)),
            _ => Err(wrong()),
        },
        Some(("time", time)) => quantity::interval(time).map(SeedGoal::Time),
        _ => Err(wrong()),
    }
}

/// `docs/options.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Options\n\n\
         Printed from `crates/app/src/options.rs` by `dunlin __options`; do not edit.\n\n\
         Flag beats environment, environment beats file, file beats default. The file is the one of\n\
         `--config FILE`, else `$XDG_CONFIG_HOME/dunlin/dunlin.toml`; `dunlin peer CONFIG` reads\n\
         CONFIG alone. Sizes and rates: K, M, G are decimal, KiB, MiB, GiB binary. Durations: 30s,\n\
         10m, 1h30m. A list is an array in a file, words separated by spaces in the environment,\n\
         and a flag that is repeated.\n\n\
         | file | environment | flag | default | meaning |\n|---|---|---|---|---|\n",
    );
    for spec in OPTIONS {
        let tick = |text: &str| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                format!("`{text}`")
            }
        };
        let _ = writeln!(
            page,
            "| `{}` | `{}` | {} | {} | {} |",
            spec.key,
            spec.env(),
            tick(spec.flag),
            tick(spec.default),
            spec.help
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_passes_its_own_check() {
        for spec in OPTIONS {
            if !spec.default.is_empty() {
                assert_eq!((spec.check)(spec.default), Ok(()), "{}", spec.key);
            }
        }
    }

    #[test]
    fn a_key_is_listed_once_and_has_two_parts() {
        for spec in OPTIONS {
            assert_eq!(
                OPTIONS.iter().filter(|other| other.key == spec.key).count(),
                1
            );
            assert_eq!(spec.key.split('.').count(), 2, "{}", spec.key);
        }
    }

    #[test]
    fn what_is_not_built_can_only_be_switched_off() {
        for key in [
            "swarm.dht",
            "swarm.lsd",
            "swarm.portmap",
            "swarm.encryption",
        ] {
            let spec = find(key).unwrap();
            assert_eq!((spec.check)("off"), Ok(()));
            for on in ["true", "on", "prefer", "require"] {
                assert!(
                    (spec.check)(on).unwrap_err().contains("not built yet"),
                    "{key} {on}"
                );
            }
        }
    }

    #[test]
    fn peers_are_hosts_with_ports() {
        assert_eq!(host_port("localhost:80"), Ok(("localhost", 80)));
        assert_eq!(host_port("[::1]:80"), Ok(("::1", 80)));
        for text in ["localhost", ":80", "a:0", "a:70000", "::1:80", "[]:80"] {
            assert!(host_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seed_goals_are_read() {
        assert_eq!(seed_goal("none"), Ok(SeedGoal::None));
        assert_eq!(seed_goal("ratio=1.5"), Ok(SeedGoal::Ratio(1.5)));
        assert_eq!(
            seed_goal("time=1h"),
            Ok(SeedGoal::Time(std::time::Duration::from_secs(3600)))
        );
        for text in [
            "",
            "some",
            "ratio",
            "ratio=",
            "ratio=-1",
            "ratio=inf",
            "time=5",
        ] {
            assert!(seed_goal(text).is_err(), "{text}");
        }
    }
}
