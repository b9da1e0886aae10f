use super::*;

fn run(
    layout: &Layout,
    digests: &[Sha1Digest],
    paths: &[PathBuf],
    threads: usize,
) -> Result<Bitfield, CheckError> {
    let source = Lenient(paths);
    let mut checking = Checking {
        threads,
        progress: &mut |_| {},
        cancel: &AtomicBool::new(false),
    };
    let all = Bitfield::full(layout.pieces());
    check(layout, digests, &source, &all, &mut checking)
}

/// Files that may be missing.
struct Lenient<'a>(&'a [PathBuf]);

impl Source for Lenient<'_> {
    fn open(&self, file: usize) -> Result<Option<File>, DiskError> {
        Ok(File::open(&self.0[file]).ok())
    }

    fn path(&self, file: usize) -> PathBuf {
        self.0[file].clone()
    }
}

struct Folder {
    temp: tempfile::TempDir,
    paths: Vec<PathBuf>,
    lens: Vec<u64>,
}

fn folder(lens: &[u64]) -> Folder {
    let temp = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (file, &len) in (0u64..).zip(lens) {
        let path = temp.path().join(file.to_string());
        let bytes: Vec<u8> = (0..len)
            .map(|at| (at.wrapping_mul(file + 7) >> 3) as u8)
            .collect();
        std::fs::write(&path, bytes).unwrap();
        paths.push(path);
    }
    Folder {
        temp,
        paths,
        lens: lens.to_vec(),
    }
}

impl Folder {
    fn layout(&self, piece_len: u64) -> Layout {
        let spans = self.lens.iter().map(|&len| FileSpan { len, pad: false });
        Layout::new(piece_len, spans).unwrap()
    }

    fn hash(&self, piece_len: u32, threads: usize) -> Result<Vec<Sha1Digest>, CheckError> {
        let cancel = AtomicBool::new(false);
        hash_files(
            &self.paths,
            &self.lens,
            piece_len,
            threads,
            &mut |_| {},
            &cancel,
        )
    }
}

#[test]
fn the_digests_are_those_of_the_concatenated_files_whatever_the_threads() {
    let folder = folder(&[100_000, 0, 1, 3_000_000, 40_000]);
    let all: Vec<u8> = folder
        .paths
        .iter()
        .flat_map(|path| std::fs::read(path).unwrap())
        .collect();
    let expected: Vec<Sha1Digest> = all.chunks(65_536).map(dunlin_hash::sha1).collect();
    for threads in [0, 1, 3] {
        assert_eq!(folder.hash(65_536, threads).unwrap(), expected);
    }
    let whole: Vec<Sha1Digest> = all.chunks(4 << 20).map(dunlin_hash::sha1).collect();
    assert_eq!(folder.hash(4 << 20, 2).unwrap(), whole);
}

#[test]
fn no_bytes_have_no_digests() {
    assert_eq!(folder(&[0, 0]).hash(65_536, 2).unwrap(), []);
}

#[test]
fn a_flipped_byte_makes_exactly_its_piece_bad() {
    let folder = folder(&[100_000, 50_000]);
    let layout = folder.layout(32_768);
    let digests = folder.hash(32_768, 2).unwrap();
    let mut bytes = std::fs::read(&folder.paths[1]).unwrap();
    bytes[10_000] ^= 0x10;
    std::fs::write(&folder.paths[1], bytes).unwrap();
    let right = run(&layout, &digests, &folder.paths, 2).unwrap();
    assert_eq!(right.iter_ones().collect::<Vec<_>>(), [0, 1, 2, 4]);
    let report = report(&layout, &right, |file| Some(&folder.paths[file]));
    assert_eq!((report.ok_pieces, report.bad_pieces), (4, 1));
    assert_eq!(report.files[0].ok_bytes, 3 * 32_768);
    assert_eq!(report.files[1].ok_bytes, 50_000 - (4 * 32_768 - 100_000));
}

