//! `dunlin verify`: is the data what the torrent says?

use dunlin_host::check::CheckReport;
use dunlin_metainfo::Torrent;
use serde_json::json;

use crate::args::Verify;
use crate::clean::{clean, clean_json};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::quantity::show_bytes;
use crate::signals::Interrupt;
use crate::{Context, content, data, screen, settings, source};

pub fn run(args: &Verify, mut context: Context) -> Result<(), Failure> {
    if args.threads == Some(0) {
        return Err(Failure::usage(
            "--threads 0 would never end; write 1 or more",
        ));
    }
    args.way.add_to(&mut context.config)?;
    let torrent = source::load(&args.torrent, &settings::network(&context.config))?;
    let dir = content::folder_of(&torrent, args.content.as_deref())?;
    let interrupt = Interrupt::install()?;
    let mut progress = Progress::new(context.global.quiet);
    let report = dunlin_host::storage::verify(
        &torrent,
        &dir,
        args.threads.unwrap_or_else(data::cores),
        &mut |at| progress.bytes("verifying", at.done_bytes, at.total_bytes),
        interrupt.flag(),
    )
    .map_err(|error| data::storage_failure(&torrent, &error))?;
    drop(progress);
    if args.json {
        screen::out(&clean_json(&document(&torrent, &report)))?;
    }
    if report.bad_pieces > 0 {
        return Err(data::incomplete(&torrent, &report));
    }
    if !args.json {
        let bytes = show_bytes(torrent.layout.bytes());
        let name = clean(&torrent.name);
        screen::out(&format!(
            "{name}: all {} pieces are right ({bytes})",
            report.ok_pieces
        ))?;
    }
    Ok(())
}

fn document(torrent: &Torrent, report: &CheckReport) -> String {
    let files: Vec<_> = report
        .files
        .iter()
        .map(|file| {
            json!({
                "path": file.path.to_string_lossy(),
                "bytes": file.bytes,
                "ok_bytes": file.ok_bytes,
            })
        })
        .collect();
    let document = json!({
        "name": torrent.name,
        "info_hash_v1": torrent.info_hash.to_string(),
        "ok_pieces": report.ok_pieces,
        "bad_pieces": report.bad_pieces,
        "files": files,
    });
    format!("{document:#}")
}
