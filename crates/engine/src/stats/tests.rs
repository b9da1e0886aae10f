use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

use super::*;

#[test]
fn two_meters_fit_into_a_peer() {
    assert!(size_of::<RateMeter>() <= 200);
}

#[test]
fn a_steady_stream_has_its_rate_in_every_window() {
    let mut meter = RateMeter::new(at(0.0));
    for tenth in 1..=600 {
        meter.add(at(f64::from(tenth) / 10.0), 1000);
    }
    let now = at(60.0);
    for window in [1, 5, 10, 20] {
        let rate = meter.rate_over(now, window);
        assert!((9_900..=11_000).contains(&rate), "{window} s: {rate}");
    }
    assert_eq!(meter.total(), 600_000);
}

#[test]
fn the_window_forgets_what_is_older() {
    let mut meter = RateMeter::new(at(0.0));
    meter.add(at(0.5), 20_000);
    meter.add(at(30.5), 0);
    assert_eq!(meter.rate(at(30.5)), 0);
    let mut meter = RateMeter::new(at(0.0));
    meter.add(at(100.0), 20_000);
    assert_eq!(meter.rate(at(119.9)), 1000);
    assert_eq!(meter.rate_over(at(109.9), 10), 2000);
    // The oldest second slides out smoothly.
    assert_eq!(meter.rate(at(120.5)), 500);
    assert_eq!(meter.rate(at(121.0)), 0);
    assert_eq!(meter.rate(at(1e6)), 0);
    assert_eq!(meter.total(), 20_000);
}

#[test]
fn a_young_meter_divides_by_its_age_and_by_a_second_at_least() {
    let mut meter = RateMeter::new(at(50.0));
    meter.add(at(50.01), 16_384);
    assert_eq!(meter.rate(at(50.01)), 16_384);
    assert_eq!(meter.rate(at(52.0)), 8192);
    assert_eq!(meter.rate(at(54.0)), 4096);
}

#[test]
fn a_fresh_meter_and_a_backward_clock_are_harmless() {
    let mut meter = RateMeter::new(at(50.0));
    assert_eq!(meter.rate(at(50.0)), 0);
    assert_eq!(meter.rate(at(0.0)), 0);
    meter.add(at(60.0), 100);
    meter.add(at(55.0), 100);
    assert_eq!(meter.total(), 200);
    assert!(meter.rate(at(60.0)) >= 10);
}

#[test]
fn no_count_overflows() {
    let mut meter = RateMeter::new(at(0.0));
    for s in 0..40 {
        meter.add(at(f64::from(s)), u64::MAX);
    }
    assert_eq!(meter.rate(at(39.9)), u64::MAX);
    assert_eq!(meter.total(), u64::MAX);
}

proptest! {
    // The model keeps every add; buckets may be off by what the border seconds hold.
    #[test]
    fn the_rate_is_that_of_a_meter_that_remembers_everything(
        adds in prop::collection::vec((0..30_000u64, 0..100_000u64), 0..80),
        wait in 0..30_000u64,
        window in 1..=20u64,
    ) {
        let start = at(7.0);
        let mut meter = RateMeter::new(start);
        let mut model = Vec::new();
        let mut now = start;
        for (ms, bytes) in adds {
            now += Duration::from_millis(ms / 10);
            meter.add(now, bytes);
            model.push((now, bytes));
        }
        now += Duration::from_millis(wait);
        let within = |span: Duration| -> u64 {
            model.iter().filter(|(at, _)| now.since(*at) < span).map(|(_, bytes)| bytes).sum()
        };
        let age = now.since(start).max(Duration::from_secs(1));
        let span = age.min(Duration::from_secs(window));
        let bytes = meter.rate_over(now, window) as f64 * span.as_secs_f64();
        let least = within(Duration::from_secs(window - 1)) as f64;
        let most = within(Duration::from_secs(window + 1)) as f64;
        prop_assert!(bytes >= least - 21.0 && bytes <= most + 21.0, "{least} {bytes} {most}");
        prop_assert_eq!(meter.total(), model.iter().map(|(_, bytes)| bytes).sum::<u64>());
    }
}

fn at(s: f64) -> Instant {
    Instant::from_micros((s * 1e6) as u64)
}
