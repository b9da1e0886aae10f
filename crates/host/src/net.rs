//! Which of our addresses connections come from, and which families are used at all.
//!
//! [`Network`] is what a user chooses, [`Paths`] what follows from it on this machine. A family
//! that is closed is closed for everything: peers, trackers, files from the web. The addresses of
//! an interface are read once, at the start; if it loses them, nothing leaves another way.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;

use dunlin_proto::tracker::udp::Family;
use nix::ifaddrs::getifaddrs;

use crate::tcp::Listen;

/// What of this machine's network is used.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Network {
    pub families: Families,
    pub interface: Option<Interface>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Families {
    #[default]
    Both,
    V4,
    V6,
}

/// Where everything leaves from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Interface {
    /// `eth0`: from its addresses, and through it alone.
    Name(String),
    /// From this address of ours.
    Addr(IpAddr),
}

impl From<&str> for Interface {
    fn from(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Name(text.to_owned()), Self::Addr)
    }
}

/// Why the choice cannot be followed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("{name}: no such network interface; there are: {known}")]
    NoInterface { name: String, known: String },
    #[error("{0}: this network interface has no address that could be used")]
    NoAddress(String),
    #[error("{0}: not an address of this machine")]
    NotOurs(IpAddr),
    #[error("{0}: an address of a family or an interface that is not to be used")]
    Closed(IpAddr),
}

/// The ways out, one a family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Paths {
    v4: Path,
    v6: Path,
    /// Packets leave through this interface alone.
    device: Option<Arc<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Path {
    Closed,
    /// The system chooses an address.
    Any,
    /// Others should see us come from where we listen, if they can be reached from there.
    Prefer(IpAddr),
    From(IpAddr),
}

impl Paths {
    /// Whatever the system chooses.
    pub(crate) const ANY: Self = Self {
        v4: Path::Any,
        v6: Path::Any,
        device: None,
    };

    pub(crate) fn new(network: &Network, listen: Listen) -> Result<Self, NetworkError> {
        let mut paths = match &network.interface {
            None => Self::ANY,
            Some(Interface::Name(name)) => Self::through(name)?,
            Some(Interface::Addr(ip)) => Self::from_addr(*ip)?,
        };
        match network.families {
            Families::Both => {}
            Families::V4 => paths.v6 = Path::Closed,
            Families::V6 => paths.v4 = Path::Closed,
        }
        match &network.interface {
            Some(Interface::Addr(ip)) if !paths.is_open(*ip) => {
                return Err(NetworkError::Closed(*ip));
            }
            Some(Interface::Name(name)) if [paths.v4, paths.v6] == [Path::Closed; 2] => {
                return Err(NetworkError::NoAddress(name.clone()));
            }
            Some(_) | None => {}
        }
        if let Listen::Exact(addr) = listen {
            let ip = addr.ip();
            match paths.path_mut(ip) {
                Path::Closed => return Err(NetworkError::Closed(ip)),
                path @ Path::Any if !ip.is_unspecified() => *path = Path::Prefer(ip),
                Path::Any | Path::Prefer(_) | Path::From(_) => {}
            }
        }
        Ok(paths)
    }

    fn through(name: &str) -> Result<Self, NetworkError> {
        let addrs = addresses();
        let of_name = |ip: &IpAddr| addrs.iter().any(|(of, own)| of == name && own == ip);
        if !addrs.iter().any(|(of, _)| of == name) {
            let mut known: Vec<&str> = addrs.iter().map(|(of, _)| of.as_str()).collect();
            known.sort_unstable();
            known.dedup();
            return Err(NetworkError::NoInterface {
                name: name.to_owned(),
                known: known.join(", "),
            });
        }
        let mut own = addrs.iter().map(|(_, ip)| *ip).filter(|ip| of_name(ip));
        let path = |ip: Option<IpAddr>| ip.map_or(Path::Closed, Path::From);
        Ok(Self {
            v4: path(own.clone().find(IpAddr::is_ipv4)),
            v6: path(own.find(|ip| match ip {
                IpAddr::V4(_) => false,
                // Nobody outside of the link could answer.
                IpAddr::V6(ip) => !ip.is_unicast_link_local(),
            })),
            device: Some(name.into()),
        })
    }

    fn from_addr(ip: IpAddr) -> Result<Self, NetworkError> {
        if ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_err() {
            return Err(NetworkError::NotOurs(ip));
        }
        let mut paths = Self {
            v4: Path::Closed,
            v6: Path::Closed,
            device: None,
        };
        *paths.path_mut(ip) = Path::From(ip);
        Ok(paths)
    }

    /// The address to come from on the way to `to`; `None` lets the system choose.
    pub(crate) fn source(&self, to: IpAddr) -> io::Result<Option<IpAddr>> {
        match self.path(to) {
            Path::Closed => Err(io::Error::new(
                io::ErrorKind::NetworkUnreachable,
                "this family of addresses is not used",
            )),
            Path::Any => Ok(None),
            Path::Prefer(ip) => Ok(Some(ip).filter(|ip| ip.is_loopback() == to.is_loopback())),
            Path::From(ip) => Ok(Some(ip)),
        }
    }

    pub(crate) fn is_open(&self, ip: IpAddr) -> bool {
        self.path(ip) != Path::Closed
    }

