//! What is to be transferred: a torrent, or a link that becomes one when a peer has told its
//! metadata.

use std::path::PathBuf;
use std::sync::Arc;

use dunlin_host::storage::PrepareMode;
use dunlin_metainfo::{InfoHash, Magnet, Torrent};

use crate::clean::clean;
use crate::failure::{Code, Failure};
use crate::select;
use crate::settings::Settings;

/// One torrent of a run.
#[derive(Debug)]
pub struct Item {
    pub subject: Subject,
    pub info_hash: InfoHash,
    pub dir: PathBuf,
    pub mode: PrepareMode,
}

#[derive(Debug)]
pub enum Subject {
    Torrent {
        torrent: Arc<Torrent>,
        /// One flag a file; empty if everything is wanted.
        wanted: Vec<bool>,
    },
    Link {
        magnet: Box<Magnet>,
        /// What `--select` said; the link's own selection counts if it said nothing.
        selectors: Vec<String>,
    },
}

impl Item {
    /// All files of a torrent.
    pub fn whole(torrent: Arc<Torrent>, dir: PathBuf, mode: PrepareMode) -> Self {
        Self::selected(torrent, Vec::new(), dir, mode)
    }

    pub fn selected(
        torrent: Arc<Torrent>,
        wanted: Vec<bool>,
        dir: PathBuf,
        mode: PrepareMode,
    ) -> Self {
        let info_hash = torrent.info_hash;
        Self {
            subject: Subject::Torrent { torrent, wanted },
            info_hash,
            dir,
            mode,
        }
    }

    /// Fails for a link that only names a v2 torrent.
    pub fn link(
        magnet: Box<Magnet>,
        selectors: Vec<String>,
        dir: PathBuf,
        mode: PrepareMode,
    ) -> Result<Self, Failure> {
        let Some(info_hash) = magnet.info_hash else {
            return Err(Failure::new(
                Code::BadInput,
                format!(
                    "{}: this link names a BitTorrent v2 torrent only, which cannot be transferred \
                     yet; ask for a v1 or hybrid one",
                    link_name(&magnet)
                ),
            ));
        };
        Ok(Self {
            subject: Subject::Link { magnet, selectors },
            info_hash,
            dir,
            mode,
        })
    }

    /// A link without anybody to ask is no way to a torrent.
    pub fn check_reachable(&self, settings: &Settings) -> Result<(), Failure> {
        let Some(magnet) = self.magnet() else {
            return Ok(());
        };
        let is_usable = |url: &String| {
            let schemes = ["http://", "https://", "udp://"];
            schemes.iter().any(|scheme| url.starts_with(scheme))
        };
        let named = settings.trackers.iter().flatten();
        let has_tracker = magnet.trackers.iter().chain(named).any(is_usable);
        if has_tracker || !magnet.peers.is_empty() || !settings.peers.is_empty() {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{}: names no tracker and no peer, and the DHT is not built yet; name one with \
             --tracker URL or --peer HOST:PORT",
            self.name()
        )))
    }

    pub fn is_download(&self) -> bool {
        matches!(self.mode, PrepareMode::Download { .. })
    }

    /// `None` as long as only a link is known.
    pub fn torrent(&self) -> Option<&Arc<Torrent>> {
        match &self.subject {
            Subject::Torrent { torrent, .. } => Some(torrent),
            Subject::Link { .. } => None,
        }
    }

    pub fn magnet(&self) -> Option<&Magnet> {
        match &self.subject {
            Subject::Link { magnet, .. } => Some(magnet),
            Subject::Torrent { .. } => None,
        }
    }

    pub fn wanted(&self) -> &[bool] {
        match &self.subject {
            Subject::Torrent { wanted, .. } => wanted,
            Subject::Link { .. } => &[],
        }
    }

    /// Bytes of the torrent; 0 while nobody knows.
    pub fn bytes(&self) -> u64 {
        self.torrent().map_or(0, |torrent| torrent.layout.bytes())
    }

    /// How it is called on the terminal.
    pub fn name(&self) -> String {
        match &self.subject {
            Subject::Torrent { torrent, .. } => clean(&torrent.name),
            Subject::Link { magnet, .. } => link_name(magnet),
        }
    }

    /// Makes a link the torrent that its metadata describes.
    pub fn learn(&mut self, info: &[u8]) -> Result<(), Failure> {
        let Subject::Link { magnet, selectors } = &self.subject else {
            return Ok(());
        };
        let bad = |error| Failure::new(Code::BadInput, format!("{}: {error}", self.name()));
        let mut torrent = Torrent::from_info(info).map_err(bad)?;
        // The peers proved the v1 hash only. A link whose hashes are of two torrents is a trap, or
        // a mistake (BEP 52).
        if magnet.info_hash_v2.is_some() && magnet.info_hash_v2 != torrent.info_hash_v2 {
            return Err(Failure::new(
                Code::BadInput,
                format!(
                    "{}: the two hashes of this link name two torrents; get another link",
                    self.name()
                ),
            ));
        }
        torrent.trackers = tiers(magnet);
        let wanted = if selectors.is_empty() {
            select::linked(&torrent, &magnet.select)?
        } else {
            select::chosen(&torrent, selectors)?
        };
        self.subject = Subject::Torrent {
            torrent: Arc::new(torrent),
            wanted,
        };
        Ok(())
    }
}

/// The trackers of a link, each a tier of its own.
pub fn tiers(magnet: &Magnet) -> Vec<Vec<String>> {
    magnet
        .trackers
        .iter()
        .map(|url| vec![url.clone()])
        .collect()
}

fn link_name(magnet: &Magnet) -> String {
    let hash = magnet.info_hash.map(|hash| hash.to_string());
    let hash_v2 = magnet.info_hash_v2.map(|hash| hash.to_string());
    let name = magnet.name.as_deref().map(clean);
    name.or(hash).or(hash_v2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_whose_hashes_name_two_torrents_is_refused() {
        let info = b"d6:lengthi0e4:name1:a12:piece lengthi16384e6:pieces0:e";
        let hash = Torrent::from_info(info).unwrap().info_hash;
        let learn = |more: &str| {
            let magnet = Magnet::parse(&format!("magnet:?xt=urn:btih:{hash}{more}")).unwrap();
            let mode = PrepareMode::Download { overwrite: false };
            let item = Item::link(Box::new(magnet), Vec::new(), PathBuf::new(), mode);
            item.unwrap().learn(info)
        };
        assert_eq!(learn(""), Ok(()));
        let failure = learn(&format!("&xt=urn:btmh:1220{}", "0".repeat(64))).unwrap_err();
        assert_eq!(failure.code, Code::BadInput);
        assert!(failure.message.contains("two torrents"), "{failure}");
    }
}
