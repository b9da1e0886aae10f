//! What lies under a path, as the content of a torrent to be.
//!
//! Links to files are followed: the other side gets what they show. Links to folders are not, they
//! may lead anywhere, even back; they and whatever is no file (a socket, a device) are left out and
//! reported.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use dunlin_metainfo::create::{Content, CreateError, NewFile};

use crate::failure::{Code, Failure};

/// Folders inside folders; more is a loop of mounts or a mistake.
const DEPTH_MAX: usize = 100;

/// What there is to share.
#[derive(Debug)]
pub struct Tree {
    pub content: Content,
    /// The file, or the folder.
    root: PathBuf,
    pub left_out: Vec<PathBuf>,
}

impl Tree {
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let meta = fs::metadata(path).map_err(|error| Failure::io(path, &error))?;
        let name = name_of(path)?;
        let bad = |error: CreateError| Failure::new(Code::BadInput, error);
        let mut left_out = Vec::new();
        let content = if meta.is_dir() {
            let mut files = Vec::new();
            walk(path, &mut Vec::new(), &mut files, &mut left_out)?;
            Content::folder(name, files).map_err(bad)?
        } else if meta.is_file() {
            Content::file(name, meta.len()).map_err(bad)?
        } else {
            return Err(not_regular(path));
        };
        Ok(Self {
            content,
            root: path.to_owned(),
            left_out,
        })
    }

    /// Where the files are, in the order of the torrent.
    pub fn paths(&self) -> Vec<PathBuf> {
        let join = |file: &NewFile| {
            file.path
                .iter()
                .fold(self.root.clone(), |path, component| path.join(component))
        };
        self.content.files().iter().map(join).collect()
    }
}

fn not_regular(path: &Path) -> Failure {
    let shown = path.display();
    Failure::new(
        Code::BadInput,
        format!("{shown}: is neither a file nor a folder"),
    )
}

/// The last component; of `.` and `..` that of the folder they stand for.
fn name_of(path: &Path) -> Result<String, Failure> {
    let full;
    let name = match path.file_name() {
        Some(name) => name,
        None => {
            full = path
                .canonicalize()
                .map_err(|error| Failure::io(path, &error))?;
            full.file_name().ok_or_else(|| {
                Failure::new(
                    Code::BadInput,
                    format!("{}: has no name to share", path.display()),
                )
            })?
        }
    };
    text(name.to_owned(), path)
}

/// The names of a torrent are UTF-8.
fn text(name: OsString, path: &Path) -> Result<String, Failure> {
    name.into_string().map_err(|_| {
        Failure::new(
            Code::BadInput,
            format!(
                "{}: the name is not UTF-8, torrents need that: rename it",
                path.display()
            ),
        )
    })
}

fn walk(
    folder: &Path,
    below: &mut Vec<String>,
    files: &mut Vec<NewFile>,
    left_out: &mut Vec<PathBuf>,
) -> Result<(), Failure> {
    if below.len() >= DEPTH_MAX {
        return Err(Failure::new(
            Code::BadInput,
            format!("{}: more than {DEPTH_MAX} folders deep", folder.display()),
        ));
    }
    let fail = |error: &std::io::Error| Failure::io(folder, error);
    for entry in fs::read_dir(folder).map_err(|error| fail(&error))? {
        let entry = entry.map_err(|error| fail(&error))?;
        let path = entry.path();
        let kind = entry
            .file_type()
            .map_err(|error| Failure::io(&path, &error))?;
        if kind.is_dir() {
            below.push(text(entry.file_name(), &path)?);
            walk(&path, below, files, left_out)?;
            below.pop();
            continue;
        }
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => {
                let mut names = below.clone();
                names.push(text(entry.file_name(), &path)?);
                files.push(NewFile {
                    path: names,
                    len: meta.len(),
                });
            }
            // A dangling link, a link to a folder, or no file at all.
            Ok(_) => left_out.push(path),
            Err(_) if kind.is_symlink() => left_out.push(path),
            Err(error) => return Err(Failure::io(&path, &error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_folder_is_read_in_the_order_of_the_torrent() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("b/empty")).unwrap();
        for (name, text) in [("z", "1"), ("b/ä", "22"), ("a", "")] {
            fs::write(root.join(name), text).unwrap();
        }
        symlink(root.join("z"), root.join("y")).unwrap();
        symlink(&root, root.join("loop")).unwrap();
        symlink("/nowhere/at/all", root.join("dangling")).unwrap();
        let mut tree = Tree::read(&root).unwrap();
        let lens: Vec<u64> = tree.content.files().iter().map(|file| file.len).collect();
        assert_eq!(lens, [0, 2, 1, 1]);
        let names = ["a", "b/ä", "y", "z"].map(|name| root.join(name));
        assert_eq!(tree.paths(), names);
        tree.left_out.sort();
        assert_eq!(
            tree.left_out,
            ["dangling", "loop"].map(|name| root.join(name))
        );
    }

    #[test]
    fn one_file_is_its_own_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing");
        fs::write(&path, "abc").unwrap();
        let tree = Tree::read(&path).unwrap();
        assert!(tree.content.is_single_file());
        assert_eq!(tree.paths(), [path]);
    }

    #[test]
    fn what_cannot_be_shared_has_its_code() {
        let dir = tempfile::tempdir().unwrap();
        let code = |path: &Path| Tree::read(path).unwrap_err().code;
        assert_eq!(code(&dir.path().join("none")), Code::NotFound);
        assert_eq!(code(dir.path()), Code::BadInput);
        assert_eq!(code(Path::new("/dev/null")), Code::BadInput);
    }
}
