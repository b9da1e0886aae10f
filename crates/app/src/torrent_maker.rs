//! Makes a .torrent from what lies under a path: for `create`, `peer` and `demo`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use dunlin_host::check::{CheckProgress, hash_files};
use dunlin_metainfo::Torrent;
use dunlin_metainfo::create::{CreateError, Details, PieceLen, build};

use crate::data;
use crate::failure::{Code, Failure};
use crate::tree::Tree;

/// A .torrent that is made and not yet written.
#[derive(Debug)]
pub struct Made {
    pub bytes: Vec<u8>,
    pub torrent: Torrent,
}

/// `None` lets us choose.
pub fn piece_len(tree: &Tree, asked: Option<u64>) -> Result<PieceLen, Failure> {
    match asked {
        Some(len) => PieceLen::exactly(len, &tree.content),
        None => PieceLen::auto(&tree.content),
    }
    .map_err(|error| {
        let code = if matches!(error, CreateError::PieceLength(_)) {
            Code::Usage
        } else {
            Code::BadInput
        };
        Failure::new(code, error)
    })
}

/// Hashes everything.
pub fn make(
    tree: &Tree,
    piece_len: &PieceLen,
    details: &Details,
    threads: Option<usize>,
    progress: &mut dyn FnMut(CheckProgress),
    cancel: &AtomicBool,
) -> Result<Made, Failure> {
    let paths = tree.paths();
    let lens: Vec<u64> = tree.content.files().iter().map(|file| file.len).collect();
    let threads = threads.unwrap_or_else(data::cores);
    let before = changed_at(&paths)?;
    let digests = hash_files(&paths, &lens, piece_len.len, threads, progress, cancel)
        .map_err(data::check_failure)?;
    // A size that changed is noticed already.
    let after = changed_at(&paths)?;
    if let Some(at) = (0..paths.len()).find(|&at| before.get(at) != after.get(at)) {
        let path = paths[at].display();
        return Err(Failure::new(
            Code::Disk,
            format!("{path}: changed while it was read; wait until nobody writes to it"),
        ));
    }
    let (bytes, torrent) = build(&tree.content, piece_len, &digests, details)
        .map_err(|error| Failure::new(Code::BadInput, error))?;
    Ok(Made { bytes, torrent })
}

/// When each file was written to last.
fn changed_at(paths: &[PathBuf]) -> Result<Vec<SystemTime>, Failure> {
    let time = |path: &PathBuf| {
        let meta = fs::metadata(path);
        meta.and_then(|meta| meta.modified())
            .map_err(|error| Failure::io(path, &error))
    };
    paths.iter().map(time).collect()
}

/// Writes a file that must not exist yet. It appears under its name only when it is whole.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary: PathBuf = path.with_file_name(name);
    let result = write_and_link(&temporary, path, bytes);
    let _ = fs::remove_file(&temporary);
    result.map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            exists(path)
        } else if error.kind() == io::ErrorKind::NotFound {
            no_folder(path)
        } else {
            Failure::io(path, &error)
        }
    })
}

fn write_and_link(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    // Unlike a rename, a link never replaces what is there already.
    match fs::hard_link(temporary, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            // A file system without links.
            let mut file = fs::File::create_new(path)?;
            file.write_all(bytes)
        }
        result => result,
    }
}

pub fn no_folder(path: &Path) -> Failure {
    let line = format!(
        "{}: the folder to write to does not exist; make it first",
        path.display()
    );
    Failure::new(Code::NotFound, line)
}

/// The folder that a file is in, or is to be in.
pub fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

pub fn exists(path: &Path) -> Failure {
    Failure::new(
        Code::Conflict,
        format!(
            "{}: exists already; remove it or choose another name with -o",
            path.display()
        ),
    )
}
