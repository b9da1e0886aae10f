//! Where the data of a torrent is, when the user names a folder or the content itself.

use std::path::{Path, PathBuf};

use dunlin_metainfo::Torrent;

use crate::failure::{Code, Failure};

/// The folder that holds the torrent's NAME. `given` is that folder, or NAME itself; the default
/// is the current folder. If nothing fits, the message names the path that was expected.
pub fn folder_of(torrent: &Torrent, given: Option<&Path>) -> Result<PathBuf, Failure> {
    let name = Path::new(root(torrent));
    let given = given.unwrap_or(Path::new("."));
    let expected = given.join(name);
    let mut unfinished = expected.clone().into_os_string();
    unfinished.push(".part");
    if expected.symlink_metadata().is_ok() || Path::new(&unfinished).symlink_metadata().is_ok() {
        return Ok(given.to_owned());
    }
    // `a/b/NAME`, or a path such as `.` that is called NAME when written in full.
    let full = given
        .canonicalize()
        .map_err(|error| Failure::io(given, &error))?;
    let named = given.file_name().or_else(|| full.file_name());
    if named == Some(name.as_os_str()) && full.is_file() == torrent.single_file {
        let parent = if given.file_name().is_some() {
            given.parent()
        } else {
            full.parent()
        };
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        return Ok(parent.unwrap_or(Path::new(".")).to_owned());
    }
    let expected = if full.is_file() {
        given.with_file_name(name)
    } else {
        expected
    };
    Err(Failure::new(
        Code::NotFound,
        format!(
            "{}: does not hold the data: expected {}",
            given.display(),
            expected.display()
        ),
    ))
}

/// The file or folder that everything is in, as it is called on the disk.
pub fn root(torrent: &Torrent) -> &str {
    torrent
        .files
        .first()
        .and_then(|file| file.path.components().next())
        .unwrap_or(&torrent.name)
}
