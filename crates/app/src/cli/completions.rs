//! `dunlin completions`: the script that makes a shell complete our commands and flags.

use clap::{Command, CommandFactory};

use crate::args::{Cli, Completions};
use crate::failure::{Code, Failure};
use crate::screen;

pub fn run(args: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut visible(&Cli::command()),
        "dunlin",
        &mut script,
    );
    let script = String::from_utf8(script).map_err(|error| Failure::new(Code::Other, error))?;
    screen::out(script.trim_end())
}

/// The same without what is hidden, which a generator would offer all the same.
fn visible(command: &Command) -> Command {
    let shown = Command::new(command.get_name().to_owned())
        .about(command.get_about().cloned().unwrap_or_default())
        .disable_help_subcommand(true)
        .args(command.get_arguments().filter(|arg| !arg.is_hide_set()))
        .subcommands(
            command
                .get_subcommands()
                .filter(|sub| !sub.is_hide_set())
                .map(visible),
        );
    match command.get_version() {
        Some(version) => shown.version(version.to_owned()),
        None => shown,
    }
}
