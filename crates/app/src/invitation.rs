//! How others get what we share: the line for them to type, the link for other clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use dunlin_host::{Families, Interface, Listen, Network};
use dunlin_metainfo::{Magnet, Torrent};
use serde_json::json;

use crate::clean::clean;
use crate::events::Events;
use crate::failure::Failure;
use crate::quantity::{count, show_bytes};
use crate::screen;

/// What is said when the port is known.
#[derive(Debug)]
pub struct Invitation {
    magnet: Magnet,
    ip: IpAddr,
    /// Where our tracker serves the .torrent, if it does.
    url: Option<String>,
    /// What may be wrong with the address.
    note: Option<&'static str>,
    what: String,
}

impl Invitation {
    pub fn new(
        torrent: &Torrent,
        ip: IpAddr,
        url: Option<String>,
        note: Option<&'static str>,
    ) -> Self {
        let files = count(torrent.files.len(), "file");
        let size = show_bytes(torrent.layout.bytes());
        Self {
            magnet: torrent.magnet(),
            ip,
            url,
            note,
            what: format!("{}: {size} in {files}", clean(&torrent.name)),
        }
    }

    /// The lines to copy go to stdout, what they mean to stderr. `port` is where peers reach us.
    pub fn tell(
        mut self,
        port: u16,
        once: bool,
        quiet: bool,
        events: &Events,
    ) -> Result<(), Failure> {
        self.magnet.peers = vec![(self.ip.to_string(), port)];
        let magnet = self.magnet.to_string();
        let command = match &self.url {
            Some(url) => format!("dunlin get {url}"),
            None => format!("dunlin get '{magnet}'"),
        };
        events.emit("sharing", self.magnet.info_hash.as_ref(), || {
            json!({
                "command": command,
                "url": self.url,
                "magnet": magnet,
                "peer": host_of(SocketAddr::new(self.ip, port)),
            })
        })?;
        let say = |line: &str| {
            if !quiet {
                screen::note(line);
            }
        };
        let out = |line: &str| {
            if events.is_on() {
                Ok(())
            } else {
                screen::out(line)
            }
        };
        if let Some(note) = self.note {
            tracing::warn!(target: "dunlin", "{note}");
        }
        say(&format!("sharing {}; on the other machine:", self.what));
        out(&command)?;
        if self.url.is_some() {
            say("any other BitTorrent client opens that URL, or this link:");
            out(&magnet)?;
        } else {
            say("any other BitTorrent client opens that link");
        }
        say(if once {
            "ends when somebody has everything; Ctrl-C ends it before"
        } else {
            "until Ctrl-C"
        });
        Ok(())
    }
}

/// `10.0.0.5:6969`, `[fd00::5]:6969`.
pub fn host_of(addr: SocketAddr) -> String {
    SocketAddr::new(addr.ip().to_canonical(), addr.port()).to_string()
}

/// The address of this machine that others are told, and what may be wrong with it. It is one of
/// the part of the network that is used.
pub fn own_address(listen: Listen, network: &Network) -> (IpAddr, Option<&'static str>) {
    if let Listen::Exact(addr) = listen
        && !addr.ip().is_unspecified()
    {
        return (addr.ip(), None);
    }
    let found = match &network.interface {
        Some(Interface::Addr(ip)) => Some(*ip),
        Some(Interface::Name(name)) => private(Some(name), network.families),
        None => routed()
            .filter(|_| network.families != Families::V6)
            .or_else(|| private(None, network.families)),
    };
    let loopback = match network.families {
        Families::Both | Families::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Families::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    found.map_or((loopback, Some(ALONE)), |ip| (ip, None))
}

const ALONE: &str = "this machine has no network address: only programs on it can get this";

/// Where packets to the world would come from. Nothing is sent: a UDP socket that is connected
/// only looks up the route (192.0.2.1 belongs to nobody, RFC 5737).
fn routed() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// The first address of an interface, of the named one or of any.
fn private(name: Option<&str>, families: Families) -> Option<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().ok()?;
    let is_open = |ip: &IpAddr| match families {
        Families::Both => true,
        Families::V4 => ip.is_ipv4(),
        Families::V6 => ip.is_ipv6(),
    };
    let of_name = interfaces
        .iter()
        .filter(|interface| name.is_none_or(|name| interface.name == name));
    let ips: Vec<IpAddr> = of_name
        .map(if_addrs::Interface::ip)
        .filter(is_open)
        .collect();
    best(&ips)
}

/// IPv4 before IPv6; an IPv6 address of one link alone needs a zone, which a URL has no room for.
fn best(ips: &[IpAddr]) -> Option<IpAddr> {
    let is_usable = |ip: &&IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    };
    let usable = || ips.iter().filter(is_usable);
    let v4 = usable().find(|ip| ip.is_ipv4());
    v4.or_else(|| usable().next()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_to_tell_is_one_that_others_reach() {
        let best = |ips: &[&str]| {
            let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
            best(&ips).map(|ip| ip.to_string())
        };
        let all = [
            "127.0.0.1",
            "::1",
            "fe80::1",
            "fd00::5",
            "169.254.3.4",
            "10.0.0.5",
        ];
        assert_eq!(best(&all).as_deref(), Some("10.0.0.5"));
        assert_eq!(best(&all[..5]).as_deref(), Some("fd00::5"));
        assert_eq!(best(&all[..3]), None);
    }

    #[test]
    fn an_address_that_was_chosen_is_told() {
        let (ip, note) = own_address(
            Listen::Exact("127.0.0.1:0".parse().unwrap()),
            &Network::default(),
        );
        assert_eq!((ip.to_string().as_str(), note), ("127.0.0.1", None));
        let told = |interface: Option<&str>, families| {
            let interface = interface.map(Interface::from);
            let network = Network {
                families,
                interface,
            };
            own_address(Listen::Auto(6881), &network)
        };
        let (ip, note) = told(Some("10.9.8.7"), Families::Both);
        assert_eq!((ip.to_string().as_str(), note), ("10.9.8.7", None));
        for (families, alone) in [(Families::V4, "127.0.0.1"), (Families::V6, "::1")] {
            let (ip, note) = told(Some("lo"), families);
            assert_eq!((ip.to_string().as_str(), note), (alone, Some(ALONE)));
            assert_eq!(told(None, families).0.is_ipv6(), families == Families::V6);
        }
        assert_eq!(
            host_of("[::ffff:10.0.0.5]:1".parse().unwrap()),
            "10.0.0.5:1"
        );
        assert_eq!(host_of("[fd00::5]:1".parse().unwrap()), "[fd00::5]:1");
    }
}
