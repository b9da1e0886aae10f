//! `dunlin demo`: a real swarm on this machine, without set-up.
//!
//! A file of random bytes, a tracker in this process, one seed and N leeches as processes of their
//! own that speak over loopback. The children tell events on stdout and end when their stdin does,
//! so that none outlives us.

mod child;
mod table;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dunlin_metainfo::create::Details;
use dunlin_proto::rng::Rng;

use crate::args::Demo;
use crate::failure::{Code, Failure};
use crate::progress::Progress;
use crate::quantity::{self, show_bytes, show_rate};
use crate::signals::Interrupt;
use crate::tree::Tree;
use crate::{Context, cli, screen, torrent_maker};

use child::{Child, Children};

/// Name of the file that is shared.
const FILE: &str = "demo.bin";

/// The folder of a demo is called this and the number of its process.
const PREFIX: &str = "dunlin-demo-";

/// A file in the folder for as long as the demo is not over.
const UNFINISHED: &str = ".unfinished";

/// What is asked, understood.
#[derive(Clone, Debug)]
pub struct Plan {
    pub peers: usize,
    pub size: u64,
    /// Upload limit of each peer, in bytes per second.
    pub up: Option<u64>,
}

impl Plan {
    /// How fast nobody can beat: the seed must send every byte once, and together they can send
    /// only so much (Kumar and Ross 2006). Downlinks are free here.
    fn bound(&self) -> Option<Duration> {
        let up = self.up? as f64;
        let (size, peers) = (self.size as f64, self.peers as f64);
        let seed_alone = size / up;
        let together = peers * size / ((peers + 1.0) * up);
        Some(Duration::from_secs_f64(seed_alone.max(together)))
    }
}

/// Time between two looks at the children.
const TICK: Duration = Duration::from_millis(50);

/// How long the children may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Room on the disk besides the copies: the torrent, resume data, logs.
const SPARE_BYTES: u64 = 16 << 20;

/// Bytes that are written or compared at once.
const CHUNK: usize = 1 << 20;

pub fn run(args: &Demo, mut context: Context) -> Result<(), Failure> {
    if context.config.given("log.level").is_none() && context.global.verbose == 0 {
        context.config.add_flag("log.level", ["warn".to_owned()])?;
    }
    context.start_logs_here(0)?;
    let up = quantity::rate(&args.up).map_err(|why| Failure::usage(format!("--up: {why}")))?;
    if args.size == 0 {
        return Err(Failure::usage(
            "--size 0 leaves nothing to share; write 1M or more",
        ));
    }
    let plan = Plan {
        peers: usize::from(args.peers),
        size: args.size,
        up: up.filter(|_| !args.unlimited),
    };
    let interrupt = Interrupt::install()?;
    let folder = Folder::make(args, &plan)?;
    let say = |line: &str| {
        if !context.global.quiet {
            screen::note(line);
        }
    };
    let each = plan.up.map_or("unlimited uploads".to_owned(), |up| {
        format!("uploads up to {}", show_rate(up))
    });
    say(&format!(
        "one seed and {} leeches share {}, {each}",
        plan.peers,
        show_bytes(plan.size)
    ));
    say(&format!("in {}", folder.path.display()));
    let result = show(&plan, &folder, &interrupt, context.global.quiet);
    if args.keep {
        folder.keep();
        say(&format!("kept: {}", folder.path.display()));
    } else {
        folder.remove();
    }
    result
}

