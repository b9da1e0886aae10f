//! Options of a swarm, in the types of the engine.

use dunlin_engine::config::{LeechStrategy, PieceOrder, RateLimits, SeedStrategy, SuperSeeding};
use dunlin_host::{Families, Interface, Listen, Network};

use crate::config::Config;
use crate::failure::Failure;
use crate::quantity::{self, RATE_SUSPICIOUS, show_rate};
use crate::{options, peers};

/// What `get`, `seed` and `peer` share, understood.
#[derive(Clone, Debug)]
pub struct Settings {
    pub engine: dunlin_engine::Config,
    pub network: Network,
    pub order: PieceOrder,
    pub peers: Vec<peers::Name>,
    /// Besides the torrent's own.
    pub trackers: Vec<Vec<String>>,
}

impl Settings {
    pub fn new(config: &Config) -> Result<Self, Failure> {
        let rate = |key| config.get(key, quantity::rate);
        let limits = RateLimits {
            down: rate("limits.down"),
            up: rate("limits.up"),
        };
        for (key, rate) in [("limits.down", limits.down), ("limits.up", limits.up)] {
            if let Some(rate) = rate.filter(|&rate| rate < RATE_SUSPICIOUS) {
                let rate = show_rate(rate);
                tracing::warn!("{key} is {rate}: rates are bytes per second, write 500K or 2M");
            }
        }
        let engine = dunlin_engine::Config {
            preferred_neighbors: config.get("choking.preferred_neighbors", options::count),
            unchoking_interval: config.get("choking.unchoking_interval", quantity::interval),
            optimistic_interval: config
                .get("choking.optimistic_unchoking_interval", quantity::interval),
            leech_strategy: LeechStrategy::TitForTat,
            seed_strategy: match config.text("choking.seed_strategy") {
                "fastest-upload" => SeedStrategy::FastestUpload,
                _ => SeedStrategy::RoundRobin,
            },
            super_seeding: match config.text("choking.super_seed") {
                "auto" => SuperSeeding::Auto,
                "on" => SuperSeeding::On,
                _ => SuperSeeding::Off,
            },
            max_peers: config.get("limits.max_peers", options::count),
            pex: config.get("swarm.pex", options::switch),
            limits,
            ..dunlin_engine::Config::default()
        };
        let peers = config.list("swarm.peers").iter();
        let peers = peers.filter_map(|peer| options::host_port(peer).ok());
        let tier = |tier: &String| tier.split(',').map(str::to_owned).collect();
        Ok(Self {
            engine,
            network: network(config),
            order: match config.text("pieces.order") {
                "random" => PieceOrder::Random,
                "sequential" => PieceOrder::Sequential,
                _ => PieceOrder::RarestFirst,
            },
            peers: peers.map(|(host, port)| (host.to_owned(), port)).collect(),
            trackers: config.list("swarm.trackers").iter().map(tier).collect(),
        })
    }
}

/// Where to listen. Of `--port` and `--listen` the weightier one counts, `--listen` if both are
/// equal.
pub fn listen(config: &Config) -> Listen {
    let listen = config.get_given("swarm.listen", options::address);
    let port = config.get_given("swarm.port", options::port);
    match (listen, port) {
        (Some(_), Some(port)) if config.outweighs("swarm.port", "swarm.listen") => {
            Listen::Port(port)
        }
        (Some(addr), _) => Listen::Exact(addr),
        (None, Some(port)) => Listen::Port(port),
        (None, None) => Listen::Auto(config.get("swarm.port", options::port)),
    }
}

/// What of this machine's network is used.
pub fn network(config: &Config) -> Network {
    let interface = config.text("swarm.interface");
    Network {
        families: match config.text("swarm.family") {
            "ipv4" => Families::V4,
            "ipv6" => Families::V6,
            _ => Families::Both,
        },
        interface: (!interface.is_empty()).then(|| Interface::from(interface)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_port_is_exact_and_the_default_is_not() {
        let mut config = Config::default();
        assert_eq!(listen(&config), Listen::Auto(6881));
        config.add_flag("swarm.port", ["7000".to_owned()]).unwrap();
        assert_eq!(listen(&config), Listen::Port(7000));
        config
            .add_flag("swarm.listen", ["127.0.0.1:0".to_owned()])
            .unwrap();
        assert_eq!(
            listen(&config),
            Listen::Exact("127.0.0.1:0".parse().unwrap())
        );
    }

    #[test]
    fn options_reach_the_engine() {
        let mut config = Config::default();
        for (key, value) in [
            ("limits.up", "2M"),
            ("choking.preferred_neighbors", "7"),
            ("choking.unchoking_interval", "2s"),
            ("choking.optimistic_unchoking_interval", "6s"),
            ("choking.seed_strategy", "fastest-upload"),
            ("choking.super_seed", "auto"),
            ("limits.max_peers", "9"),
            ("swarm.pex", "off"),
            ("pieces.order", "sequential"),
            ("swarm.interface", "eth0"),
            ("swarm.family", "ipv6"),
            ("swarm.peers", "127.0.0.1:9"),
            ("swarm.trackers", "http://a/announce,http://b/announce"),
        ] {
            config.add_flag(key, [value.to_owned()]).unwrap();
        }
        let Settings {
            engine,
            network,
            order,
            peers,
            trackers,
        } = Settings::new(&config).unwrap();
        assert_eq!(
            engine.limits,
            RateLimits {
                down: None,
                up: Some(2_000_000)
            }
        );
        assert_eq!(network.families, Families::V6);
        assert_eq!(network.interface, Some(Interface::Name("eth0".to_owned())));
        assert_eq!(engine.preferred_neighbors, 7);
        assert_eq!(engine.unchoking_interval.as_secs(), 2);
        assert_eq!(engine.optimistic_interval.as_secs(), 6);
        assert_eq!(engine.seed_strategy, SeedStrategy::FastestUpload);
        assert_eq!(engine.super_seeding, SuperSeeding::Auto);
        assert_eq!(engine.max_peers, 9);
        assert!(!engine.pex);
        assert_eq!(order, PieceOrder::Sequential);
        assert_eq!(peers, [("127.0.0.1".to_owned(), 9)]);
        assert_eq!(trackers, [["http://a/announce", "http://b/announce"]]);
    }

    #[test]
    fn defaults_are_those_of_the_engine() {
        let ours = Settings::new(&Config::default()).unwrap().engine;
        let engine = dunlin_engine::Config::default();
        assert_eq!(format!("{ours:?}"), format!("{engine:?}"));
    }
}
