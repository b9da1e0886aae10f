//! The commands of the project that are not cargo's own: `cargo xtask COMMAND`.

mod interop;
mod mutate;
mod record;
mod swarm;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
usage: cargo xtask tidy                        the house rules that rustc and clippy do not know
       cargo xtask record OUT.svg COMMAND...   a terminal that runs COMMAND, as a moving picture
       cargo xtask limits                      rate limits and stalling crowds, by the clock
       cargo xtask interop [--all]             the table of real clients; all: webtorrent and rqbit too
       cargo xtask swarm [CLIENT:LEECHES...]   real swarms beside simulated ones, by the clock
       cargo xtask mutate [NAME...]            break the engine on purpose: which test notices?";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy::run(&root()?),
        ["limits"] => limits(&root()?),
        ["interop"] => interop::run(&root()?, false),
        ["interop", "--all"] => interop::run(&root()?, true),
        ["mutate", only @ ..] => mutate::run(&root()?, only),
        ["swarm", asked @ ..] => swarm::run(&root()?, asked),
        ["record", out, command @ ..] => record::run(Path::new(out), command),
        _ => bail!("{USAGE}"),
    }
}

/// Runs what is measured by the clock: a release build, one after the other, on a machine that has
/// nothing else to do.
fn limits(root: &Path) -> Result<()> {
    let words = "test --release -p dunlin --test it -- --nocapture --test-threads 1";
    let only = ["limits::", "stalls::"];
    let status = std::process::Command::new(env!("CARGO"))
        .args(words.split(' ').chain(only))
        .env("DUNLIN_MEASURE", "1")
        .current_dir(root)
        .status()?;
    if !status.success() {
        bail!("what is measured is not within its bounds; the machine was idle?");
    }
    Ok(())
}

/// The folder of the workspace. Asked for at run time: several checkouts may share a target folder.
fn root() -> Result<PathBuf> {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").context("run it as `cargo xtask`")?;
    let root = PathBuf::from(own).parent().map(PathBuf::from);
    root.context("xtask lies in the workspace")
}