fn show(plan: &Plan, folder: &Folder, interrupt: &Interrupt, quiet: bool) -> Result<(), Failure> {
    let original = folder.path.join("seed").join(FILE);
    write_random(&original, plan.size, interrupt)?;
    let tracker = cli::tracker::start(dunlin_tracker::Config {
        http: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ..dunlin_tracker::Config::default()
    })?;
    let torrent = folder.path.join("demo.torrent");
    make_torrent(&original, &torrent, tracker.http_addr(), interrupt)?;
    let mut children = Children::start(plan, &folder.path, &torrent)?;
    let started = Instant::now();
    let mut progress = Progress::eager(quiet);
    while !children.are_complete() {
        if interrupt.is_set() {
            return Err(Failure::new(
                Code::Unfinished,
                "interrupted; everything is removed",
            ));
        }
        children.take_events(TICK)?;
        let (children, time) = (&children, started.elapsed());
        progress.update(
            || table::rows(plan, children.list(), time),
            || vec![table::line(plan, children.list(), time)],
        );
    }
    let time = children.last_completion().unwrap_or_else(Instant::now) - started;
    if screen::look().live && !quiet {
        drop(progress);
        for row in table::rows(plan, children.list(), time) {
            screen::note(&row);
        }
    } else {
        drop(progress);
    }
    let peers = children.stop(GOODBYE);
    tracker.stop();
    finish(plan, &original, &peers, time)
}

/// Compares every copy and says how it went.
fn finish(plan: &Plan, original: &Path, peers: &[Child], time: Duration) -> Result<(), Failure> {
    let mut identical = 0;
    for leech in peers.iter().skip(1) {
        let copy = leech.folder.join(FILE);
        if same(original, &copy)? {
            identical += 1;
        } else {
            screen::note(&format!(
                "error: {} differs from the original",
                copy.display()
            ));
        }
    }
    let copies = |bytes: u64| bytes as f64 / plan.size as f64;
    let seed = copies(peers.first().map_or(0, |seed| seed.uploaded));
    let leeches = copies(peers.iter().skip(1).map(|leech| leech.uploaded).sum());
    let bound = plan.bound().map_or(String::new(), |bound| {
        format!(" (bound {:.1} s)", bound.as_secs_f64())
    });
    let line = format!(
        "{identical} of {} identical in {:.1} s{bound}; the seed sent {seed:.1} copies, \
         the peers {leeches:.1}. Now yours: dunlin share FILE",
        plan.peers,
        time.as_secs_f64(),
    );
    if io::stdout().is_terminal() {
        screen::out(&screen::wrap(&line, screen::look().width))?;
    } else {
        screen::out(&line)?;
    }
    if identical < plan.peers {
        let wrong = plan.peers - identical;
        return Err(Failure::new(
            Code::VerifyFailed,
            format!("{wrong} copies are not identical"),
        ));
    }
    Ok(())
}

/// The folder of this demo, made new.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make(args: &Demo, plan: &Plan) -> Result<Self, Failure> {
        let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
        let meta = std::fs::metadata(&parent).map_err(|error| Failure::io(&parent, &error))?;
        if !meta.is_dir() {
            let line = format!("{}: not a folder; choose another --dir", parent.display());
            return Err(Failure::new(Code::Conflict, line));
        }
        remove_left_behind(&parent);
        check_space(&parent, plan)?;
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        let make =
            |path: &Path| std::fs::create_dir(path).map_err(|error| Failure::io(path, &error));
        make(&path)?;
        let folder = Self { path };
        let marker = folder.path.join(UNFINISHED);
        File::create_new(&marker).map_err(|error| Failure::io(&marker, &error))?;
        make(&folder.path.join("seed"))?;
        Ok(folder)
    }

    /// From now on it is the user's.
    fn keep(&self) {
        // With the marker the next demo would take it for one that was killed.
        let _ = std::fs::remove_file(self.path.join(UNFINISHED));
    }

    fn remove(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            let words = crate::failure::system_words(&error);
            screen::note(&format!("warning: {} stays: {words}", self.path.display()));
        }
    }
}

/// A demo that was killed could not clear up: its folder carries the marker, and its process is gone.
fn remove_left_behind(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        let is_gone =
            Path::new("/proc/self").exists() && !Path::new(&format!("/proc/{pid}")).exists();
        let path = entry.path();
        let is_ours = entry
            .metadata()
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw());
        if is_ours && is_gone && path.join(UNFINISHED).is_file() {
            let left = Folder { path };
            left.remove();
            if !left.path.exists() {
                let path = left.path.display();
                screen::note(&format!(
                    "removed {path}, left behind by a demo that was killed"
                ));
            }
        }
    }
}

