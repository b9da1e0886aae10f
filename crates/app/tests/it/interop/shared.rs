//! `dunlin share` on one machine, and what others make of the lines that it prints.

use std::path::{Path, PathBuf};

use crate::clients::{Kind, Limits, Network, Place, Source, complete};
use crate::fixture::{Running, Sandbox};

use super::trees::{Data, sha256};

const NAME: &str = "shared.bin";
const BYTES: u64 = 5_000_123;

/// A file that is shared from a host.
#[derive(Debug)]
struct Shared {
    _share: Running,
    sandbox: Sandbox,
    file: PathBuf,
    /// `dunlin get URL`
    command: String,
    magnet: String,
}

impl Shared {
    fn new(place: &Place) -> Self {
        let sandbox = Sandbox::new();
        let file = sandbox.dir("source").join(NAME);
        Data::new(31).file(&file, BYTES);
        let mut share = sandbox.start_at(place, "share", &[&file]);
        let told = share.wait_for("sharing");
        let text = |field: &str| told[field].as_str().unwrap().to_owned();
        Self {
            command: text("command"),
            magnet: text("magnet"),
            _share: share,
            sandbox,
            file,
        }
    }

    fn url(&self) -> &str {
        self.command.strip_prefix("dunlin get ").unwrap()
    }

    fn assert_same(&self, target: &Path) {
        assert_eq!(sha256(&self.file), sha256(&target.join(NAME)));
    }

    fn goes_to(&self, test: &str, kind: Kind, place: &Place, source: &Source<'_>) {
        let Some(mut client) = kind.start(test, &self.sandbox, place) else {
            return;
        };
        let target = self.sandbox.fresh_dir("target");
        let transfer = client.add(source, &target, Limits::NONE);
        complete(&mut *client, transfer);
        self.assert_same(&target);
    }
}

#[test]
fn the_line_that_share_prints_works_on_another_machine() {
    let Some(net) = Network::new("share and get on two machines", 2) else {
        return;
    };
    let [alice, bob] = net.hosts();
    let shared = Shared::new(alice);
    assert!(shared.url().contains(&alice.ip().to_string()), "{shared:?}");
    for link in [shared.url(), &shared.magnet] {
        let target = shared.sandbox.fresh_dir("target");
        let done = shared.sandbox.run_at(bob, "get", &[&link, &"-d", &target]);
        done.expect(0);
        shared.assert_same(&target);
    }
}

#[test]
fn libtorrent_on_another_machine_opens_what_share_prints() {
    const TEST: &str = "share to libtorrent";
    let Some(net) = Network::new(TEST, 2) else {
        return;
    };
    let [alice, bob] = net.hosts();
    let shared = Shared::new(alice);
    shared.goes_to(TEST, Kind::Libtorrent, bob, &Source::Magnet(&shared.magnet));
}

#[test]
fn transmission_on_another_machine_opens_what_share_prints() {
    const TEST: &str = "share to Transmission";
    let Some(net) = Network::new(TEST, 2) else {
        return;
    };
    let [alice, bob] = net.hosts();
    let shared = Shared::new(alice);
    shared.goes_to(TEST, Kind::Transmission, bob, &Source::Url(shared.url()));
}
