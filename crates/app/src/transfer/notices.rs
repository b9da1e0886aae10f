//! What the host tells of a run: stories, metadata, disks that fail.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use dunlin_engine::alert::Alert;
use dunlin_engine::event::{DiskError, DiskErrorKind};
use dunlin_engine::{Command, TorrentKey};
use dunlin_host::Notice;
use dunlin_host::storage::PrepareMode;

use crate::failure::{Code, Failure, disk_failure};

use super::work::{Stage, Work};
use super::{NOTICES_A_TURN, SHORT_TICK, TICK, Transfer};

impl Transfer {
    pub(super) fn take_notices(&mut self, notices: &Receiver<Notice>) -> Result<(), Failure> {
        let is_preparing = |work: &Work| matches!(work.stage, Stage::Preparing { .. });
        let tick = if self.works.iter().any(is_preparing) {
            SHORT_TICK
        } else {
            TICK
        };
        match notices.recv_timeout(tick) {
            Ok(notice) => self.on_notice(&notice)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::new(
                    Code::Other,
                    "the network thread ended; see the log",
                ));
            }
        }
        for _ in 0..NOTICES_A_TURN {
            let Ok(notice) = notices.try_recv() else {
                break;
            };
            self.on_notice(&notice)?;
        }
        Ok(())
    }

    pub(super) fn on_notice(&mut self, notice: &Notice) -> Result<(), Failure> {
        let (at, alert) = match notice {
            Notice::Alert { at, alert } => (*at, alert),
            Notice::Metadata { torrent, info, .. } => return self.on_metadata(*torrent, info),
        };
        let Some(&index) = self.by_key.get(&alert.torrent()) else {
            return Ok(());
        };
        let at = self.host_started_at + at;
        let work = &mut self.works[index];
        if !matches!(alert, Alert::Complete { .. }) || work.item.is_download() {
            work.story.tell(&self.plan.events, at, alert)?;
        }
        work.learn(alert);
        if let (Alert::PeerCompleted { peer, .. }, false, true) =
            (alert, work.item.is_download(), !self.plan.loud)
        {
            work.story.say_aloud(&format!("{peer} has everything"));
        }
        if let Alert::Complete { summary, .. } = alert
            && work.item.is_download()
        {
            let line = crate::story::summary_line(&work.item.name(), summary);
            tracing::info!(target: "dunlin", "{line}");
            work.complete = Some(Instant::now());
        } else if let Alert::DiskFailed { error, .. } = alert {
            if error.kind == DiskErrorKind::Changed && !work.item.is_download() {
                return self.check_again(index, error);
            }
            self.fail(index, disk_failure(error));
        }
        Ok(())
    }

    /// A link is a torrent now; what is here of it is the next question.
    fn on_metadata(&mut self, key: TorrentKey, info: &[u8]) -> Result<(), Failure> {
        let Some(&index) = self.by_key.get(&key) else {
            return Ok(());
        };
        let work = &mut self.works[index];
        if !matches!(work.stage, Stage::Metadata { .. }) {
            return Ok(());
        }
        self.last_byte = Instant::now();
        work.stage = Stage::Preparing { key: Some(key) };
        work.snapshot = None;
        if let Err(failure) = work.item.learn(info) {
            self.host.command(Command::Remove { torrent: key });
            self.fail(index, failure);
            return Ok(());
        }
        work.on_metadata(&self.plan.events)?;
        self.preparing.begin(index, &work.item);
        Ok(())
    }

    /// Somebody changed what is seeded: nothing of it is given away until all of it was looked at.
    fn check_again(&mut self, index: usize, error: &DiskError) -> Result<(), Failure> {
        let work = &mut self.works[index];
        let line = format!("{error}; stopped, and checking all of it again");
        work.story.warn(&self.plan.events, "changed", &line)?;
        if let Stage::Running { key, .. } = work.stage {
            self.by_key.remove(&key);
            self.host.command(Command::Remove { torrent: key });
        }
        work.stage = Stage::Preparing { key: None };
        work.item.mode = PrepareMode::Seed { check: true };
        self.preparing.begin(index, &work.item);
        Ok(())
    }
}