fn check_space(folder: &Path, plan: &Plan) -> Result<(), Failure> {
    let needed = plan
        .size
        .saturating_mul(plan.peers as u64 + 1)
        .saturating_add(SPARE_BYTES);
    let Ok(space) = rustix::fs::statvfs(folder) else {
        return Ok(());
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free >= needed {
        return Ok(());
    }
    Err(Failure::new(
        Code::Disk,
        format!(
            "{}: {} are free, {} copies need {}; choose another --dir, a smaller --size or fewer \
             --peers",
            folder.display(),
            show_bytes(free),
            plan.peers + 1,
            show_bytes(needed)
        ),
    ))
}

fn write_random(path: &Path, size: u64, interrupt: &Interrupt) -> Result<(), Failure> {
    let seed = getrandom::u64()
        .map_err(|error| Failure::new(Code::Other, format!("no randomness: {error}")))?;
    let mut rng = Rng::new(seed);
    let mut file = File::create_new(path).map_err(|error| Failure::io(path, &error))?;
    let mut chunk = vec![0; CHUNK];
    let mut left = size;
    while left > 0 && !interrupt.is_set() {
        for bytes in chunk.chunks_exact_mut(8) {
            bytes.copy_from_slice(&rng.next_u64().to_le_bytes());
        }
        let len = left.min(CHUNK as u64);
        let part = &chunk[..len as usize];
        file.write_all(part)
            .map_err(|error| Failure::io(path, &error))?;
        left -= len;
    }
    Ok(())
}

fn make_torrent(
    file: &Path,
    torrent: &Path,
    tracker: SocketAddr,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let tree = Tree::read(file)?;
    let piece_len = torrent_maker::piece_len(&tree, None)?;
    let details = Details {
        trackers: vec![vec![format!("http://{tracker}/announce")]],
        ..Details::default()
    };
    let flag = interrupt.flag();
    let made = torrent_maker::make(&tree, &piece_len, &details, None, &mut |_| {}, flag)?;
    torrent_maker::write_new(torrent, &made.bytes)
}

/// Byte for byte. A copy that is not there differs.
fn same(original: &Path, copy: &Path) -> Result<bool, Failure> {
    let mut left = File::open(original).map_err(|error| Failure::io(original, &error))?;
    let Ok(mut right) = File::open(copy) else {
        return Ok(false);
    };
    let (mut a, mut b) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK));
    loop {
        a.clear();
        b.clear();
        let chunk = CHUNK as u64;
        (&mut left)
            .take(chunk)
            .read_to_end(&mut a)
            .map_err(|e| Failure::io(original, &e))?;
        (&mut right)
            .take(chunk)
            .read_to_end(&mut b)
            .map_err(|e| Failure::io(copy, &e))?;
        if a != b {
            return Ok(false);
        }
        if a.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_the_default_demo_is_that_of_its_seed() {
        let plan = Plan {
            peers: 8,
            size: 128 << 20,
            up: Some(10_000_000),
        };
        assert_eq!(
            format!("{:.1}", plan.bound().unwrap().as_secs_f64()),
            "13.4"
        );
        assert_eq!(Plan { up: None, ..plan }.bound(), None);
    }

    #[test]
    fn copies_are_compared_to_the_last_byte() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, vec![7; CHUNK + 1]).unwrap();
        for (bytes, expected) in [(CHUNK + 1, true), (CHUNK, false), (CHUNK + 2, false)] {
            std::fs::write(&b, vec![7; bytes]).unwrap();
            assert_eq!(same(&a, &b).unwrap(), expected);
        }
        let mut bytes = vec![7; CHUNK + 1];
        bytes[CHUNK] = 8;
        std::fs::write(&b, bytes).unwrap();
        assert!(!same(&a, &b).unwrap());
        assert!(!same(&a, &dir.path().join("none")).unwrap());
    }
}
