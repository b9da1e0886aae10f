//! What is left to say when the transfers are over.

use dunlin_host::HostError;

use crate::failure::{Code, Failure};
use crate::options::SeedGoal;
use crate::quantity::{show_bytes, show_duration};
use crate::screen;

use super::work::{Stage, Work};
use super::{Plan, shown_name};

/// Paths of finished downloads on stdout, what was given back on stderr.
pub fn tell(plan: &Plan, works: &[Work]) -> Result<(), Failure> {
    for work in works {
        let Stage::Running { since, .. } = work.stage else {
            continue;
        };
        let uploaded = work
            .snapshot
            .as_ref()
            .map_or(0, |snapshot| snapshot.uploaded);
        let name = shown_name(&work.item.torrent);
        let time = show_duration(since.elapsed());
        if !work.item.is_download() {
            let (bytes, ratio) = (show_bytes(uploaded), work.ratio());
            tracing::info!(target: "dunlin", "{name}: uploaded {bytes} in {time}, ratio {ratio:.2}");
            continue;
        }
        if work.complete.is_none() {
            tracing::info!(
                target: "dunlin",
                "stopped: {} after {time}, uploaded {}",
                work.state(),
                show_bytes(uploaded)
            );
            continue;
        }
        if !plan.events.is_on()
            && let Some(path) = &work.path
        {
            screen::out(&path.to_string_lossy())?;
        }
        if !plan.quiet {
            screen::note(&given_back(plan, work));
        }
    }
    Ok(())
}

/// `uploaded 31 %; `--seed ratio=1` keeps sharing`.
fn given_back(plan: &Plan, work: &Work) -> String {
    let ratio = work.ratio();
    let percent = if ratio.is_finite() {
        (ratio * 100.0) as u64
    } else {
        0
    };
    match plan.goal {
        SeedGoal::None if ratio < 1.0 => {
            format!("uploaded {percent} %; `--seed ratio=1` keeps sharing")
        }
        SeedGoal::None | SeedGoal::Forever | SeedGoal::Ratio(_) | SeedGoal::Time(_) => {
            format!("uploaded {percent} %")
        }
    }
}

/// Of several failures the first decides.
pub fn first_of(failed: Vec<Failure>) -> Result<(), Failure> {
    let count = failed.len();
    match failed.into_iter().next() {
        None => Ok(()),
        Some(failure) if count == 1 => Err(failure),
        Some(failure) => Err(Failure::new(
            failure.code,
            format!("{count} sources failed, the first: {failure}"),
        )),
    }
}

pub fn host_failure(error: HostError) -> Failure {
    match error {
        HostError::Listen(error) if error.is_in_use => Failure::new(Code::Conflict, error),
        HostError::Listen(error) => Failure::new(Code::Other, error),
        HostError::Randomness(_) | HostError::System(_) => Failure::new(Code::Other, error),
    }
}
