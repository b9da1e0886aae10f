use super::*;

/// A torrent with so many connected peers at each stage.
fn scene(peers: PeerStages) -> Scene {
    let PeerStages {
        greeting,
        useless,
        choking,
        rejecting,
        ready,
        asked,
        ..
    } = peers;
    Scene {
        connected: greeting + useless + choking + rejecting + ready + asked,
        peers,
        open: asked,
        ..Scene::default()
    }
}

fn choking(choking: usize, choking_seeds: usize) -> PeerStages {
    PeerStages {
        choking,
        choking_seeds,
        ..PeerStages::default()
    }
}

fn asked() -> PeerStages {
    PeerStages {
        asked: 2,
        gave: true,
        ..PeerStages::default()
    }
}

fn ready(hold: Option<Hold>) -> Scene {
    let peers = PeerStages {
        ready: 1,
        ..PeerStages::default()
    };
    Scene {
        hold,
        ..scene(peers)
    }
}

#[test]
fn the_peer_that_has_come_furthest_names_the_cause() {
    let mut peers = PeerStages::default();
    let mut causes = Vec::new();
    let mut look = |peers: PeerStages| causes.push(StallCause::of(&scene(peers)));
    look(peers);
    peers.greeting = 1;
    look(peers);
    peers.useless = 1;
    look(peers);
    peers.choking = 1;
    peers.choking_seeds = 1;
    look(peers);
    peers.choking = 2;
    look(peers);
    peers.rejecting = 1;
    look(peers);
    peers.ready = 1;
    look(peers);
    peers.asked = 1;
    look(peers);
    let expected = [
        StallCause::NoPeers,
        StallCause::Handshake,
        StallCause::NobodyHas,
        StallCause::SeedsBusy,
        StallCause::Choked,
        StallCause::Rejected,
        StallCause::Other,
        StallCause::Asked,
    ];
    assert_eq!(causes, expected);
}

#[test]
fn what_stops_us_whatever_peers_do_goes_first() {
    for (phase, cause) in [
        (Phase::DiskFailed, StallCause::DiskFailed),
        (Phase::Checking, StallCause::Checking),
        (Phase::Verifying, StallCause::Verifying),
        (Phase::Metadata, StallCause::Metadata),
    ] {
        let scene = Scene {
            phase,
            ..scene(asked())
        };
        assert_eq!(StallCause::of(&scene), cause);
    }
}

#[test]
fn a_magnet_without_peers_lacks_peers_first() {
    let lonely = Scene {
        phase: Phase::Metadata,
        dialling: 1,
        ..Scene::default()
    };
    assert_eq!(StallCause::of(&lonely), StallCause::Dialling);
}

#[test]
fn without_peers_the_nearest_one_names_the_cause() {
    let scene = |known, dialling, tracker| Scene {
        known,
        dialling,
        tracker,
        ..Scene::default()
    };
    for (lonely, cause) in [
        (scene(0, 0, TrackerStanding::None), StallCause::NoPeers),
        (scene(0, 0, TrackerStanding::Answered), StallCause::NoPeers),
        (scene(0, 0, TrackerStanding::Asked), StallCause::NoTracker),
        (scene(0, 0, TrackerStanding::Failing), StallCause::NoTracker),
        (
            scene(3, 0, TrackerStanding::Failing),
            StallCause::Unreachable,
        ),
        (scene(3, 1, TrackerStanding::Failing), StallCause::Dialling),
    ] {
        assert_eq!(StallCause::of(&lonely), cause, "{lonely:?}");
    }
}

#[test]
fn who_could_be_asked_and_is_not_is_held_back_by_us() {
    for (hold, cause) in [
        (Some(Hold::Disk), StallCause::DiskSlow),
        (Some(Hold::Memory), StallCause::Memory),
        (Some(Hold::RateLimit), StallCause::RateLimit),
        (Some(Hold::Verdict), StallCause::Verifying),
        (None, StallCause::Other),
    ] {
        assert_eq!(StallCause::of(&ready(hold)), cause);
    }
}

