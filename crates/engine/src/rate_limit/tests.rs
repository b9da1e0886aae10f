use proptest::prelude::{Strategy, prop, prop_assert, prop_oneof, proptest};

use super::*;

/// Sends blocks whenever the buckets allow one byte, and records when. `granularity` is how seldom
/// the sender looks, if it looks more seldom than the bucket asks for.
fn saturate(
    levels: &mut [&mut RateLimiter],
    from: Instant,
    length: Duration,
    granularity: Duration,
) -> Vec<(Instant, u64)> {
    let mut sent = Vec::new();
    let mut now = from;
    while now < from + length {
        while available_of(now, levels) > 0 {
            take_of(levels, BLOCK_AND_HEADER);
            sent.push((now, BLOCK_AND_HEADER));
        }
        let shared: Vec<&RateLimiter> = levels.iter().map(|level| &**level).collect();
        let due = next_at_of(&shared, 1).unwrap();
        assert!(due > now, "a sender would spin");
        now = due.max(now + granularity);
    }
    sent
}

fn total(sent: &[(Instant, u64)]) -> u64 {
    sent.iter().map(|(_, bytes)| bytes).sum()
}

/// The most that went in any second.
fn busiest_second(sent: &[(Instant, u64)]) -> u64 {
    let mut first = 0;
    let mut within = 0;
    let mut most = 0;
    for &(at, bytes) in sent {
        within += bytes;
        while at.since(sent[first].0) >= Duration::from_secs(1) {
            within -= sent[first].1;
            first += 1;
        }
        most = most.max(within);
    }
    most
}

#[test]
fn the_mean_is_the_limit_and_no_second_exceeds_it_by_a_quarter() {
    for rate in [
        100_000,
        150_000,
        1_000_000,
        10_000_000,
        123_456_789,
        500_000_000,
    ] {
        for granularity_us in [0, 100, 10_000, 200_000] {
            let mut limiter = RateLimiter::new(Some(rate), Instant::START);
            // What goes in the very last sleep is not seen: it has to be little of the whole.
            let seconds = if rate < 1_000_000 || granularity_us > 10_000 {
                40
            } else {
                10
            };
            let sent = saturate(
                &mut [&mut limiter],
                Instant::START,
                Duration::from_secs(seconds),
                Duration::from_micros(granularity_us),
            );
            // Nobody sleeps longer than a bucket holds without losing something.
            if rate >= 1_000_000 || granularity_us <= 10_000 {
                let mean = total(&sent) as f64 / seconds as f64;
                let off = mean / rate as f64 - 1.0;
                assert!(
                    off.abs() <= 0.01,
                    "{rate} B/s every {granularity_us} us: {off:+.4}"
                );
            }
            let most = busiest_second(&sent);
            let allowed = (rate / 4).max(2 * BLOCK_AND_HEADER) + rate;
            assert!(most <= allowed, "{rate} B/s: {most} B in one second");
        }
    }
}

#[test]
fn what_was_saved_in_a_pause_is_a_quarter_of_a_second() {
    let rate = 1_000_000;
    let mut limiter = RateLimiter::new(Some(rate), Instant::START);
    let from = at_s(3600);
    let sent = saturate(
        &mut [&mut limiter],
        from,
        Duration::from_secs(10),
        Duration::ZERO,
    );
    assert!(busiest_second(&sent) <= rate * 5 / 4);
    let at_once = sent.iter().filter(|(at, _)| *at == from).count() as u64;
    assert!(
        at_once * BLOCK_AND_HEADER > rate / 5,
        "a pause saves something"
    );
}

#[test]
fn an_unlimited_bucket_never_waits() {
    let mut limiter = RateLimiter::new(None, Instant::START);
    limiter.take(u64::MAX);
    limiter.take(u64::MAX);
    assert_eq!(limiter.available(Instant::START), u64::MAX);
    assert_eq!(limiter.next_at(u64::MAX), None);
}

