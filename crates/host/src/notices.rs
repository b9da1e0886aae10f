//! The way out for alerts and metadata. It never waits: a listener that does not keep up loses the
//! small talk and keeps what matters.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::Duration;

use dunlin_engine::{Alert, TorrentKey};

/// What happened, and when, since the start.
#[derive(Debug)]
pub enum Notice {
    Alert {
        at: Duration,
        alert: Alert,
    },
    /// The info dictionary of a magnet, as the info hash names it. It waits for
    /// [`Handle::promote`](crate::Handle::promote).
    Metadata {
        at: Duration,
        torrent: TorrentKey,
        info: Arc<[u8]>,
    },
}

#[derive(Debug)]
pub(crate) struct Notices {
    out: SyncSender<Notice>,
    /// What matters and found no room.
    late: VecDeque<Notice>,
    lost: u64,
}

impl Notices {
    pub(crate) fn new() -> (Self, Receiver<Notice>) {
        let (out, receiver) = mpsc::sync_channel(NOTICES_MAX);
        let notices = Self {
            out,
            late: VecDeque::new(),
            lost: 0,
        };
        (notices, receiver)
    }

    pub(crate) fn send(&mut self, notice: Notice) {
        self.send_late();
        if self.late.is_empty() {
            self.try_send(notice);
        } else {
            self.keep(notice);
        }
    }

    /// Sends what found no room before; whether something is still waiting.
    pub(crate) fn send_late(&mut self) -> bool {
        for _ in 0..self.late.len() {
            let Some(notice) = self.late.pop_front() else {
                break;
            };
            match self.out.try_send(notice) {
                Ok(()) => {}
                Err(TrySendError::Full(notice)) => {
                    self.late.push_front(notice);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => self.late.clear(),
            }
        }
        !self.late.is_empty()
    }

    /// Alerts that nobody will hear of.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    fn try_send(&mut self, notice: Notice) {
        match self.out.try_send(notice) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(notice)) => self.keep(notice),
        }
    }

    fn keep(&mut self, notice: Notice) {
        if matters(&notice) && self.late.len() < LATE_MAX {
            self.late.push_back(notice);
        } else {
            self.lost += 1;
        }
    }
}

/// What a listener waits for, rather than watches. Bounded by the
/// number of torrents, files and peers, and by [`LATE_MAX`].
fn matters(notice: &Notice) -> bool {
    let alert = match notice {
        Notice::Metadata { .. } => return true,
        Notice::Alert { alert, .. } => alert,
    };
    match alert {
        Alert::AlreadyAdded { .. }
        | Alert::PeerCompleted { .. }
        | Alert::FileCompleted { .. }
        | Alert::Complete { .. }
        | Alert::DiskFailed { .. } => true,
        Alert::Connected { .. }
        | Alert::Disconnected { .. }
        | Alert::Dialling { .. }
        | Alert::DialFailed { .. }
        | Alert::Refused { .. }
        | Alert::PieceDone { .. }
        | Alert::PieceFailed { .. }
        | Alert::PeerBanned { .. }
        | Alert::MetadataDone { .. }
        | Alert::MetadataFailed { .. }
        | Alert::Preferred { .. }
        | Alert::Choke { .. }
        | Alert::Interest { .. }
        | Alert::Listens { .. }
        | Alert::SuperSeeding { .. }
        | Alert::Announced { .. }
        | Alert::AnnounceFailed { .. }
        | Alert::TrackerWarning { .. }
        | Alert::Stalled { .. }
        | Alert::Flowing { .. } => false,
    }
}

/// Alerts that wait for the listener.
const NOTICES_MAX: usize = 4096;
const LATE_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use dunlin_engine::event::{DiskError, DiskErrorKind};

    use super::*;

    fn notice(matters: bool) -> Notice {
        let torrent = TorrentKey(1);
        let alert = if matters {
            Alert::DiskFailed {
                torrent,
                error: DiskError {
                    kind: DiskErrorKind::Full,
                    path: "x".into(),
                    message: "no space".to_owned(),
                },
            }
        } else {
            Alert::TrackerWarning {
                torrent,
                url: String::new(),
                message: String::new(),
            }
        };
        Notice::Alert {
            at: Duration::ZERO,
            alert,
        }
    }

    #[test]
    fn a_listener_that_sleeps_loses_only_small_talk() {
        let (mut notices, receiver) = Notices::new();
        for _ in 0..NOTICES_MAX + 10 {
            notices.send(notice(false));
        }
        notices.send(notice(true));
        assert_eq!(notices.lost(), 10);
        assert_eq!(receiver.try_iter().count(), NOTICES_MAX);
        assert!(!notices.send_late());
        let kept: Vec<Notice> = receiver.try_iter().collect();
        assert!(matches!(
            kept[..],
            [Notice::Alert {
                alert: Alert::DiskFailed { .. },
                ..
            }]
        ));
    }
}
