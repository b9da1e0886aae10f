//! What goes by the machine behind an address: bans and counts.

use super::*;

#[test]
fn a_ban_covers_the_whole_address() {
    let mut book = book(&["1.1.1.1:1", "1.1.1.1:2", "2.2.2.2:2"]);
    book.list.ban(addr("1.1.1.1:1"));
    assert!(book.list.is_banned(addr("1.1.1.1:999")));
    assert!(book.list.is_banned(addr("[::ffff:1.1.1.1]:1")));
    assert!(!book.add("1.1.1.1:3") && !book.add_by_user("1.1.1.1:3"));
    assert_eq!(book.dial().as_deref(), Some("2.2.2.2:2"));
    assert_eq!(book.next(), None);
    assert_eq!((book.list.ban_count(), book.list.len()), (1, 1));
}

#[test]
fn of_ipv6_a_ban_covers_the_network_of_one_machine() {
    let mut book = book(&[]);
    book.list.ban(addr("[2001:db8:1:2:3:4:5:6]:1"));
    assert!(book.list.is_banned(addr("[2001:db8:1:2:ffff::1]:2")));
    assert!(!book.list.is_banned(addr("[2001:db8:1:3::1]:1")));
}

#[test]
fn on_loopback_a_ban_covers_one_socket() {
    let mut book = book(&["127.0.0.1:1", "127.0.0.1:2"]);
    book.list.ban(addr("127.0.0.1:1"));
    assert!(book.list.is_banned(addr("127.0.0.1:1")));
    assert!(!book.list.is_banned(addr("127.0.0.1:2")));
    assert_eq!(book.dial().as_deref(), Some("127.0.0.1:2"));
}

#[test]
fn who_is_banned_while_connected_is_forgotten_when_it_leaves() {
    let mut book = book(&["1.1.1.1:1"]);
    let peer = book.connect().unwrap();
    book.list.ban(addr(&peer));
    book.list.on_closed(addr(&peer), book.now, true);
    book.now += secs(10_000);
    assert_eq!(book.next(), None);
    assert_eq!(
        (book.list.len(), book.list.connected_from(ip("1.1.1.1"))),
        (0, 0)
    );
}

#[test]
fn bans_are_bounded_and_the_oldest_gives_way() {
    let mut book = book(&[]);
    for n in 0..=BANS_MAX as u32 {
        let v4 = std::net::Ipv4Addr::from_bits(0x0a00_0000 + n);
        let peer = PeerAddr::Tcp(SocketAddr::new(v4.into(), 1));
        book.list.ban(peer);
        book.list.ban(peer);
    }
    assert_eq!(book.list.ban_count(), BANS_MAX);
    assert!(!book.list.is_banned(addr("10.0.0.0:1")));
    assert!(book.list.is_banned(addr("10.0.0.1:1")));
}

#[test]
fn connections_are_counted_by_address_whoever_dialled() {
    let mut book = book(&["1.1.1.1:1", "[2001:db8::1]:1"]);
    while book.connect().is_some() {}
    for text in ["1.1.1.1:50001", "1.1.1.1:50002", "[2001:db8::2]:50001"] {
        book.list.on_incoming(addr(text));
    }
    assert_eq!(book.list.connected_from(ip("1.1.1.1")), 3);
    assert_eq!(book.list.connected_from(ip("2001:db8::3")), 2, "one /64");
    assert_eq!(book.list.connected_from(ip("2.2.2.2")), 0);
    for text in ["1.1.1.1:50001", "1.1.1.1:1", "1.1.1.1:50002"] {
        book.list.on_closed(addr(text), book.now, true);
    }
    assert_eq!(book.list.connected_from(ip("1.1.1.1")), 0);
}

#[test]
fn loopback_is_exempt_from_counts() {
    let mut book = book(&["127.0.0.1:1", "127.0.0.1:2"]);
    book.list.set_address_cap(1);
    assert!(book.connect().is_some() && book.connect().is_some());
    book.list.on_incoming(addr("127.0.0.1:50001"));
    assert_eq!(book.list.connected_from(ip("127.0.0.1")), 0);
}

#[test]
fn no_address_is_dialled_beyond_the_cap() {
    let mut book = book(&["1.1.1.1:1", "1.1.1.1:2", "1.1.1.1:3", "2.2.2.2:1"]);
    book.add_by_user("1.1.1.1:4");
    book.list.set_address_cap(2);
    book.list.on_incoming(addr("1.1.1.1:50001"));
    let mut dialled = [book.dial().unwrap(), book.dial().unwrap()];
    dialled.sort();
    assert_eq!(dialled, ["1.1.1.1:4", "2.2.2.2:1"]);
    assert_eq!(book.next(), None);
    assert!(!book.list.has_untried(), "none that may be dialled");
    book.list.on_closed(addr("1.1.1.1:50001"), book.now, true);
    assert!(book.next().is_some());
}
