//! The table of real clients: every client, both ways, by .torrent and magnet, over both trackers.
//!
//! Runs the tests `interop::matrix` of crates/app one after the other and makes a table of the lines
//! that they print. With `--all` webtorrent-cli and rqbit are there too: what they need is fetched
//! into the target folder, nothing is installed on the machine. rqbit takes minutes to build, unless
//! `DUNLIN_RQBIT` names one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

pub(crate) fn run(root: &Path, all: bool) -> Result<()> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let folder = target.join("interop");
    let mut test = Command::new(env!("CARGO"));
    test.args(
        "test -p dunlin --test it interop::matrix:: -- --nocapture --test-threads 1".split(' '),
    )
    .env("DUNLIN_REQUIRE_CLIENTS", "1")
    .current_dir(root)
    .stdout(Stdio::piped());
    if all {
        test.arg("--include-ignored")
            .env("DUNLIN_WEBTORRENT", webtorrent(&folder.join("webtorrent"))?)
            .env("DUNLIN_RQBIT", rqbit(&folder.join("rqbit"))?);
    }
    let mut child = test.spawn().context("cannot run cargo test")?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let mut table = Table::default();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        table.read(&line);
    }
    let passed = child.wait()?.success();
    println!("\n{}", table.markdown());
    ensure!(passed, "some cells failed");
    let clients = if all { 6 } else { 4 };
    ensure!(
        table.rows.len() == clients * DIRECTIONS
            && table.rows.values().all(|row| row.len() == CELLS.len()),
        "some cells are missing"
    );
    Ok(())
}

const DIRECTIONS: usize = 2;

/// Link and tracker, as the tests print them.
const CELLS: [(&str, &str); 4] = [
    ("Torrent", "Http"),
    ("Magnet", "Http"),
    ("Torrent", "Udp"),
    ("Magnet", "Udp"),
];

/// Client, version and direction; then the seconds of each link and tracker.
#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<[String; 3], BTreeMap<(String, String), String>>,
}

impl Table {
    /// Takes a line that tells of a cell. The harness may have begun it.
    fn read(&mut self, line: &str) {
        let Some((_, cell)) = line.split_once("CELL\t") else {
            return;
        };
        let fields: Vec<String> = cell.split('\t').map(str::to_owned).collect();
        if let Ok([client, version, direction, link, tracker, took]) =
            <[String; 6]>::try_from(fields)
        {
            let row = self.rows.entry([client, version, direction]).or_default();
            row.insert((link, tracker), took);
        }
    }

    fn markdown(&self) -> String {
        let mut text = String::from(
            "| client | version | direction | .torrent, HTTP | magnet, HTTP | .torrent, UDP | magnet, UDP | SHA-256 |\n\
             |---|---|---|--:|--:|--:|--:|---|\n",
        );
        for ([client, version, direction], row) in &self.rows {
            let _ = write!(text, "| {client} | {version} | {direction} |");
            let mut same = true;
            for (link, tracker) in CELLS {
                let took = row.get(&(link.to_owned(), tracker.to_owned()));
                let took = took.map_or("missing", String::as_str);
                same &= took.parse::<f64>().is_ok();
                let _ = write!(text, " {took} |");
            }
            let _ = writeln!(text, " {} |", if same { "same" } else { "**no**" });
        }
        text
    }
}

/// Installs webtorrent-cli and the Node that it needs. Returns the folder.
fn webtorrent(folder: &Path) -> Result<PathBuf> {
    let platform = match std::env::consts::ARCH {
        "x86_64" => "linux-x64",
        "aarch64" => "linux-arm64",
        other => bail!("npm has no Node for {other}"),
    };
    let script = folder.join("node_modules/webtorrent-cli/bin/cmd.js");
    if !script.is_file() {
        std::fs::create_dir_all(folder)?;
        println!("installing webtorrent-cli into {}", folder.display());
        // Without the scripts of the packages nothing is built, and nothing runs unseen.
        let words = "install --ignore-scripts --no-audit --no-fund --loglevel=error --prefix";
        let status = Command::new("npm")
            .args(words.split(' '))
            .arg(folder)
            .args([WEBTORRENT.to_owned(), format!("node-{platform}@22")])
            .current_dir(folder)
            .status()
            .context("cannot run npm")?;
        ensure!(status.success(), "npm install: {status}");
    }
    // Its WebRTC is a C++ add-on. Without one it is a client of TCP and uTP, as in the tests.
    let stub = folder.join("node_modules/webrtc-polyfill/index.js");
    std::fs::write(&stub, NO_WEBRTC).with_context(|| format!("cannot write {}", stub.display()))?;
    let node = folder.join("node");
    if !node.exists() {
        let own = folder.join(format!("node_modules/node-{platform}/bin/node"));
        std::os::unix::fs::symlink(own, node)?;
    }
    folder.canonicalize().context("the folder was made")
}

const WEBTORRENT: &str = "webtorrent-cli@6.0.1";
const NO_WEBRTC: &str = "\
export const RTCPeerConnection = undefined
export const RTCSessionDescription = undefined
export const RTCIceCandidate = undefined
export default {}
";

/// The rqbit that `DUNLIN_RQBIT` names, or one that is built in `folder`. Returns the program.
fn rqbit(folder: &Path) -> Result<PathBuf> {
    if let Some(own) = std::env::var_os("DUNLIN_RQBIT") {
        return Ok(PathBuf::from(own));
    }
    let program = folder.join("bin/rqbit");
    if !program.is_file() {
        let words = ["install", "--locked", "rqbit", "--version", RQBIT, "--root"];
        let status = Command::new(env!("CARGO"))
            .args(words)
            .arg(folder)
            .env("CARGO_TARGET_DIR", folder.join("build"))
            .status()?;
        ensure!(status.success(), "cargo install rqbit: {status}");
    }
    program.canonicalize().context("rqbit was built")
}

const RQBIT: &str = "9.1.0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_client_and_a_direction_and_what_failed_is_not_the_same() {
        let mut table = Table::default();
        table.read("test x ... CELL\tAria2\t1.36.0\tseeds to us\tTorrent\tHttp\t1.0");
        table.read("CELL\tAria2\t1.36.0\tseeds to us\tMagnet\tHttp\tfailed");
        table.read("CELL\tAria2\t1.36.0\tseeds to us\tTorrent\tUdp\t2.0");
        table.read("ok");
        let markdown = table.markdown();
        let row = "| Aria2 | 1.36.0 | seeds to us | 1.0 | failed | 2.0 | missing | **no** |";
        assert_eq!(markdown.lines().nth(2), Some(row));
        table.read("CELL\tAria2\t1.36.0\tseeds to us\tMagnet\tHttp\t3.0");
        table.read("CELL\tAria2\t1.36.0\tseeds to us\tMagnet\tUdp\t4.0");
        let row = "| Aria2 | 1.36.0 | seeds to us | 1.0 | 3.0 | 2.0 | 4.0 | same |";
        assert_eq!(table.markdown().lines().nth(2), Some(row));
    }
}
