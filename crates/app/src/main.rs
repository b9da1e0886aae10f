//! The `dunlin` command.
//!
//! Reads what was typed ([`args`]), what a file and the environment add ([`config`]), runs one
//! command (a file each in [`cli`]) and turns its [`Failure`] into a line and an exit code.

#![allow(unreachable_pub, reason = "a binary: there is no outside")]

mod args;
mod clean;
mod cli;
mod config;
mod content;
mod data;
mod events;
mod failure;
mod invitation;
mod logs;
mod options;
mod peers;
mod progress;
mod quantity;
mod screen;
mod select;
mod settings;
mod signals;
mod source;
mod story;
mod torrent_maker;
mod transfer;
mod tree;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use args::{Cli, Command, Global, Refusal};
use config::Config;
use failure::Failure;

fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(Refusal::Text(text)) => {
            let _ = text.print();
            return ExitCode::from(u8::try_from(text.exit_code()).unwrap_or(2));
        }
        Err(Refusal::Wrong(failure)) => return end(&Err(failure), false),
    };
    let json = cli.global.log_format.as_deref() == Some("json");
    end(&run(cli), json)
}

fn run(cli: Cli) -> Result<(), Failure> {
    let mut config = Config::default();
    if !matches!(cli.command, Command::Peer(_)) {
        let file = cli.global.config.clone().or_else(config::default_file);
        if let Some(file) = file {
            config.add_file(&file)?;
        }
        config.add_environment(environment())?;
    }
    let context = Context {
        config,
        global: cli.global,
    };
    match cli.command {
        Command::Get(args) => cli::get::run(&args, context),
        Command::Seed(args) => cli::seed::run(&args, context),
        Command::Share(args) => cli::share::run(&args, context),
        Command::Create(args) => cli::create::run(args, &context),
        Command::Show(args) => cli::show::run(&args, context),
        Command::Verify(args) => cli::verify::run(&args, context),
        Command::Link(args) => cli::link::run(&args, context),
        Command::Completions(args) => cli::completions::run(&args),
        Command::Man(args) => cli::man::run(&args),
        Command::Peer(args) => cli::peer::run(&args, context),
        Command::Tracker(args) => cli::tracker::run(args, context),
        Command::Demo(args) => cli::demo::run(&args, context),
        Command::Options => screen::out(options::markdown().trim_end()),
    }
}

/// What every command knows.
#[derive(Debug)]
struct Context {
    config: Config,
    global: Global,
}

impl Context {
    /// Starts the log of a command that has no log file of its own.
    fn start_logs_here(&mut self, port: u16) -> Result<(), Failure> {
        self.start_logs(None, Path::new(""), port)
    }

    /// Starts the log. `file` is where it goes unless the user said otherwise; `port` replaces
    /// `{port}` in its name, and relative names start at `dir`.
    fn start_logs(&mut self, file: Option<&str>, dir: &Path, port: u16) -> Result<(), Failure> {
        self.global.add_to(&mut self.config)?;
        let given = self.config.given("log.file");
        let file: Option<PathBuf> = given
            .or(file)
            .map(|name| dir.join(name.replace("{port}", &port.to_string())));
        let level = self.config.text("log.level");
        let filter = match (self.global.quiet, self.global.verbose) {
            _ if self.config.given_by_hand("log.level") => level,
            (true, _) => "error",
            (false, 0) => level,
            (false, 1) => "debug",
            (false, _) => "trace",
        };
        logs::start(&logs::Setup {
            filter,
            json: self.config.text("log.format") == "json",
            file: file.as_deref().map(|file| (file, level)),
        })
    }
}

fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        Some((
            name.into_string().ok()?,
            value.to_string_lossy().into_owned(),
        ))
    })
}

fn end(result: &Result<(), Failure>, json: bool) -> ExitCode {
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    screen::clear();
    if json {
        let line = serde_json::json!({ "level": "ERROR", "message": failure.message });
        screen::note(&line.to_string());
    } else {
        screen::note(&format!("error: {failure}"));
    }
    ExitCode::from(failure.code.number())
}