    /// Where to listen for whoever may come: one address a family.
    pub(crate) fn listening(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = IpAddr::from([0, 0, 0, 0]);
        let v6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
        [(self.v4, v4), (self.v6, v6)]
            .into_iter()
            .filter_map(|(path, any)| match path {
                Path::Closed => None,
                Path::Any | Path::Prefer(_) => Some(any),
                Path::From(ip) => Some(ip),
            })
    }

    /// Keeps the packets of a socket, which is not connected yet, on the chosen interface.
    pub(crate) fn hold(&self, socket: &impl AsFd) -> io::Result<()> {
        let Some(device) = &self.device else {
            return Ok(());
        };
        hold_on(socket, device)
    }

    /// A UDP socket that hears `to` and nobody else. Fails at once where no way leads.
    pub(crate) fn udp(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let any = match to.ip() {
            IpAddr::V4(_) => IpAddr::from([0, 0, 0, 0]),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind((self.source(to.ip())?.unwrap_or(any), 0))?;
        self.hold(&socket)?;
        socket.connect(to)?;
        Ok(socket)
    }

    fn path(&self, ip: IpAddr) -> Path {
        match Family::of(ip) {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    fn path_mut(&mut self, ip: IpAddr) -> &mut Path {
        match Family::of(ip) {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Addr(ip) => ip.fmt(f),
        }
    }
}

/// The addresses of this machine, with the names of their interfaces.
fn addresses() -> Vec<(String, IpAddr)> {
    let Ok(found) = getifaddrs() else {
        return Vec::new();
    };
    found
        .filter_map(|one| {
            let storage = one.address?;
            let v4 = storage.as_sockaddr_in().map(|addr| addr.ip().into());
            let ip = v4.or_else(|| storage.as_sockaddr_in6().map(|addr| addr.ip().into()))?;
            Some((one.interface_name, ip))
        })
        .collect()
}

/// An address alone does not decide through which interface a packet leaves.
#[cfg(target_os = "linux")]
fn hold_on(socket: &impl AsFd, device: &str) -> io::Result<()> {
    use nix::errno::Errno;
    use nix::sys::socket::{setsockopt, sockopt};
    match setsockopt(socket, sockopt::BindToDevice, &device.into()) {
        // Linux before 5.7 asks for privileges; the address has to do.
        Ok(()) | Err(Errno::EPERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn hold_on(_socket: &impl AsFd, _device: &str) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "127.0.0.1";
    const V6: &str = "2001:db8::1";
    const AUTO: Listen = Listen::Auto(0);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn paths(families: Families, interface: Option<&str>) -> Result<Paths, NetworkError> {
        let interface = interface.map(Interface::from);
        let network = Network {
            families,
            interface,
        };
        Paths::new(&network, AUTO)
    }

    #[test]
    fn a_closed_family_is_closed_for_everything() {
        let paths = paths(Families::V4, None).unwrap();
        assert_eq!(paths.source(ip(V4)).unwrap(), None);
        assert!(paths.source(ip(V6)).is_err());
        assert!(paths.udp(SocketAddr::new(ip("::1"), 9)).is_err());
        assert_eq!(paths.listening().collect::<Vec<_>>(), [ip("0.0.0.0")]);
    }

    #[test]
    fn an_address_is_the_source_of_everything() {
        let paths = paths(Families::Both, Some("127.0.0.2")).unwrap();
        assert_eq!(paths.source(ip("1.1.1.1")).unwrap(), Some(ip("127.0.0.2")));
        assert!(!paths.is_open(ip(V6)));
        assert_eq!(paths.listening().collect::<Vec<_>>(), [ip("127.0.0.2")]);
        let server = UdpSocket::bind((V4, 0)).unwrap();
        let client = paths.udp(server.local_addr().unwrap()).unwrap();
        client.send(b"x").unwrap();
        assert_eq!(server.recv_from(&mut [0]).unwrap().1.ip(), ip("127.0.0.2"));
    }

    #[test]
    fn a_name_stands_for_the_addresses_of_its_interface() {
        let paths = paths(Families::Both, Some("lo")).unwrap();
        assert_eq!(paths.source(ip(V4)).unwrap(), Some(ip(V4)));
        assert_eq!(paths.device.as_deref(), Some("lo"));
        let server = UdpSocket::bind((V4, 0)).unwrap();
        paths.udp(server.local_addr().unwrap()).unwrap();
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let error = paths(Families::Both, Some("nope0"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("nope0: no such network interface; there are: ")
                && error.contains("lo"),
            "{error}"
        );
        assert_eq!(
            paths(Families::Both, Some("192.0.2.1")).unwrap_err(),
            NetworkError::NotOurs(ip("192.0.2.1"))
        );
        assert_eq!(
            paths(Families::V6, Some(V4)).unwrap_err(),
            NetworkError::Closed(ip(V4))
        );
        let listen = Listen::Exact(SocketAddr::new(ip(V4), 0));
        let network = Network {
            families: Families::V6,
            interface: None,
        };
        assert_eq!(
            Paths::new(&network, listen).unwrap_err(),
            NetworkError::Closed(ip(V4))
        );
    }

    #[test]
    fn where_we_listen_is_where_we_come_from_if_that_is_possible() {
        let listen = Listen::Exact("127.0.0.3:0".parse().unwrap());
        let paths = Paths::new(&Network::default(), listen).unwrap();
        assert_eq!(paths.source(ip(V4)).unwrap(), Some(ip("127.0.0.3")));
        assert_eq!(paths.source(ip("1.1.1.1")).unwrap(), None);
        assert_eq!(paths.source(ip("::1")).unwrap(), None);
    }
}
