//! The commands of the project that are not cargo's own: `cargo xtask COMMAND`.

mod record;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
usage: cargo xtask tidy                        the house rules that rustc and clippy do not know
       cargo xtask record OUT.svg COMMAND...   a terminal that runs COMMAND, as a moving picture";

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
        ["record", out, command @ ..] => record::run(Path::new(out), command),
        _ => bail!("{USAGE}"),
    }
}

/// The folder of the workspace. Asked for at run time: several checkouts may share a target folder.
fn root() -> Result<PathBuf> {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").context("run it as `cargo xtask`")?;
    let root = PathBuf::from(own).parent().map(PathBuf::from);
    root.context("xtask lies in the workspace")
}
