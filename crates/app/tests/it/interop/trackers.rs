//! Our tracker among others' clients: who finds whom, and by which address.

use std::path::{Path, PathBuf};

use crate::clients::{Network, Opentracker, Place, await_peers};
use crate::fixture::{Running, Sandbox, Words};
use crate::libtorrent::Libtorrent;

use super::create;
use super::trees::{Data, sha256};

const NAME: &str = "found.bin";
const LOOPBACK: &str = "127.0.0.1:0";

/// A file to share, its torrent without any tracker, and a folder for every copy.
struct Share {
    sandbox: Sandbox,
    torrent: PathBuf,
    info_hash: String,
}

impl Share {
    fn new(seed: u64) -> Self {
        let sandbox = Sandbox::new();
        let file = sandbox.dir("source").join(NAME);
        Data::new(seed).file(&file, 3_000_123);
        let torrent = sandbox.path("it.torrent");
        let created = create(&sandbox, &file, &torrent, &[]);
        Self {
            sandbox,
            torrent,
            info_hash: created["info_hash_v1"].as_str().unwrap().to_owned(),
        }
    }

    fn source(&self) -> PathBuf {
        self.sandbox.path("source")
    }

    /// On loopback.
    fn seed(&self, tracker: &str) -> Running {
        let source = self.source();
        let words: Words<'_> = &[
            &self.torrent,
            &source,
            &"--listen",
            &LOOPBACK,
            &"--tracker",
            &tracker,
        ];
        self.sandbox.start("seed", words)
    }

    /// On loopback.
    fn get(&self, target: &Path, tracker: &str) -> Running {
        let words: Words<'_> = &[
            &self.torrent,
            &"-d",
            &target,
            &"--listen",
            &LOOPBACK,
            &"--tracker",
            &tracker,
        ];
        self.sandbox.start("get", words)
    }

    #[track_caller]
    fn assert_same(&self, folder: &Path) {
        assert_eq!(
            sha256(&folder.join(NAME)),
            sha256(&self.source().join(NAME)),
            "{}",
            folder.display()
        );
    }
}

/// Waits until the tracker has answered a libtorrent peer.
#[track_caller]
fn await_reply(peer: &mut Running) {
    peer.wait_until("alert", |event| event["kind"] == "tracker_reply_alert");
}

#[test]
fn two_libtorrent_peers_find_each_other_through_our_tracker() {
    let test = "two libtorrent peers and our tracker";
    let Some(libtorrent) = Libtorrent::find(test) else {
        return;
    };
    let sandbox = Sandbox::new();
    let (mut tracker, http) = sandbox.tracker();
    let udp = format!("udp://{}/announce", tracker.udp_addr());
    // The first through UDP alone, the second through HTTP alone, the third has one of each.
    for (index, (of_seed, of_leech)) in [(&udp, &udp), (&http, &http), (&udp, &http)]
        .into_iter()
        .enumerate()
    {
        // Of peers with one address libtorrent takes one: each pair has a swarm of its own.
        let share = Share::new(31 + index as u64);
        let target = share.sandbox.dir("target");
        let words: Words<'_> = &[&"--tracker", of_seed];
        let mut seed = libtorrent.seed(&share.torrent, &share.source(), words);
        await_reply(&mut seed);
        let words: Words<'_> = &[&"--tracker", of_leech];
        let mut leech = libtorrent.leech(&share.torrent, &target, words);
        leech.wait_for("finished");
        share.assert_same(&target);
        leech.interrupt().expect(0);
        seed.interrupt().expect(0);
    }
    tracker.interrupt().expect(0);
}

#[test]
fn two_of_us_find_each_other_through_opentracker() {
    let test = "opentracker";
    let shares = [Share::new(60), Share::new(61)];
    let hashes = shares.each_ref().map(|share| share.info_hash.as_str());
    let Some(opentracker) = Opentracker::start(test, &shares[0].sandbox, &hashes) else {
        return;
    };
    for (share, url) in shares.iter().zip([&opentracker.http, &opentracker.udp]) {
        let mut seed = share.seed(url);
        await_peers(&Place::loopback(), &opentracker.http, &share.info_hash, 1);
        let target = share.sandbox.dir("target");
        share.get(&target, url).finish().expect(0);
        share.assert_same(&target);
        seed.interrupt().expect(0);
    }
}

#[test]
fn what_opentracker_does_not_know_is_refused_in_its_own_words() {
    let test = "opentracker refuses";
    let share = Share::new(62);
    let Some(opentracker) = Opentracker::start(test, &share.sandbox, &[]) else {
        return;
    };
    let target = share.sandbox.dir("target");
    let mut get = share.get(&target, &opentracker.http);
    let warning = get.wait_until("warning", |event| event["code"] == "no_peers");
    let message = warning["message"].as_str().unwrap();
    assert!(message.contains("not authorized"), "{message}");
}

#[test]
fn whoever_finds_nobody_hears_what_the_tracker_said() {
    let share = Share::new(50);
    let (_tracker, url) = share.sandbox.tracker();
    let mut seed = share.seed(&url);
    await_peers(&Place::loopback(), &url, &share.info_hash, 1);
    // It cannot say goodbye: the tracker goes on naming it.
    seed.kill();
    let target = share.sandbox.dir("target");
    let mut get = share.get(&target, &url);
    let warning = get.wait_until("warning", |event| event["code"] == "no_peers");
    let message = warning["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("tracker {url} knows 1 peer;")),
        "{message}"
    );
}

/// The seed announces to 127.0.0.1, for the tracker runs on its machine. The others know that
/// machine by its address in the network.
#[test]
fn a_seed_beside_the_tracker_is_found_from_the_network() {
    let test = "a seed beside the tracker";
    let Some(network) = Network::new(test, 2) else {
        return;
    };
    let [home, away] = network.hosts();
    let share = Share::new(40);
    let words: Words<'_> = &[&"--http", &"0.0.0.0:0", &"--udp", &"0.0.0.0:0"];
    let mut tracker = share.sandbox.start_at(home, "tracker", words);
    let port = |addr: String| addr.rsplit_once(':').unwrap().1.to_owned();
    let (http, udp) = (port(tracker.addr()), port(tracker.udp_addr()));

    let url = format!("http://127.0.0.1:{http}/announce");
    let source = share.source();
    let words: Words<'_> = &[
        &share.torrent,
        &source,
        &"--listen",
        &"0.0.0.0:0",
        &"--tracker",
        &url,
    ];
    let mut seed = share.sandbox.start_at(home, "seed", words);
    let own = format!("http://{}:{http}/announce", home.ip());
    await_peers(home, &own, &share.info_hash, 1);

    let target = share.sandbox.dir("over http");
    let words: Words<'_> = &[&share.torrent, &"-d", &target, &"--tracker", &own];
    share.sandbox.run_at(away, "get", words).expect(0);
    share.assert_same(&target);

    if let Some(libtorrent) = Libtorrent::find(test) {
        let url = format!("udp://{}:{udp}/announce", home.ip());
        leech_of(&libtorrent, away, &share, &url);
    }
    seed.interrupt();
    tracker.interrupt().expect(0);
}

fn leech_of(libtorrent: &Libtorrent, place: &Place, share: &Share, url: &str) {
    let target = share.sandbox.dir("over udp");
    let listen = format!("{}:0", place.ip());
    let words: Words<'_> = &[&"--tracker", &url, &"--listen", &listen];
    let mut leech = libtorrent.peer_at(place, "leech", share.torrent.as_os_str(), &target, words);
    leech.wait_for("finished");
    share.assert_same(&target);
    leech.interrupt().expect(0);
}