#[test]
fn missing_and_short_files_make_pieces_bad_and_are_no_error() {
    let folder = folder(&[100_000, 50_000, 10]);
    let layout = folder.layout(32_768);
    let digests = folder.hash(32_768, 2).unwrap();
    std::fs::remove_file(&folder.paths[2]).unwrap();
    let opened = File::options().write(true).open(&folder.paths[0]).unwrap();
    opened.set_len(40_000).unwrap();
    let right = run(&layout, &digests, &folder.paths, 2).unwrap();
    assert_eq!(right.iter_ones().collect::<Vec<_>>(), [0]);
}

#[test]
fn holes_read_as_zeros() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("sparse");
    File::create(&path).unwrap().set_len(200_000).unwrap();
    let layout = Layout::new(
        65_536,
        [FileSpan {
            len: 200_000,
            pad: false,
        }],
    )
    .unwrap();
    let zeros = vec![0; 200_000];
    let digests: Vec<Sha1Digest> = zeros.chunks(65_536).map(dunlin_hash::sha1).collect();
    assert!(run(&layout, &digests, &[path], 1).unwrap().is_full());
}

#[test]
fn pads_hash_as_zeros_and_are_not_looked_for() {
    let folder = folder(&[10_000]);
    let spans = [
        FileSpan {
            len: 10_000,
            pad: false,
        },
        FileSpan {
            len: 6_384,
            pad: true,
        },
    ];
    let layout = Layout::new(16_384, spans).unwrap();
    let mut bytes = std::fs::read(&folder.paths[0]).unwrap();
    bytes.resize(16_384, 0);
    let paths = [folder.paths[0].clone(), folder.temp.path().join("none")];
    let digests = [dunlin_hash::sha1(&bytes)];
    assert!(run(&layout, &digests, &paths, 1).unwrap().is_full());
}

#[test]
fn a_file_that_is_not_as_long_as_it_was_is_an_error_with_its_path() {
    for len in [90_000u64, 110_000] {
        let folder = folder(&[50_000, 100_000]);
        let opened = File::options().write(true).open(&folder.paths[1]).unwrap();
        opened.set_len(len).unwrap();
        let Err(CheckError::Disk(error)) = folder.hash(32_768, 2) else {
            panic!()
        };
        assert_eq!(error.kind, dunlin_engine::event::DiskErrorKind::Changed);
        assert_eq!(error.path, folder.paths[1]);
        assert!(error.message.contains(&len.to_string()), "{error}");
    }
}

#[test]
fn a_file_that_grows_while_it_is_read_is_an_error() {
    let folder = folder(&[3_000_000]);
    let mut grown = false;
    let result = hash_files(
        &folder.paths,
        &folder.lens,
        32_768,
        1,
        &mut |_| {
            if !grown {
                let opened = File::options().write(true).open(&folder.paths[0]).unwrap();
                opened.set_len(3_000_001).unwrap();
                grown = true;
            }
        },
        &AtomicBool::new(false),
    );
    assert!(grown);
    assert!(matches!(result, Err(CheckError::Disk(_))), "{result:?}");
}

#[test]
fn a_missing_file_cannot_be_hashed() {
    let folder = folder(&[10]);
    std::fs::remove_file(&folder.paths[0]).unwrap();
    let Err(CheckError::Disk(error)) = folder.hash(16_384, 1) else {
        panic!()
    };
    assert_eq!(error.kind, dunlin_engine::event::DiskErrorKind::NotFound);
}

#[test]
fn progress_ends_at_the_total_and_cancelling_ends_early() {
    let folder = folder(&[3_000_000]);
    let mut last = None;
    let cancel = AtomicBool::new(false);
    let mut note = |progress: CheckProgress| {
        assert!(last.is_none_or(|last: CheckProgress| last.done_bytes <= progress.done_bytes));
        last = Some(progress);
    };
    hash_files(&folder.paths, &folder.lens, 32_768, 2, &mut note, &cancel).unwrap();
    let last = last.unwrap();
    assert_eq!((last.done_bytes, last.total_bytes), (3_000_000, 3_000_000));
    cancel.store(true, Ordering::Relaxed);
    let result = hash_files(&folder.paths, &folder.lens, 32_768, 2, &mut |_| {}, &cancel);
    assert_eq!(result, Err(CheckError::Cancelled));
}
