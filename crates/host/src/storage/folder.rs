//! One folder, and names below it that cannot lead out of it.
//!
//! Every path is resolved one component at a time from the folder's own handle, and no symbolic
//! link is followed on the way or at the end: whatever stands in the folder, no file outside it is
//! opened, made, renamed or removed. The folder itself may be reached through a link: it is the
//! user's choice.
//!
//! A folder that is only read, for data that the user shares, follows the links in it: what they
//! show is what was hashed. Even there nothing is made, written or renamed through a link.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use dunlin_engine::event::{DiskError, DiskErrorKind};
use rustix::fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::error::{disk_error, other};

/// What identifies the content of a file, as far as a file system tells without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    /// Nanoseconds since 1970.
    pub(crate) mtime_ns: i64,
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) stamp: Stamp,
    /// A regular file: not a link, folder, pipe or device.
    pub(crate) is_file: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// What a rename does with a file that has the new name already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Existing {
    Keep,
    Replace,
}

/// Folders that are not there yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Missing {
    Fail,
    Make,
}

/// Symbolic links below the folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Links {
    Refuse,
    Follow,
}

#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    links: Links,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, DiskError> {
        Self::open_with(path, Links::Refuse)
    }

    /// For data that is only read.
    pub(crate) fn open_to_read(path: &Path) -> Result<Self, DiskError> {
        Self::open_with(path, Links::Follow)
    }

    fn open_with(path: &Path, links: Links) -> Result<Self, DiskError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::openat(fs::CWD, path, flags, Mode::empty())
            .map_err(|errno| disk_error(path, &errno.into()))?;
        Ok(Self {
            fd,
            path: path.to_path_buf(),
            links,
        })
    }

    /// Opens the folder, made with its parents if it is not there.
    pub(crate) fn create(path: &Path) -> Result<Self, DiskError> {
        std::fs::create_dir_all(path).map_err(|error| disk_error(path, &error))?;
        Self::open(path)
    }

    pub(crate) fn full_path(&self, relative: &Path) -> PathBuf {
        self.path.join(relative)
    }

    /// What stands at this name; links are seen, not followed, unless the folder is only read.
    /// `None` if nothing does.
    pub(crate) fn look(&self, relative: &Path) -> Result<Option<Found>, DiskError> {
        let flags = match self.links {
            Links::Refuse => AtFlags::SYMLINK_NOFOLLOW,
            Links::Follow => AtFlags::empty(),
        };
        let found = self.parent(relative, Missing::Fail).and_then(|parent| {
            fs::statat(&parent.dir, parent.name, flags)
                .map_err(|errno| Failure::new(relative, errno))
        });
        match found {
            Ok(stat) => Ok(Some(found_of(&stat))),
            Err(failure) if failure.errno == Errno::NOENT => Ok(None),
            Err(failure) => Err(failure.tell(self)),
        }
    }

    /// Opens a regular file that exists.
    pub(crate) fn open_file(&self, relative: &Path, access: Access) -> Result<File, DiskError> {
        let access = match (access, self.links) {
            (Access::Read, Links::Follow) => OFlags::RDONLY,
            (Access::Read, Links::Refuse) => OFlags::RDONLY | OFlags::NOFOLLOW,
            (Access::ReadWrite, _) => OFlags::RDWR | OFlags::NOFOLLOW,
        };
        // NONBLOCK: opening a pipe that somebody put there must not wait for its other end.
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = self.open_at(relative, flags, Missing::Fail, Mode::empty())?;
        match fs::fstat(&file) {
            Ok(stat) if found_of(&stat).is_file => Ok(file),
            Ok(_) => Err(other(&self.full_path(relative), "not a regular file")),
            Err(errno) => Err(disk_error(&self.full_path(relative), &errno.into())),
        }
    }

    /// Makes a file, and the folders that it needs. An existing one is an error.
    pub(crate) fn create_file(&self, relative: &Path, mode: Mode) -> Result<File, DiskError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        self.open_at(relative, flags, Missing::Make, mode)
    }

    /// Opens a file, made if it is not there.
    pub(crate) fn open_or_create(&self, relative: &Path) -> Result<File, DiskError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = flags | OFlags::NOFOLLOW;
        self.open_at(relative, flags, Missing::Fail, FILE_MODE)
    }

    /// Makes a folder and its parents; existing ones are fine.
    pub(crate) fn make_folder(&self, relative: &Path) -> Result<File, DiskError> {
        let inside = relative.join("x");
        let parent = self
            .parent(&inside, Missing::Make)
            .map_err(|failure| failure.tell(self))?;
        parent.into_file(relative).map_err(|f| f.tell(self))
    }

    /// Opens a file or folder only to lock it.
    pub(crate) fn open_any(&self, relative: &Path) -> Result<File, DiskError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        self.open_at(relative, flags, Missing::Fail, Mode::empty())
    }

    pub(crate) fn rename(
        &self,
        from: &Path,
        to: &Path,
        existing: Existing,
    ) -> Result<(), DiskError> {
        let tell = |failure: Failure| failure.tell(self);
        let old = self.parent(from, Missing::Fail).map_err(tell)?;
        let new = self.parent(to, Missing::Fail).map_err(tell)?;
        let renamed = match existing {
            Existing::Replace => fs::renameat(&old.dir, old.name, &new.dir, new.name),
            Existing::Keep => rename_to_free_name(&old, &new),
        };
        renamed.map_err(|errno| {
            let at = if errno == Errno::EXIST { to } else { from };
            tell(Failure::new(at, errno))
        })
    }

    pub(crate) fn remove_file(&self, relative: &Path) -> Result<(), DiskError> {
        let removed = self.parent(relative, Missing::Fail).and_then(|parent| {
            fs::unlinkat(&parent.dir, parent.name, AtFlags::empty())
                .map_err(|errno| Failure::new(relative, errno))
        });
        match removed {
            Err(failure) if failure.errno != Errno::NOENT => Err(failure.tell(self)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes the entry of this name in its folder survive a power cut.
    pub(crate) fn sync_parent(&self, relative: &Path) -> Result<(), DiskError> {
        self.parent(relative, Missing::Fail)
            .and_then(|parent| {
                fs::fsync(&parent.dir).map_err(|errno| Failure::new(relative, errno))
            })
            .map_err(|failure| failure.tell(self))
    }

    /// Makes the whole file system that holds the folder survive a power cut.
    #[cfg(target_os = "linux")]
    pub(crate) fn sync_file_system(&self) -> Result<(), DiskError> {
        fs::syncfs(&self.fd).map_err(|errno| disk_error(&self.path, &errno.into()))
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn sync_file_system(&self) -> Result<(), DiskError> {
        Err(other(
            &self.path,
            "no way to make the whole file system durable",
        ))
    }

    fn open_at(
        &self,
        relative: &Path,
        flags: OFlags,
        missing: Missing,
        mode: Mode,
    ) -> Result<File, DiskError> {
        self.parent(relative, missing)
            .and_then(|parent| {
                let flags = flags | OFlags::CLOEXEC;
                fs::openat(&parent.dir, parent.name, flags, mode)
                    .map_err(|errno| Failure::new(relative, errno))
            })
            .map(File::from)
            .map_err(|failure| failure.tell(self))
    }

    /// The folder that holds the last component of the path.
    fn parent<'a>(&'a self, relative: &'a Path, missing: Missing) -> Result<Parent<'a>, Failure> {
        let mut dir = Dir::Top(self.fd.as_fd());
        let mut components = relative.components().peekable();
        let mut walked = PathBuf::new();
        while let Some(component) = components.next() {
            // Paths are checked where torrents are parsed; this is the second lock on the door.
            let Component::Normal(name) = component else {
                return Err(Failure::new(relative, Errno::INVAL));
            };
            if components.peek().is_none() {
                return Ok(Parent { dir, name });
            }
            walked.push(name);
            dir = self
                .enter(&dir, name, missing)
                .map_err(|errno| Failure::new(&walked, errno))?;
        }
        Err(Failure::new(relative, Errno::INVAL))
    }

    fn enter(&self, dir: &Dir<'_>, name: &OsStr, missing: Missing) -> Result<Dir<'static>, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let flags = match (self.links, missing) {
            (Links::Follow, Missing::Fail) => flags,
            (Links::Refuse, _) | (_, Missing::Make) => flags | OFlags::NOFOLLOW,
        };
        let open = || fs::openat(dir, name, flags, Mode::empty()).map(Dir::Below);
        match (open(), missing) {
            (Err(Errno::NOENT), Missing::Make) => {
                match fs::mkdirat(dir, name, EXECUTABLE_MODE) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                open()
            }
            (opened, Missing::Make | Missing::Fail) => opened,
        }
    }
}

/// Takes the lock of an open file or folder unless somebody has it: `false`. File systems without
/// locks have nobody to protect from.
pub(crate) fn lock(fd: impl AsFd) -> io::Result<bool> {
    match fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) | Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

pub(crate) fn stamp(fd: impl AsFd) -> io::Result<Stamp> {
    Ok(found_of(&fs::fstat(fd)?).stamp)
}

/// The umask takes away what the user does not want.
pub(crate) const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
pub(crate) const EXECUTABLE_MODE: Mode = Mode::from_raw_mode(0o777);

enum Dir<'a> {
    Top(BorrowedFd<'a>),
    Below(OwnedFd),
}

impl AsFd for Dir<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Dir::Top(fd) => *fd,
            Dir::Below(fd) => fd.as_fd(),
        }
    }
}

