//! Files that are served beside the tracker, from memory: the .torrent of what is shared.
//!
//! Nothing comes from a file system, so a name can lead nowhere else. A file is served under `/`
//! and its name, percent-encoded as a browser or a program likes to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dunlin_proto::tracker::http::query;

/// The files by name. Clones are the same files.
#[derive(Clone, Debug, Default)]
pub struct Files(Arc<Mutex<ByName>>);

#[derive(Debug, Default)]
struct ByName(BTreeMap<Vec<u8>, Arc<[u8]>>);

impl Files {
    /// A file of the same name is replaced.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        self.lock().0.insert(name.as_bytes().to_vec(), bytes.into());
    }

    /// The file that a request for `path` means.
    pub fn find(&self, path: &str) -> Option<Arc<[u8]>> {
        let name = query::decode_path(path.strip_prefix('/')?)?;
        self.lock().0.get(&name).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, ByName> {
        // No panic leaves the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path under which a file is served.
pub fn path_of(name: &str) -> String {
    let mut path = "/".to_owned();
    query::encode(name.as_bytes(), &mut path);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_its_name_however_it_is_encoded() {
        let files = Files::default();
        for name in ["a.torrent", "ä ö+%41/..\u{1f426}.torrent", "日本.torrent"] {
            files.put(name, name.into());
            let found = files.find(&path_of(name));
            assert_eq!(found.as_deref(), Some(name.as_bytes()), "{name}");
        }
        assert!(files.find("/%61.t%6Frrent").is_some());
        for path in [
            "",
            "/",
            "a.torrent",
            "//a.torrent",
            "/b.torrent",
            "/a.torrent%",
            "/%2561.torrent",
        ] {
            assert!(files.find(path).is_none(), "{path}");
        }
        files.put("a.torrent", vec![1]);
        assert_eq!(files.find("/a.torrent").as_deref(), Some([1].as_slice()));
    }
}