#[test]
fn a_limit_of_zero_lets_nothing_pass() {
    let mut limiter = RateLimiter::new(Some(0), Instant::START);
    assert_eq!(limiter.available(at_s(1_000_000)), 0);
    assert_eq!(limiter.next_at(1), Some(Instant::from_micros(u64::MAX)));
}

#[test]
fn a_new_bucket_is_empty() {
    let mut limiter = RateLimiter::new(Some(1_000_000), at_s(7));
    assert_eq!(limiter.available(at_s(7)), 0);
}

#[test]
fn next_at_is_the_very_microsecond() {
    for (rate, want) in [
        (1_000_000, 16_397),
        (77_777, 1),
        (3, 2),
        (1_000_000_000, 5_000_000),
    ] {
        let mut limiter = RateLimiter::new(Some(rate), Instant::START);
        let due = limiter.next_at(want).unwrap();
        let early = due - Duration::from_micros(1);
        assert!(limiter.clone().available(early) < want, "{rate} {want}");
        assert!(limiter.available(due) >= want, "{rate} {want}");
        assert_eq!(limiter.next_at(want), Some(due), "it is there already");
    }
}

#[test]
fn who_wants_more_than_a_bucket_holds_waits_until_it_is_full() {
    let mut limiter = RateLimiter::new(Some(100_000), Instant::START);
    let due = limiter.next_at(u64::MAX).unwrap();
    assert_eq!(limiter.available(due), BLOCK_AND_HEADER);
    assert_eq!(limiter.available(at_s(100)), BLOCK_AND_HEADER);
}

#[test]
fn a_debt_delays_what_comes_next() {
    let mut limiter = RateLimiter::new(Some(1_000_000), Instant::START);
    let now = at_s(1);
    let available = limiter.available(now);
    limiter.take(available + 10_000);
    assert_eq!(limiter.available(now), 0);
    assert_eq!(
        limiter.next_at(1),
        Some(now + Duration::from_micros(10_001))
    );
}

#[test]
fn a_refund_makes_it_undone_but_saves_no_more_than_the_depth() {
    let mut limiter = RateLimiter::new(Some(1_000_000), Instant::START);
    let full = limiter.available(at_s(5));
    limiter.take(50_000);
    limiter.refund(20_000);
    assert_eq!(limiter.available(at_s(5)), full - 30_000);
    limiter.refund(u64::MAX);
    assert_eq!(limiter.available(at_s(5)), full);
}

#[test]
fn a_changed_limit_holds_from_now_on() {
    let mut limiter = RateLimiter::new(Some(10_000_000), Instant::START);
    limiter.set(Some(200_000), at_s(10));
    assert_eq!(limiter.limit(), Some(200_000));
    let sent = saturate(
        &mut [&mut limiter],
        at_s(10),
        Duration::from_secs(20),
        Duration::ZERO,
    );
    assert!(total(&sent) <= 200_000 * 20 + 50_000);
    limiter.set(None, at_s(40));
    assert_eq!(limiter.available(at_s(40)), u64::MAX);
    limiter.set(Some(1_000_000), at_s(50));
    assert_eq!(
        limiter.available(at_s(50)),
        0,
        "nothing was saved while unlimited"
    );
}

#[test]
fn the_narrowest_level_decides() {
    let mut session = RateLimiter::new(Some(1_000_000), Instant::START);
    let mut torrent = RateLimiter::new(Some(300_000), Instant::START);
    let ten = Duration::from_secs(10);
    let sent = saturate(
        &mut [&mut session, &mut torrent],
        Instant::START,
        ten,
        Duration::ZERO,
    );
    assert!((total(&sent) as f64 / 3_000_000.0 - 1.0).abs() <= 0.01);
    let mut wide = RateLimiter::new(None, at_s(10));
    let sent = saturate(
        &mut [&mut session, &mut wide],
        at_s(10),
        ten,
        Duration::ZERO,
    );
    assert!((total(&sent) as f64 / 10_250_000.0 - 1.0).abs() <= 0.01);
    assert_eq!(available_of(at_s(20), &mut []), u64::MAX);
    assert_eq!(next_at_of(&[&wide], 1), None);
}

