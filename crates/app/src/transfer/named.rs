//! The peers that the command line and the links of a run name, as far as their addresses are
//! known.

use std::net::SocketAddr;

use crate::failure::Failure;
use crate::peers::{Answer, Lookups, Name, is_own, literal};

use super::Plan;
use super::work::Work;

pub struct Peers {
    /// Whose they are (everybody's if none is named), and where.
    known: Vec<(Option<usize>, SocketAddr)>,
    /// Names that are being looked up.
    awaited: Vec<Option<usize>>,
    lookups: Lookups,
    own: Option<SocketAddr>,
}

impl Peers {
    pub fn start(plan: &Plan, works: &[Work]) -> Result<Self, Failure> {
        let named = plan.settings.peers.iter().map(|name| (None, name.clone()));
        let linked = works.iter().enumerate().flat_map(|(index, work)| {
            let peers = work.item.magnet().map(|magnet| magnet.peers.clone());
            let peers = peers.unwrap_or_default().into_iter();
            peers.map(move |name| (Some(index), name))
        });
        let all: Vec<(Option<usize>, Name)> = named.chain(linked).collect();
        let own = plan.own;
        let mut known = Vec::new();
        let mut names = Vec::new();
        for (work, name) in all {
            match literal(&name) {
                Some(addr) if is_foreign(own, addr) => known.push((work, addr)),
                Some(_) => {}
                None => names.push((work, name)),
            }
        }
        Ok(Self {
            known,
            awaited: names.iter().map(|(work, _)| *work).collect(),
            lookups: Lookups::start(&names)?,
            own,
        })
    }

    /// Addresses for this transfer, so far.
    pub fn known(&self, index: usize) -> Vec<SocketAddr> {
        let meant = |work: Option<usize>| work.is_none_or(|work| work == index);
        let known = self.known.iter().filter(|(work, _)| meant(*work));
        known.map(|(_, addr)| *addr).collect()
    }

    /// Whether there is a peer for this transfer, or may be when a name is looked up.
    pub fn names_some(&self, index: usize) -> bool {
        let meant = |work: &Option<usize>| work.is_none_or(|work| work == index);
        self.known.iter().any(|(work, _)| meant(work)) || self.awaited.iter().any(meant)
    }

    /// What became of names since the last time.
    pub fn take(&mut self) -> Vec<Answer> {
        let mut answers: Vec<Answer> = self.lookups.answers().collect();
        for answer in &mut answers {
            if let Some(at) = self.awaited.iter().position(|work| *work == answer.work) {
                self.awaited.swap_remove(at);
            }
            if let Ok(found) = &mut answer.found {
                for addr in found.iter_mut() {
                    addr.set_ip(addr.ip().to_canonical());
                }
                found.retain(|&addr| is_foreign(self.own, addr));
                self.known
                    .extend(found.iter().map(|&addr| (answer.work, addr)));
            }
        }
        answers
    }
}

fn is_foreign(own: Option<SocketAddr>, addr: SocketAddr) -> bool {
    own.is_none_or(|own| !is_own(&addr, &own))
}
