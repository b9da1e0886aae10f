use super::*;

/// A torrent's announces, with a clock that jumps to the next deadline. A tracker is named by its
/// URL.
struct Story {
    announcer: Announcer,
    now: Instant,
}

/// Tiers are separated by `|`, the trackers of a tier by spaces.
fn story(tiers: &str) -> Story {
    let tiers = tiers
        .split('|')
        .map(|tier| tier.split_whitespace().map(str::to_owned).collect())
        .collect();
    let now = at(1000);
    Story {
        announcer: Announcer::new(tiers, &mut Rng::new(5), now),
        now,
    }
}

impl Story {
    /// Waits for the deadline and asks. The answer is how long that took, whom, and what.
    fn ask(&mut self) -> (u64, TrackerKey, String, AnnounceEvent) {
        let due = self
            .announcer
            .deadline()
            .expect("something is due")
            .max(self.now);
        if due > self.now {
            assert_eq!(
                self.announcer.poll(due - Duration::from_micros(1)),
                None,
                "too early"
            );
        }
        let waited = due.since(self.now).as_secs();
        self.now = due;
        let (key, url, event) = self.announcer.poll(due).expect("it is due");
        assert_eq!(self.announcer.deadline(), None, "one request at a time");
        assert_eq!(
            self.announcer.poll(due + secs(3600)),
            None,
            "one request at a time"
        );
        (waited, key, url, event)
    }

    /// Asks, and the tracker answers with an interval of 100 s.
    fn succeed(&mut self) -> (u64, String, AnnounceEvent) {
        self.succeed_with(100, None)
    }

    fn succeed_with(&mut self, interval_s: u64, min: Option<u64>) -> (u64, String, AnnounceEvent) {
        let (waited, key, url, event) = self.ask();
        self.announcer
            .on_reply(self.now, key, secs(interval_s), min.map(secs));
        (waited, url, event)
    }

    fn fail(&mut self) -> (u64, String, AnnounceEvent) {
        let (waited, key, url, event) = self.ask();
        self.announcer.on_failure(self.now, key);
        (waited, url, event)
    }

    fn wait_until_due(&self) -> Duration {
        self.announcer.deadline().unwrap().since(self.now)
    }
}

fn told(waited: u64, url: &str, event: AnnounceEvent) -> (u64, String, AnnounceEvent) {
    (waited, url.to_owned(), event)
}

#[test]
fn the_first_announce_is_started_and_the_next_ones_follow_the_interval() {
    let mut story = story("a");
    assert_eq!(story.succeed_with(1800, None), told(0, "a", Started));
    assert_eq!(story.succeed_with(7, None), told(1800, "a", REGULAR));
    assert_eq!(story.succeed(), told(7, "a", REGULAR));
}

#[test]
fn intervals_stay_between_a_second_and_an_hour() {
    let mut story = story("a");
    story.succeed_with(1_000_000_000, None);
    assert_eq!(story.wait_until_due(), secs(3600));
    story.succeed_with(2, Some(1_000_000_000));
    assert_eq!(story.wait_until_due(), secs(3600));
    story.succeed_with(1, None);
    assert_eq!(story.wait_until_due(), secs(1));
    story.succeed_with(0, None);
    assert_eq!(story.wait_until_due(), secs(1800), "none was named");
    let (_, key, ..) = story.ask();
    story
        .announcer
        .on_reply(story.now, key, Duration::from_millis(1), None);
    assert_eq!(story.wait_until_due(), secs(1));
}

#[test]
fn the_interval_is_never_below_the_minimum_that_the_tracker_names() {
    let mut story = story("a");
    story.succeed_with(10, Some(60));
    assert_eq!(story.wait_until_due(), secs(60));
}

#[test]
fn a_torrent_without_trackers_has_nothing_to_say() {
    let mut story = story(" | ");
    assert_eq!(story.announcer.deadline(), None);
    assert_eq!(story.announcer.poll(at(5000)), None);
    story.announcer.want_peers(story.now);
    story.announcer.completed(story.now);
    story.announcer.stop(story.now);
    assert!(story.announcer.is_stopped());
    assert_eq!(story.announcer.poll(at(5000)), None);
}