#[test]
fn an_answer_that_is_late_is_put_down_to_silence_limits_the_end_or_slowness() {
    let late = |waits_s, change: fn(&mut Scene)| {
        let mut scene = Scene {
            waits: Duration::from_secs(waits_s),
            ..scene(asked())
        };
        change(&mut scene);
        StallCause::of(&scene)
    };
    assert_eq!(late(1, |_| {}), StallCause::Slow);
    assert_eq!(late(1, |scene| scene.peers.gave = false), StallCause::Asked);
    assert_eq!(late(3, |scene| scene.peers.gave = false), StallCause::Slow);
    assert_eq!(
        late(3, |scene| scene.is_endgame = true),
        StallCause::EndGame
    );
    let limited = |scene: &mut Scene| {
        scene.hold = Some(Hold::RateLimit);
        scene.is_endgame = true;
    };
    assert_eq!(late(3, limited), StallCause::RateLimit);
    assert_eq!(late(10, limited), StallCause::Silent);
}

#[test]
fn codes_are_words_of_their_own() {
    let codes: std::collections::BTreeSet<&str> =
        StallCause::ALL.iter().map(|cause| cause.code()).collect();
    assert_eq!(codes.len(), StallCause::ALL.len());
    let is_word = |code: &&str| code.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    assert!(codes.iter().all(is_word));
    for (index, cause) in StallCause::ALL.iter().enumerate() {
        assert_eq!(cause.index(), index);
    }
}

#[test]
fn a_stall_says_who_and_which_piece() {
    let mut view = scene(PeerStages {
        useless: 2,
        ..choking(12, 1)
    });
    view.has_pieces = true;
    let layout = dunlin_metainfo::Layout::new(
        1 << 14,
        [dunlin_metainfo::FileSpan {
            len: 100 << 14,
            pad: false,
        }],
    );
    view.missing = layout.unwrap().piece(77);
    let stall = Stall::of(view);
    assert_eq!(
        stall.to_string(),
        "choked by 12 of 14 peers: they upload to faster ones; nobody has piece 77"
    );
    assert_eq!(stall.short(), "choked by 12 of 14");
}

#[test]
fn every_cause_has_a_sentence_and_a_short_form_that_fits() {
    let big = 99_999;
    let view = Scene {
        known: big,
        dialling: big,
        connected: big,
        open: big,
        peers: PeerStages {
            choking: big,
            choking_seeds: big,
            asked: big,
            ..PeerStages::default()
        },
        ..Scene::default()
    };
    let mut said = std::collections::BTreeSet::new();
    for cause in StallCause::ALL {
        let stall = Stall { cause, scene: view };
        assert!(said.insert(stall.to_string()), "{cause:?}");
        let short = stall.short();
        assert!(
            !short.is_empty() && short.len() <= sentence::SHORT_MAX,
            "{short}"
        );
    }
}

fn tell(clock: &mut StallClock, second: u64, cause: StallCause) -> bool {
    let scene = Scene::default();
    clock.on_stalled(second, Stall { cause, scene }) == Some(StallNews::Stalled)
}

#[test]
fn a_stall_is_told_after_three_seconds_and_again_when_its_cause_changes() {
    let mut clock = StallClock::default();
    let told: Vec<bool> = (0..6)
        .map(|second| tell(&mut clock, second, StallCause::Choked))
        .collect();
    assert_eq!(told, [false, false, true, false, false, false]);
    assert!(!tell(&mut clock, 6, StallCause::NobodyHas));
    assert!(tell(&mut clock, 7, StallCause::NobodyHas));
    assert_eq!(clock.on_flowing(), Some(StallNews::Over(8)));
    assert_eq!(clock.on_flowing(), None);
    assert_eq!(clock.counts().of(StallCause::Choked), 6);
    assert_eq!(clock.counts().total(), 8);
}

#[test]
fn a_stall_that_comes_and_goes_is_not_told_each_time() {
    let mut clock = StallClock::default();
    let mut told = 0;
    for second in 0..60 {
        if second % 6 == 5 {
            clock.on_flowing();
        } else {
            told += u32::from(tell(&mut clock, second, StallCause::Slow));
        }
    }
    assert_eq!(told, 2);
}

