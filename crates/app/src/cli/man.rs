//! `dunlin man`: a manual page for the program and one for each command.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man as Page;

use crate::args::{Cli, Man};
use crate::failure::{Code, Failure};
use crate::screen;

pub fn run(args: &Man) -> Result<(), Failure> {
    let dir = &args.dir;
    fs::create_dir_all(dir).map_err(|error| Failure::io(dir, &error))?;
    let pages = pages()?;
    // All or nothing: a folder that holds something of somebody else's is left as it is.
    for (name, _) in &pages {
        let path = dir.join(name);
        if !may_replace(&path)? {
            return Err(Failure::new(
                Code::Conflict,
                format!(
                    "{}: exists and is no manual page of ours; remove it or choose another folder",
                    path.display()
                ),
            ));
        }
    }
    for (name, page) in &pages {
        let path = dir.join(name);
        fs::write(&path, page).map_err(|error| Failure::io(&path, &error))?;
        screen::out(&path.to_string_lossy())?;
    }
    Ok(())
}

/// Name and text of every page.
fn pages() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut command = Cli::command();
    command.build();
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    let mut pages = vec![("dunlin.1".to_owned(), page(command.clone())?)];
    for sub in shown {
        let name = format!("dunlin-{}.1", sub.get_name());
        pages.push((name, page(sub.clone())?));
    }
    Ok(pages)
}

fn page(command: Command) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    Page::new(command)
        .source(concat!("dunlin ", env!("CARGO_PKG_VERSION")))
        .render(&mut text)
        .map_err(|error| Failure::new(Code::Other, error))?;
    Ok(text)
}

/// Nothing is there, or a page that an earlier run made.
fn may_replace(path: &Path) -> Result<bool, Failure> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes
            .windows(MARK.len())
            .any(|window| window == MARK.as_bytes())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Failure::io(path, &error)),
    }
}

/// The title of every page of ours.
const MARK: &str = ".TH dunlin";