struct Parent<'a> {
    dir: Dir<'a>,
    name: &'a OsStr,
}

impl Parent<'_> {
    fn into_file(self, path: &Path) -> Result<File, Failure> {
        match self.dir {
            Dir::Below(fd) => Ok(fd.into()),
            Dir::Top(fd) => fd
                .try_clone_to_owned()
                .map(File::from)
                .map_err(|_| Failure::new(path, Errno::MFILE)),
        }
    }
}

/// What failed, and at which path below the folder.
struct Failure {
    path: PathBuf,
    errno: Errno,
}

impl Failure {
    fn new(path: &Path, errno: Errno) -> Self {
        Self {
            path: path.to_path_buf(),
            errno,
        }
    }

    fn tell(self, folder: &Folder) -> DiskError {
        let path = folder.full_path(&self.path);
        match self.errno {
            Errno::LOOP => other(&path, "a symbolic link, which is never followed here"),
            Errno::NOTDIR => DiskError {
                kind: DiskErrorKind::Exists,
                ..other(&path, "not a folder (or a link, never followed here)")
            },
            errno => disk_error(&path, &errno.into()),
        }
    }
}

fn rename_to_free_name(old: &Parent<'_>, new: &Parent<'_>) -> Result<(), Errno> {
    match fs::renameat_with(
        &old.dir,
        old.name,
        &new.dir,
        new.name,
        RenameFlags::NOREPLACE,
    ) {
        // The file system cannot refuse in one step: a link fails if the name is taken.
        Err(Errno::INVAL | Errno::NOSYS) => link_to_free_name(old, new),
        result => result,
    }
}

