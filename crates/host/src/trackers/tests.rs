use dunlin_metainfo::{InfoHash, PeerId};

use super::*;

fn announce(url: &str, event: AnnounceEvent) -> Announce {
    Announce {
        torrent: TorrentKey(0),
        tracker: TrackerKey { tier: 0, index: 0 },
        url: url.to_owned(),
        request: AnnounceRequest {
            info_hash: InfoHash::new([0; 20]),
            peer_id: PeerId::new([0; 20]),
            port: 1,
            uploaded: 0,
            downloaded: 0,
            left: 0,
            event,
            num_want: 0,
            key: 0,
            tracker_id: None,
        },
    }
}

#[test]
fn one_slow_host_does_not_hold_up_the_others() {
    let mut queue = Queue::default();
    for _ in 0..5 {
        queue.push(announce("http://slow/announce", AnnounceEvent::None));
    }
    queue.push(announce("http://other/announce", AnnounceEvent::None));
    let hosts: Vec<String> = std::iter::from_fn(|| queue.pop())
        .map(|(host, _)| host)
        .collect();
    assert_eq!(hosts, ["slow", "slow", "other"]);
    queue.finished("slow");
    assert_eq!(queue.pop().unwrap().0, "slow");
    assert!(queue.pop().is_none());
}

#[test]
fn stopped_goes_first() {
    let mut queue = Queue::default();
    queue.push(announce("http://t/announce", AnnounceEvent::Started));
    queue.push(announce("http://t/announce", AnnounceEvent::Stopped));
    assert_eq!(queue.pop().unwrap().1.request.event, AnnounceEvent::Stopped);
}

#[test]
fn the_number_of_threads_is_bounded() {
    let mut queue = Queue::default();
    for host in 0..100 {
        queue.push(announce(
            &format!("http://t{host}/announce"),
            AnnounceEvent::None,
        ));
    }
    assert_eq!(std::iter::from_fn(|| queue.pop()).count(), RUNNING_MAX);
}

fn under_way() -> UnderWay {
    UnderWay {
        host: String::new(),
        torrent: TorrentKey(1),
        tracker: TrackerKey { tier: 0, index: 0 },
        heard: 0,
        is_answered: false,
        failure: None,
    }
}

fn answer(peers: &[&str]) -> Result<AnnounceResponse, TrackerFailure> {
    Ok(AnnounceResponse {
        peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
        ..AnnounceResponse::default()
    })
}

#[test]
fn a_tracker_elsewhere_names_nobody_on_our_loopback() {
    let kept = |tracker: &str| {
        let named = [
            "127.0.0.1:22",
            "127.9.9.9:1",
            "[::1]:80",
            "10.0.0.1:1",
            "9.1.1.1:1",
        ];
        let mut peers: Vec<SocketAddr> = named.map(|peer| peer.parse().unwrap()).into();
        drop_what_it_cannot_know(&mut peers, &[tracker.parse().unwrap()]);
        peers.len()
    };
    assert_eq!(kept("8.1.1.1:80"), 2);
    assert_eq!(kept("[2001:db8::1]:80"), 2);
    for near in ["127.0.0.1:80", "[::1]:80", "10.0.0.5:80", "[fd00::1]:80"] {
        assert_eq!(kept(near), 5, "{near}");
    }
}

#[test]
fn the_first_answer_is_the_reply_and_the_other_adds_peers() {
    let mut asked = under_way();
    let first = asked.hear(answer(&["10.0.0.1:1"]), false);
    assert!(matches!(first, Some(News::Reply { result: Ok(_), .. })));
    let Some(News::MorePeers { peers, .. }) = asked.hear(answer(&["[::1]:1"]), true) else {
        panic!("no more peers");
    };
    assert_eq!(peers, ["[::1]:1".parse().unwrap()]);
    let mut asked = under_way();
    asked.hear(answer(&[]), false);
    assert!(asked.hear(answer(&[]), true).is_none());
}

#[test]
fn a_failure_is_told_when_nobody_answered_and_only_once() {
    let mut asked = under_way();
    assert!(asked.hear(Err(failure(&"refused")), false).is_none());
    let last = asked.hear(answer(&[]), true);
    assert!(matches!(last, Some(News::Reply { result: Ok(_), .. })));

    let mut asked = under_way();
    asked.hear(answer(&[]), false);
    assert!(asked.hear(Err(failure(&"refused")), true).is_none());

    let mut asked = under_way();
    asked.hear(Err(failure(&"no way")), false);
    let words = TrackerFailure {
        message: "unknown torrent".to_owned(),
        refused: true,
    };
    let Some(News::Reply { result, .. }) = asked.hear(Err(words), true) else {
        panic!("no reply");
    };
    assert_eq!(result.unwrap_err().message, "unknown torrent");
}

fn net(listening: &[&str]) -> Net {
    Net {
        paths: Paths::ANY,
        listening: listening.iter().map(|ip| ip.parse().unwrap()).collect(),
        tls: Tls::default(),
        udp: udp::Pool::new(Patience::default()),
    }
}

#[test]
fn a_family_is_asked_if_it_could_reach_us_or_if_there_is_no_other() {
    let groups = |listening: &[&str], url: &str| net(listening).addresses(url).unwrap().1;
    // A machine without IPv6 has one group.
    let both = dns::resolve("localhost", 1).unwrap().len();
    assert_eq!(groups(&["0.0.0.0", "::"], "udp://localhost:1").len(), both);
    assert_eq!(groups(&["127.0.0.1"], "udp://localhost:1").len(), 1);
    assert_eq!(groups(&["::1"], "udp://127.0.0.1:1").len(), 1);
}

#[test]
fn a_tracker_that_cannot_be_asked_says_why() {
    let why = |url: &str| net(&["0.0.0.0"]).addresses(url).unwrap_err().message;
    assert!(why("wss://t/announce").contains("scheme"));
    // No label is that long: nobody has to be asked.
    let name = format!("{}.invalid", "x".repeat(64));
    assert!(why(&format!("udp://{name}:1")).starts_with(&format!("host not found: {name}")));
}
