//! Who is told which addresses.

use super::*;

/// The rule of threats: an address is told only where it means the same machine.
#[test]
fn private_and_loopback_addresses_are_not_told_outside_their_network() {
    let everybody = [
        "127.0.0.1:1",
        "[::1]:2",
        "[::ffff:127.0.0.1]:3",
        "169.254.0.1:4",
        "[fe80::1]:5",
        "10.0.0.1:6",
        "100.64.0.1:7",
        "[fd00::1]:8",
        "8.8.8.8:9",
        "[2001:db8::1]:10",
    ];
    let global = ["8.8.8.8:9", "[2001:db8::1]:10"];
    let private = ["10.0.0.1:6", "100.64.0.1:7", "[fd00::1]:8"];
    let link = ["169.254.0.1:4", "[fe80::1]:5"];
    let machine = ["127.0.0.1:1", "127.0.0.1:3", "[::1]:2"];
    for (asker, expected) in [
        ("9.9.9.9:99", vec![&global[..]]),
        ("[2001:db8::9]:99", vec![&global]),
        ("192.168.0.9:99", vec![&global, &private]),
        ("[fd00:9::9]:99", vec![&global, &private]),
        ("[fe80::9]:99", vec![&global, &private, &link]),
        ("127.0.0.9:99", vec![&global, &private, &link, &machine]),
    ] {
        let mut tracker = Tracker::new(limits());
        for addr in everybody {
            tracker.told(addr, &leech());
        }
        let mut expected = expected.concat();
        expected.sort_unstable();
        assert_eq!(tracker.told(asker, &leech()), expected, "{asker}");
    }
}

#[test]
fn peers_of_one_machine_find_each_other_whichever_way_they_announce() {
    for first in ["127.0.0.1:1", "10.0.0.5:2"] {
        let mut tracker = Tracker::new(limits());
        let both = [("127.0.0.1", "127.0.0.1:1"), ("10.0.0.5", "10.0.0.5:2")];
        let (mut asks, mut others) = (both, both);
        if first == "10.0.0.5:2" {
            asks.reverse();
        } else {
            others.reverse();
        }
        assert!(tracker.told_at(asks[0].0, asks[0].1).is_empty());
        let second = tracker.told_at(asks[1].0, asks[1].1);
        assert_eq!(second, [asks[0].1]);
        assert_eq!(tracker.told_at(asks[0].0, asks[0].1), [others[0].1]);
    }
}

#[test]
fn a_peer_on_the_trackers_machine_is_told_at_the_trackers_address() {
    let mut tracker = Tracker::new(limits());
    tracker.told_at("127.0.0.1", "127.0.0.1:1");
    tracker.told_at("::1", "[::1]:2");
    // In the network, and from the world where the tracker has a global address.
    assert_eq!(tracker.told_at("10.0.0.5", "10.0.0.7:3"), ["10.0.0.5:1"]);
    assert_eq!(
        tracker.told_at("2001:db8::5", "[2001:db8::7]:4"),
        ["[2001:db8::5]:2"]
    );
    // Behind a router that passes the port on, the private address means nothing outside.
    assert_eq!(
        tracker.told_at("10.0.0.5", "8.8.8.8:5"),
        ["[2001:db8::7]:4"]
    );
    // Known by both addresses, told once.
    tracker.told_at("10.0.0.5", "10.0.0.5:1");
    assert_eq!(
        tracker.told_at("10.0.0.5", "10.0.0.8:6"),
        ["10.0.0.5:1", "10.0.0.7:3", "8.8.8.8:5", "[2001:db8::7]:4"]
    );
}

#[test]
fn a_family_that_the_answer_cannot_carry_takes_no_place() {
    let mut tracker = Tracker::new(limits());
    for host in 1..=60 {
        tracker.told(&format!("8.0.0.{host}:1"), &leech());
        tracker.told(&format!("[2001:db8:{host}::1]:1"), &leech());
    }
    for (family, asker) in [(Family::V4, "9.9.9.9:9"), (Family::V6, "[2001:db9::]:9")] {
        tracker.only = Some(family);
        let told = tracker.ask(asker, &leech()).unwrap().peers;
        assert_eq!(told.len(), 50);
        assert!(told.iter().all(|(_, addr)| Family::of(addr.ip()) == family));
    }
}
