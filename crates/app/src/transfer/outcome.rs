//! What is left to say when the transfers are over.

use std::time::Duration;

use dunlin_host::{HostError, ListenErrorKind};

use crate::failure::{Code, Failure};
use crate::options::SeedGoal;
use crate::quantity::{show_bytes, show_duration, show_rate};
use crate::screen;

use super::Plan;
use super::work::{Stage, Work};

/// Paths of finished downloads on stdout, what was given back on stderr.
pub fn tell(plan: &Plan, works: &[Work]) -> Result<(), Failure> {
    for work in works {
        let Stage::Running { since, .. } = work.stage else {
            continue;
        };
        let went_on = work.complete.is_some_and(|at| at.elapsed() >= WENT_ON);
        if work.complete.is_none() || went_on {
            tracing::info!(target: "dunlin", "{}", ended(work, since.elapsed()));
        }
        if work.complete.is_none() {
            continue;
        }
        if !plan.events.is_on()
            && let Some(path) = &work.path
        {
            let path = path.strip_prefix(".").unwrap_or(path);
            screen::out(&path.to_string_lossy())?;
        }
        if !plan.quiet {
            screen::note(&given_back(plan, work));
        }
    }
    Ok(())
}

/// What a finished download does longer than this deserves a line of its own.
const WENT_ON: Duration = Duration::from_secs(1);

/// Peers that the last line names.
const BEST_PEERS: usize = 5;

/// The last line about a transfer that is not simply complete.
fn ended(work: &Work, time: Duration) -> String {
    let what = if work.item.is_download() {
        work.state()
    } else {
        work.item.name()
    };
    let time_shown = show_duration(time);
    let Some(snapshot) = &work.snapshot else {
        return format!("ended: {what} in {time_shown}");
    };
    let mean = |bytes: u64| (bytes as f64 / time.as_secs_f64().max(0.001)) as u64;
    let (down, up) = (mean(snapshot.downloaded), mean(snapshot.uploaded));
    let wasted = snapshot.duplicate + snapshot.failed_hash;
    let mut best: Vec<(u64, String)> = snapshot
        .peers
        .iter()
        .map(|peer| (peer.downloaded + peer.uploaded, peer.addr.to_string()))
        .filter(|&(bytes, _)| bytes > 0)
        .collect();
    best.sort_unstable_by(|a, b| b.cmp(a));
    let best: Vec<String> = best
        .into_iter()
        .take(BEST_PEERS)
        .map(|(bytes, addr)| format!("{addr} {}", show_bytes(bytes)))
        .collect();
    let best = if best.is_empty() {
        "none".to_owned()
    } else {
        best.join(", ")
    };
    format!(
        "ended: {what} in {time_shown}; down {} (mean {}, peak {}), up {} (mean {}, peak {}); \
         useful {}, duplicate {}, failed {}; ratio {:.2}; best peers: {best}",
        show_bytes(snapshot.downloaded),
        show_rate(down),
        // What is over in a moment has no second to peak in.
        show_rate(work.peak.down.max(down)),
        show_bytes(snapshot.uploaded),
        show_rate(up),
        show_rate(work.peak.up.max(up)),
        show_bytes(snapshot.downloaded.saturating_sub(wasted)),
        show_bytes(snapshot.duplicate),
        show_bytes(snapshot.failed_hash),
        work.ratio(),
    )
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
        HostError::Listen(error) => {
            let code = match error.kind {
                ListenErrorKind::InUse => Code::Conflict,
                ListenErrorKind::NotOurs => Code::NotFound,
                ListenErrorKind::Permission => Code::Refused,
                ListenErrorKind::Other => Code::Other,
            };
            Failure::new(code, error)
        }
        HostError::Network(error) => Failure::usage(error),
        HostError::Randomness(_) | HostError::System(_) => Failure::new(Code::Other, error),
    }
}
