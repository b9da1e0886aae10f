//! A download with the engine as a library: `cargo run --example get -- TORRENT|MAGNET`.

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, atomic::AtomicBool};

use dunlin_engine::{Alert, Config};
use dunlin_host::storage::{PrepareOptions, prepare};
use dunlin_host::{AddRequest, HostConfig, Listen, MagnetRequest, Notice};
use dunlin_metainfo::{Magnet, Torrent};

fn main() -> Result<(), Box<dyn Error>> {
    let source = std::env::args().nth(1).ok_or("which torrent?")?;
    get(&source, Path::new("."), Listen::Auto(6881))
}

pub fn get(source: &str, dir: &Path, listen: Listen) -> Result<(), Box<dyn Error>> {
    // One loop thread owns the session and the sockets; two more hash, read and write.
    let (host, notices) = dunlin_host::start(HostConfig {
        engine: Config::default(),
        listen,
        disk_workers: 2,
        network: dunlin_host::Network::default(),
    })?;
    // Of a magnet link only a hash is known: the metadata comes from peers, who stay connected.
    let (torrent, key) = if source.starts_with("magnet:") {
        let request = MagnetRequest::new(&Magnet::parse(source)?).ok_or("a v2 torrent")?;
        let key = host.add_magnet(request);
        let info = notices.iter().find_map(|notice| match notice {
            Notice::Metadata { info, .. } => Some(info),
            Notice::Alert { .. } => None,
        });
        let torrent = Torrent::from_info(&info.ok_or("the host ended")?)?;
        (torrent, Some(key))
    } else {
        (Torrent::parse(&std::fs::read(source)?)?, None)
    };
    // Whatever is there already is found and verified.
    let never = AtomicBool::new(false);
    let (torrent, options) = (Arc::new(torrent), PrepareOptions::download());
    let prepared = prepare(&torrent, dir, &options, &mut |_| (), &never)?;
    let request = AddRequest::new(torrent, prepared);
    match key {
        Some(key) => host.promote(key, request),
        None => drop(host.add(request)),
    }
    // The story of the download; there are a dozen more kinds of alerts.
    for notice in notices {
        println!("{notice:?}");
        if let Notice::Alert {
            alert: Alert::Complete { .. },
            ..
        } = notice
        {
            break;
        }
    }
    host.shutdown(); // Says goodbye to trackers and peers, and saves.
    Ok(())
}
