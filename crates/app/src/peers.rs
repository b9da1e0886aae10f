//! Peers that the user or a link names: HOST:PORT, where HOST may be a name.
//!
//! Addresses are known at once. Names are looked up on threads of their own, because the system's
//! resolver may take half a minute; the transfers begin meanwhile.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, Sender};

use crate::failure::{Code, Failure, system_words};

/// A host and its port.
pub type Name = (String, u16);

/// Names that are looked up at once.
const THREADS_MAX: usize = 8;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// What became of a name.
pub struct Answer {
    /// Which of the transfers wants it; all if none is named.
    pub work: Option<usize>,
    pub name: Name,
    /// The addresses, or why there are none.
    pub found: Result<Vec<SocketAddr>, String>,
}

/// Lookups that are under way.
pub struct Lookups {
    answers: Receiver<Answer>,
}

impl Lookups {
    /// Looks up what is no address.
    pub fn start(names: &[(Option<usize>, Name)]) -> Result<Self, Failure> {
        let (sender, answers) = mpsc::channel();
        let share = names.len().div_ceil(THREADS_MAX).max(1);
        for names in names.chunks(share) {
            let (names, sender) = (names.to_vec(), sender.clone());
            std::thread::Builder::new()
                .name("names".to_owned())
                .spawn(move || look_up(names, &sender))
                .map_err(|error| Failure::new(Code::Other, format!("no thread: {error}")))?;
        }
        Ok(Self { answers })
    }

    pub fn answers(&self) -> impl Iterator<Item = Answer> + '_ {
        self.answers.try_iter()
    }
}

fn look_up(names: Vec<(Option<usize>, Name)>, sender: &Sender<Answer>) {
    for (work, name) in names {
        let found = addresses(&name).map_err(|error| system_words(&error));
        if sender.send(Answer { work, name, found }).is_err() {
            return;
        }
    }
}

/// Asks the system, which may take long.
pub fn addresses((host, port): &Name) -> std::io::Result<Vec<SocketAddr>> {
    let found = (host.as_str(), *port).to_socket_addrs()?;
    Ok(found.take(ADDRESSES_MAX).collect())
}

/// The address itself, if this is no name.
pub fn literal((host, port): &Name) -> Option<SocketAddr> {
    let ip: IpAddr = host.parse().ok()?;
    Some(SocketAddr::new(ip, *port))
}

pub fn show((host, port): &Name) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// One list serves all peers of a swarm, so that it names us too.
pub fn is_own(peer: &SocketAddr, listen: &SocketAddr) -> bool {
    let same_host = peer.ip() == listen.ip()
        || peer.ip().is_loopback()
            && (listen.ip().is_unspecified() || listen.ip().is_loopback())
            && is_usual_loopback(peer.ip());
    peer.port() == listen.port() && same_host
}

fn is_usual_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip == std::net::Ipv4Addr::LOCALHOST,
        IpAddr::V6(ip) => ip == std::net::Ipv6Addr::LOCALHOST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_for_all_peers_names_us_too() {
        let own =
            |peer: &str, listen: &str| is_own(&peer.parse().unwrap(), &listen.parse().unwrap());
        assert!(own("127.0.0.1:7001", "127.0.0.1:7001"));
        assert!(own("127.0.0.1:7001", "0.0.0.0:7001"));
        assert!(!own("127.0.0.1:7002", "127.0.0.1:7001"));
        assert!(!own("127.0.0.2:7001", "127.0.0.1:7001"));
        assert!(!own("10.0.0.5:7001", "127.0.0.1:7001"));
    }

    #[test]
    fn addresses_are_known_at_once_and_names_later() {
        assert_eq!(
            literal(&("::1".to_owned(), 5)),
            Some("[::1]:5".parse().unwrap())
        );
        assert_eq!(literal(&("localhost".to_owned(), 5)), None);
        let names = vec![
            (None, ("localhost".to_owned(), 5)),
            (Some(3), ("..".to_owned(), 6)),
        ];
        let lookups = Lookups::start(&names).unwrap();
        let mut answers: Vec<Answer> = lookups.answers.iter().take(2).collect();
        answers.sort_by_key(|answer| answer.work);
        let addresses = answers[0].found.as_ref().unwrap();
        assert!(addresses.iter().all(|addr| addr.ip().is_loopback()));
        assert!(answers[1].found.is_err());
    }
}