#[test]
fn seconds_in_which_the_machine_slept_do_not_count() {
    let mut clock = StallClock::default();
    assert_eq!(clock.due(3), 0..3);
    assert_eq!(clock.due(3), 3..3);
    assert_eq!(clock.due(4000), 3980..4000);
    assert_eq!(clock.due(3999), 3999..3999);
}

/// Code and second column of each row of a section of docs/explain.md.
fn rows(section: &str) -> Vec<(&'static str, &'static str)> {
    let page = include_str!("../../../../docs/explain.md");
    let mut sections = page.split("\n## ");
    let text = sections
        .find(|text| text.starts_with(section))
        .unwrap_or_else(|| panic!("no section {section}"));
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let code = cells.next()?.trim_end_matches('`');
        Some((code, cells.next()?.trim_end_matches(" |")))
    });
    rows.collect()
}

#[test]
fn the_page_lists_every_cause_in_its_order() {
    let causes: Vec<&str> = StallCause::ALL.iter().map(|cause| cause.code()).collect();
    let listed: Vec<&str> = rows("Stalled seconds").iter().map(|row| row.0).collect();
    assert_eq!(listed, causes);
}

/// The rows of a section are these reasons, in this order, but for those whose words vary.
#[track_caller]
fn expect_rows<R: std::fmt::Display>(section: &str, reasons: &[R], code: fn(&R) -> &'static str) {
    // What was violated, why we were refused.
    let varying = ["violation", "refused"];
    let listed = rows(section).into_iter();
    let listed: Vec<(&str, String)> = listed
        .filter(|(code, _)| !varying.contains(code))
        .map(|(code, words)| (code, words.to_owned()))
        .collect();
    let reasons = reasons
        .iter()
        .map(|reason| (code(reason), reason.to_string()));
    assert_eq!(listed, reasons.collect::<Vec<_>>(), "{section}");
}

#[test]
fn the_page_lists_why_we_choke_dial_and_refuse() {
    use crate::reason::{ChokeReason, DialReason, RefuseReason};
    let chokes = [
        ChokeReason::Preferred,
        ChokeReason::Drawn,
        ChokeReason::RoundRobin,
        ChokeReason::Optimistic,
        ChokeReason::Newcomer,
        ChokeReason::FreeSlot,
        ChokeReason::OthersFaster,
        ChokeReason::OthersDrawn,
        ChokeReason::SlotsElsewhere,
        ChokeReason::TurnOver,
        ChokeReason::NotInterested,
        ChokeReason::Snubbed,
        ChokeReason::PeerDecided,
    ];
    let dials = [
        DialReason::User,
        DialReason::Tracker,
        DialReason::Pex,
        DialReason::Retry,
    ];
    let refusals = [
        RefuseReason::UnknownTorrent,
        RefuseReason::ConnectionLimit,
        RefuseReason::AddressLimit,
        RefuseReason::NetworkLimit,
        RefuseReason::Banned,
        RefuseReason::Duplicate,
        RefuseReason::SelfConnection,
        RefuseReason::TorrentStopped,
    ];
    expect_rows("Chokes", &chokes, |reason| reason.code());
    expect_rows("Dials", &dials, |reason| reason.code());
    expect_rows("Refusals", &refusals, |reason| reason.code());
}

#[test]
fn the_page_lists_why_connections_end() {
    use crate::reason::CloseReason;
    let farewells = [
        CloseReason::RemoteClosed,
        CloseReason::ConnectionRefused,
        CloseReason::TimedOut,
        CloseReason::Silent(120),
        CloseReason::Unreachable,
        CloseReason::Io("what the system said".to_owned()),
        CloseReason::SelfConnection,
        CloseReason::Duplicate,
        CloseReason::WrongInfoHash,
        CloseReason::Banned,
        CloseReason::BothSeeds,
        CloseReason::LeastUseful,
        CloseReason::Idle(600),
        CloseReason::SaysTooMuch,
        CloseReason::ReadsTooSlowly,
        CloseReason::ReadsNothing,
        CloseReason::TooManyRejects,
        CloseReason::Unrequested,
        CloseReason::RequestFlood,
        CloseReason::PexFlood,
        CloseReason::TorrentStopped,
    ];
    expect_rows("Farewells", &farewells, CloseReason::code);
}
