//! Magnets: hosts that know an info hash, and get the rest from peers.

use super::*;
use crate::MagnetRequest;

/// A host with one magnet.
fn magnet(share: &Share, setup: Setup) -> Node {
    let (handle, notices) = host(setup.buffer_bytes_max);
    let torrent = handle.add_magnet(MagnetRequest {
        info_hash: share.torrent.info_hash,
        trackers: setup.trackers,
        peers: setup.peers,
        limits: setup.limits,
    });
    Node {
        handle,
        notices,
        torrent,
    }
}

impl Node {
    fn wait_metadata(&self) -> Arc<Torrent> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(notice) = self.notices.recv_timeout(left) else {
                panic!("no metadata; {:#?}", self.handle.snapshot(self.torrent));
            };
            if let Notice::Metadata { torrent, info, .. } = notice {
                assert_eq!(torrent, self.torrent);
                return Arc::new(Torrent::from_info(&info).unwrap());
            }
        }
    }

    /// Downloads what the metadata describes.
    fn go_on(&self, torrent: &Arc<Torrent>, dir: &Path) {
        let request = AddRequest {
            torrent: Arc::clone(torrent),
            prepared: prepared(torrent, dir, DOWNLOAD).unwrap(),
            peers: Vec::new(),
            trackers: Vec::new(),
            priorities: Vec::new(),
            order: PieceOrder::RarestFirst,
            limits: RateLimits::default(),
            seed_when_complete: true,
        };
        self.handle.promote(self.torrent, request);
    }
}

fn from(node: &Node) -> Setup {
    Setup {
        peers: vec![node.addr()],
        ..Setup::default()
    }
}

#[test]
fn a_magnet_becomes_the_file() {
    let (share, dir) = (Share::file(3_000_000), tempfile::tempdir().unwrap());
    let seed = Node::seed(&share, Setup::default());
    let leech = magnet(&share, from(&seed));
    let torrent = leech.wait_metadata();
    assert_eq!(torrent.info, share.torrent.info);
    leech.go_on(&torrent, dir.path());
    let summary = leech.wait(|alert| match alert {
        Alert::Complete { summary, .. } => Some(summary),
        Alert::Connected { .. } => panic!("the peer had to connect again"),
        _ => None,
    });
    assert_eq!(summary.downloaded, 3_000_000);
    share.assert_same(dir.path());
}

#[test]
fn metadata_passes_through_a_magnet_to_those_who_dial_it() {
    let (share, dir) = (Share::file(500_000), tempfile::tempdir().unwrap());
    let (dir_2, seed) = (
        tempfile::tempdir().unwrap(),
        Node::seed(&share, Setup::default()),
    );
    let first = magnet(&share, Setup::default());
    // Two magnets wait for each other, until one of them meets the seed.
    let second = magnet(&share, from(&first));
    second.wait(|alert| matches!(alert, Alert::Connected { .. }).then_some(()));
    let peer = dunlin_engine::PeerAddr::Tcp(seed.addr());
    first.handle.command(dunlin_engine::Command::AddPeers {
        torrent: first.torrent,
        peers: vec![peer],
    });
    let torrent = first.wait_metadata();
    first.go_on(&torrent, dir.path());
    let torrent = second.wait_metadata();
    second.go_on(&torrent, dir_2.path());
    second.wait_complete();
    share.assert_same(dir_2.path());
}

#[test]
fn a_magnet_that_is_removed_ends_its_host_at_once() {
    let share = Share::file(1000);
    let leech = magnet(&share, Setup::default());
    let snapshot = leech.handle.snapshot(leech.torrent).unwrap();
    assert_eq!(
        snapshot.state,
        dunlin_engine::snapshot::TorrentState::FetchingMetadata {
            have: 0,
            size: None
        }
    );
    leech.handle.shutdown();
}

#[test]
fn a_torrent_that_is_here_already_is_not_added_again_and_goes_on() {
    let (share, dir) = (Share::file(500_000), tempfile::tempdir().unwrap());
    let other = tempfile::tempdir().unwrap();
    let seed = Node::seed(&share, Setup::default());
    let leech = magnet(&share, Setup::default());
    let request = AddRequest::new(
        Arc::clone(&share.torrent),
        prepared(&share.torrent, other.path(), DOWNLOAD).unwrap(),
    );
    let link = MagnetRequest {
        info_hash: share.torrent.info_hash,
        trackers: Vec::new(),
        peers: Vec::new(),
        limits: RateLimits::default(),
    };
    for again in [leech.handle.add(request), leech.handle.add_magnet(link)] {
        leech.wait(|alert| match alert {
            Alert::AlreadyAdded { torrent, first } => {
                assert_eq!((torrent, first), (again, leech.torrent));
                Some(())
            }
            _ => None,
        });
        assert!(leech.handle.snapshot(again).is_none());
    }
    leech.handle.command(dunlin_engine::Command::AddPeers {
        torrent: leech.torrent,
        peers: vec![dunlin_engine::PeerAddr::Tcp(seed.addr())],
    });
    let torrent = leech.wait_metadata();
    leech.go_on(&torrent, dir.path());
    leech.wait_complete();
    share.assert_same(dir.path());
}