fn link_to_free_name(old: &Parent<'_>, new: &Parent<'_>) -> Result<(), Errno> {
    match fs::linkat(&old.dir, old.name, &new.dir, new.name, AtFlags::empty()) {
        Ok(()) => fs::unlinkat(&old.dir, old.name, AtFlags::empty()),
        // No links either: look, then rename.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {
            match fs::statat(&new.dir, new.name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => fs::renameat(&old.dir, old.name, &new.dir, new.name),
                Err(errno) => Err(errno),
                Ok(_) => Err(Errno::EXIST),
            }
        }
        Err(errno) => Err(errno),
    }
}

#[expect(
    clippy::unnecessary_cast,
    reason = "the widths of these fields differ from system to system"
)]
fn found_of(stat: &fs::Stat) -> Found {
    let seconds = stat.st_mtime as i64;
    Found {
        stamp: Stamp {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: stat.st_size as u64,
            mtime_ns: seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(stat.st_mtime_nsec as i64),
        },
        is_file: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folders() -> (tempfile::TempDir, Folder, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("outside");
        std::fs::create_dir_all(temp.path().join("in")).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("secret"), "secret").unwrap();
        let folder = Folder::open(&temp.path().join("in")).unwrap();
        (temp, folder, outside)
    }

    fn entries(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_link_to_a_folder_is_not_walked_through() {
        let (_temp, folder, outside) = folders();
        symlink(&outside, folder.full_path(Path::new("sub"))).unwrap();
        let inside = Path::new("sub/new");
        assert!(folder.create_file(inside, FILE_MODE).is_err());
        assert!(folder.make_folder(Path::new("sub/deep")).is_err());
        assert!(folder.look(Path::new("sub/secret")).is_err());
        assert!(
            folder
                .open_file(Path::new("sub/secret"), Access::Read)
                .is_err()
        );
        assert!(folder.remove_file(Path::new("sub/secret")).is_err());
        assert_eq!(entries(&outside), ["secret"]);
    }

    #[test]
    fn a_folder_that_is_only_read_follows_links_and_still_writes_through_none() {
        let (temp, folder, outside) = folders();
        symlink(&outside, folder.full_path(Path::new("sub"))).unwrap();
        symlink(outside.join("secret"), folder.full_path(Path::new("file"))).unwrap();
        let folder = Folder::open_to_read(&temp.path().join("in")).unwrap();
        for name in ["sub/secret", "file"] {
            let name = Path::new(name);
            assert!(folder.look(name).unwrap().unwrap().is_file);
            folder.open_file(name, Access::Read).unwrap();
        }
        let file = Path::new("file");
        assert!(folder.open_file(file, Access::ReadWrite).is_err());
        assert!(folder.open_or_create(file).is_err());
        assert!(folder.create_file(Path::new("sub/new"), FILE_MODE).is_err());
        assert_eq!(entries(&outside), ["secret"]);
    }

    #[test]
    fn a_link_to_a_file_is_not_opened_and_not_written_through() {
        let (_temp, folder, outside) = folders();
        let name = Path::new("file");
        symlink(outside.join("secret"), folder.full_path(name)).unwrap();
        assert!(folder.open_file(name, Access::ReadWrite).is_err());
        assert!(folder.open_or_create(name).is_err());
        assert!(folder.create_file(name, FILE_MODE).is_err());
        assert!(!folder.look(name).unwrap().unwrap().is_file);
        let dangling = Path::new("dangling");
        symlink(outside.join("made"), folder.full_path(dangling)).unwrap();
        assert!(folder.create_file(dangling, FILE_MODE).is_err());
        assert!(folder.open_or_create(dangling).is_err());
        assert_eq!(entries(&outside), ["secret"]);
    }

    #[test]
    fn paths_that_climb_or_start_at_the_top_are_refused() {
        let (_temp, folder, outside) = folders();
        for path in [
            "../outside/new",
            "a/../../outside/new",
            "/tmp/dunlin-new",
            "..",
        ] {
            assert!(folder.create_file(Path::new(path), FILE_MODE).is_err());
        }
        assert_eq!(entries(&outside), ["secret"]);
    }

    #[test]
    fn a_rename_keeps_what_has_the_name_already() {
        let (_temp, folder, _) = folders();
        let (from, to) = (Path::new("a"), Path::new("b"));
        std::fs::write(folder.full_path(from), "new").unwrap();
        std::fs::write(folder.full_path(to), "old").unwrap();
        let error = folder.rename(from, to, Existing::Keep).unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::Exists);
        assert_eq!(error.path, folder.full_path(to));
        assert_eq!(std::fs::read(folder.full_path(to)).unwrap(), b"old");
        folder.rename(from, to, Existing::Replace).unwrap();
        assert_eq!(std::fs::read(folder.full_path(to)).unwrap(), b"new");
        folder.rename(to, from, Existing::Keep).unwrap();
        assert_eq!(entries(&folder.path), ["a"]);
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let (_temp, folder, _) = folders();
        let name = Path::new("pipe");
        fs::mknodat(&folder.fd, name, FileType::Fifo, FILE_MODE, 0).unwrap();
        let error = folder.open_file(name, Access::Read).unwrap_err();
        assert_eq!(error.message, "not a regular file");
    }
}