#[test]
fn whoever_is_ahead_of_those_that_wait_is_stopped_and_nobody_else() {
    let limiter = RateLimiter::new(Some(1_000_000), Instant::START);
    let [first, second] = [TorrentKey(1), TorrentKey(2)];
    let mut turns = Turns::default();
    assert_eq!(turns.room(first, &limiter), u64::MAX);
    turns.wait(second);
    let lead = turns.room(first, &limiter);
    assert_eq!(lead, LEAD_MIN);
    turns.take(first, lead);
    assert_eq!(turns.room(first, &limiter), 0);
    // It waits too, and the other one takes as much.
    turns.wait(first);
    turns.go(second);
    turns.take(second, lead);
    turns.wait(second);
    assert_eq!(turns.room(first, &limiter), LEAD_MIN);
    // The other one wants nothing more.
    turns.go(second);
    assert_eq!(turns.room(first, &limiter), u64::MAX);
    let unlimited = RateLimiter::new(None, Instant::START);
    turns.wait(second);
    assert_eq!(turns.room(first, &unlimited), u64::MAX);
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    /// Takes what is there and this much more.
    Take(u64),
    TakeSome(u64),
    Refund(u64),
    Set(Option<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_000_000u64).prop_map(Step::Wait),
        4 => (0..BLOCK_AND_HEADER).prop_map(Step::Take),
        4 => (0..100_000u64).prop_map(Step::TakeSome),
        1 => (0..BLOCK_AND_HEADER).prop_map(Step::Refund),
        1 => prop::option::of(0..50_000_000u64).prop_map(Step::Set),
    ]
}

proptest! {
    #[test]
    fn no_span_sees_more_than_its_limit_and_a_bucket(
        rate in 0..50_000_000u64,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut now = Instant::START;
        let mut limiter = RateLimiter::new(Some(rate), now);
        let mut limit = Some(rate);
        // Allowed since the bucket was last empty by definition, and taken since then.
        let mut allowed = 0u128;
        let mut taken = 0u128;
        let mut depth = (rate / 4).max(2 * BLOCK_AND_HEADER);
        for step in steps {
            match step {
                Step::Wait(us) => {
                    now += Duration::from_micros(us);
                    allowed += u128::from(limit.unwrap_or(0)) * u128::from(us);
                }
                Step::Take(more) => if limit.is_some() {
                    let available = limiter.available(now);
                    if available > 0 {
                        limiter.take(available + more);
                        taken += u128::from(available + more) * 1_000_000;
                    }
                },
                Step::TakeSome(bytes) => if limit.is_some() {
                    let bytes = bytes.min(limiter.available(now));
                    limiter.take(bytes);
                    taken += u128::from(bytes) * 1_000_000;
                },
                Step::Refund(bytes) => if limit.is_some() {
                    let bytes = u128::from(bytes).min(taken / 1_000_000);
                    limiter.refund(bytes as u64);
                    taken -= bytes * 1_000_000;
                },
                Step::Set(new) => {
                    limiter.set(new, now);
                    limit = new;
                    depth = depth.max(new.unwrap_or(0) / 4);
                }
            }
            prop_assert!(taken <= allowed + u128::from(depth) * 1_000_000);
            if let Some(rate) = limit {
                prop_assert!(limiter.available(now) <= (rate / 4).max(BLOCK_AND_HEADER));
                let due = limiter.next_at(1).unwrap();
                prop_assert!((limiter.available(now) > 0) == (due <= now));
            }
        }
    }
}

fn at_s(s: u64) -> Instant {
    Instant::START + Duration::from_secs(s)
}