#[test]
fn every_tracker_is_tried_at_once_tier_after_tier() {
    let mut story = story("a b c | d e");
    let mut asked: Vec<_> = (0..5)
        .map(|_| {
            let (waited, url, event) = story.fail();
            assert_eq!((waited, event), (0, Started));
            url
        })
        .collect();
    asked[..3].sort();
    asked[3..].sort();
    assert_eq!(asked, ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_tier_is_shuffled_and_keys_name_the_listed_place() {
    let mut firsts = BTreeSet::new();
    for seed in 0..50 {
        let tiers = vec![vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]];
        let mut announcer = Announcer::new(tiers, &mut Rng::new(seed), at(0));
        let (key, url, _) = announcer.poll(at(0)).unwrap();
        let place = ["a", "b", "c"]
            .iter()
            .position(|name| *name == url)
            .unwrap();
        assert_eq!((key.tier, key.index), (0, place as u16));
        firsts.insert(url);
    }
    assert_eq!(firsts.len(), 3);
}

#[test]
fn who_answers_moves_to_the_front_of_its_tier() {
    let mut story = story("a b c");
    let (_, first, _) = story.fail();
    let (_, second, _) = story.succeed();
    assert_ne!(first, second);
    assert_eq!(story.succeed(), told(100, &second, REGULAR));
    assert_eq!(story.fail(), told(100, &second, REGULAR));
    // The rest of the tier follows in its old order.
    assert_eq!(story.fail(), told(0, &first, Started));
}

#[test]
fn an_earlier_tier_is_tried_again_at_each_announce() {
    let mut story = story("a | b");
    assert_eq!(story.fail(), told(0, "a", Started));
    assert_eq!(story.succeed(), told(0, "b", Started));
    assert_eq!(story.fail(), told(100, "a", Started));
    assert_eq!(story.succeed(), told(0, "b", REGULAR));
    assert_eq!(story.succeed(), told(100, "a", Started));
    assert_eq!(story.succeed(), told(100, "a", REGULAR));
}

#[test]
fn when_all_trackers_fail_they_rest_for_a_time_that_doubles_up_to_half_an_hour() {
    let mut story = story("a | b");
    let mut rests = Vec::new();
    for _ in 0..14 {
        story.fail();
        story.fail();
        rests.push(story.wait_until_due().as_secs_f64());
    }
    for (round, &rest) in rests.iter().enumerate() {
        let whole = (5.0 * f64::powi(2.0, round as i32)).min(1800.0);
        assert!(
            (whole..=whole * 1.5).contains(&rest),
            "round {round}: {rest} s"
        );
    }
    assert!(rests.iter().any(|rest| rest.fract() != 0.0), "no jitter");
    // An answer makes them forget it.
    story.fail();
    story.succeed();
    story.fail();
    story.fail();
    assert!(story.wait_until_due() <= Duration::from_millis(7500));
}

#[test]
fn completion_is_told_once() {
    let mut story = story("a");
    story.succeed();
    story.now += secs(10);
    story.announcer.completed(story.now);
    assert_eq!(story.succeed(), told(0, "a", Completed));
    story.announcer.completed(story.now);
    assert_eq!(story.succeed(), told(100, "a", REGULAR));
    assert_eq!(story.succeed(), told(100, "a", REGULAR));
}

#[test]
fn who_never_finished_here_never_says_completed() {
    let mut story = story("a b");
    for round in 0..10 {
        let (.., event) = if round % 3 == 0 {
            story.fail()
        } else {
            story.succeed()
        };
        assert_ne!(event, Completed);
    }
}

#[test]
fn completion_before_the_first_answer_waits_for_it() {
    let mut story = story("a");
    let (_, key, ..) = story.ask();
    story.announcer.completed(story.now);
    story.announcer.on_reply(story.now, key, secs(100), None);
    assert_eq!(story.succeed(), told(0, "a", Completed));
    assert_eq!(story.succeed(), told(100, "a", REGULAR));
}

#[test]
fn completion_that_nobody_heard_is_told_to_the_next_tracker() {
    let mut story = story("a | b");
    story.succeed();
    story.announcer.completed(story.now);
    assert_eq!(story.fail(), told(0, "a", Completed));
    assert_eq!(story.succeed(), told(0, "b", Started));
    assert_eq!(story.fail(), told(0, "a", Completed));
    assert_eq!(story.succeed(), told(0, "b", Completed));
    assert_eq!(story.succeed(), told(100, "a", REGULAR));
}

#[test]
fn completion_does_not_break_a_rest() {
    let mut story = story("a");
    story.succeed();
    story.fail();
    let due = story.announcer.deadline();
    story.announcer.completed(story.now);
    assert_eq!(story.announcer.deadline(), due);
    assert_eq!(story.succeed().2, Completed);
}

#[test]
fn stopped_goes_to_the_tracker_that_answered_last() {
    let mut story = story("a | b");
    story.fail();
    story.succeed();
    story.now += secs(1);
    story.announcer.stop(story.now);
    assert!(!story.announcer.is_stopped());
    assert_eq!(story.succeed(), told(0, "b", Stopped));
    assert!(story.announcer.is_stopped());
    assert_eq!(story.announcer.deadline(), None);
    assert_eq!(story.announcer.poll(at(100_000)), None);
}

#[test]
fn stopped_is_not_said_to_a_tracker_that_never_heard_of_us() {
    for started_in_flight in [false, true] {
        let mut story = story("a");
        let key = started_in_flight.then(|| story.ask().1);
        story.announcer.stop(story.now);
        assert!(story.announcer.is_stopped());
        if let Some(key) = key {
            story.announcer.on_reply(story.now, key, secs(100), None);
        }
        assert!(story.announcer.is_stopped());
        assert_eq!(story.announcer.poll(at(100_000)), None);
    }
}

#[test]
fn a_tracker_that_does_not_hear_stopped_is_not_asked_again() {
    let mut story = story("a b");
    story.succeed();
    story.announcer.stop(story.now);
    assert_eq!(story.fail().2, Stopped);
    assert!(story.announcer.is_stopped());
}

#[test]
fn stopping_gives_up_the_request_in_flight() {
    let mut story = story("a");
    story.succeed();
    let (_, key, ..) = story.ask();
    story.announcer.stop(story.now);
    let (waited, stop_key, _, event) = story.ask();
    assert_eq!((waited, stop_key, event), (0, key, Stopped));
    // The first answer belongs to the request that was given up.
    story.announcer.on_reply(story.now, key, secs(100), None);
    assert!(!story.announcer.is_stopped());
    story.announcer.on_reply(story.now, key, secs(100), None);
    assert!(story.announcer.is_stopped());
}

#[test]
fn who_starves_announces_early_but_not_before_the_tracker_allows_it() {
    for (min, early) in [(None, 15), (Some(40), 40), (Some(1), 5), (Some(0), 5)] {
        let mut story = story("a");
        story.succeed_with(1800, None);
        story.succeed_with(1800, min);
        for seconds in 0..3 {
            story.announcer.want_peers(story.now + secs(seconds));
        }
        assert_eq!(story.wait_until_due(), secs(early), "{min:?}");
        assert_eq!(story.succeed().2, REGULAR);
    }
}

#[test]
fn who_starves_late_announces_at_once_and_a_near_announce_is_not_put_off() {
    let mut story = story("a");
    story.succeed_with(1800, Some(60));
    story.now += secs(600);
    story.announcer.want_peers(story.now);
    assert_eq!(story.wait_until_due(), secs(0));
    story.succeed_with(3, None);
    story.announcer.want_peers(story.now);
    assert_eq!(story.wait_until_due(), secs(3));
}

#[test]
fn starving_disturbs_neither_a_rest_nor_a_request_nor_the_end() {
    let mut story = story("a");
    story.announcer.want_peers(story.now);
    for _ in 0..6 {
        story.fail();
    }
    let due = story.announcer.deadline();
    story.announcer.want_peers(story.now + secs(1));
    assert_eq!(story.announcer.deadline(), due);
    let (_, key, ..) = story.ask();
    story.announcer.want_peers(story.now);
    assert_eq!(story.announcer.deadline(), None);
    story.announcer.on_reply(story.now, key, secs(100), None);
    story.announcer.stop(story.now);
    story.succeed();
    story.announcer.want_peers(story.now);
    assert_eq!(story.announcer.deadline(), None);
}

#[test]
fn answers_that_nobody_waits_for_change_nothing() {
    let mut story = story("a | b");
    let stranger = TrackerKey { tier: 9, index: 9 };
    story.announcer.on_reply(story.now, stranger, secs(5), None);
    story.announcer.on_failure(story.now, stranger);
    assert_eq!(story.succeed(), told(0, "a", Started));
    story
        .announcer
        .on_failure(story.now, TrackerKey { tier: 0, index: 0 });
    assert_eq!(story.wait_until_due(), secs(100));
    let (_, key, ..) = story.ask();
    story
        .announcer
        .on_reply(story.now, TrackerKey { tier: 1, index: 0 }, secs(5), None);
    assert_eq!(
        story.announcer.deadline(),
        None,
        "the request is still in flight"
    );
    story.announcer.on_failure(story.now, key);
    assert_eq!(story.succeed(), told(0, "b", Started));
}

#[test]
fn repeated_and_excess_trackers_are_left_out() {
    let mut story = story("a a | a | b");
    assert_eq!(story.fail().1, "a");
    assert_eq!(story.fail().1, "b");
    assert!(story.wait_until_due() >= secs(5));
    let many = vec![(0..10_000).map(|n| format!("http://{n}/")).collect()];
    let announcer = Announcer::new(many, &mut Rng::new(1), at(0));
    assert_eq!(announcer.tiers[0].len(), TRACKERS_MAX);
}

const REGULAR: AnnounceEvent = AnnounceEvent::None;
use AnnounceEvent::{Completed, Started, Stopped};

fn at(s: u64) -> Instant {
    Instant::START + secs(s)
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[test]
fn trackers_that_come_later_are_tried_behind_the_others() {
    let mut story = story("a");
    let more = vec![vec!["a".to_owned(), String::new()], vec!["b".to_owned()]];
    story.announcer.add(more, story.now);
    assert_eq!(story.fail(), told(0, "a", Started));
    assert_eq!(story.succeed(), told(0, "b", Started));
}

#[test]
fn the_first_tracker_is_asked_at_once_whenever_it_comes() {
    let mut story = story("");
    assert_eq!(story.announcer.deadline(), None);
    story.now += secs(60);
    story.announcer.add(vec![vec!["a".to_owned()]], story.now);
    assert_eq!(story.succeed(), told(0, "a", Started));
}
