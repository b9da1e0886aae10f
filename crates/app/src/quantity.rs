//! Sizes, rates and durations as people write and read them.
//!
//! `K`, `M`, `G` are decimal, `KiB`, `MiB`, `GiB` binary; only a piece length reads `K` and `M` as
//! binary, as every torrent maker does. Arithmetic is exact: no floating point on the way in.

use std::time::Duration;

pub use dunlin_engine::words::{count, show_bytes, show_duration, show_rate};

/// How `K`, `M`, `G` are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prefix {
    Decimal,
    Binary,
}

/// `1500`, `500K`, `1.5G`, `2MiB`.
pub fn size(text: &str) -> Result<u64, String> {
    parse_size(text, Prefix::Decimal)
}

/// A size, or `auto` for `None`.
pub fn piece_length(text: &str) -> Result<Option<u64>, String> {
    if text == "auto" {
        return Ok(None);
    }
    parse_size(text, Prefix::Binary).map(Some)
}

/// Bytes per second; `None` is unlimited.
pub fn rate(text: &str) -> Result<Option<u64>, String> {
    if text == "unlimited" {
        return Ok(None);
    }
    let text = text.strip_suffix("/s").unwrap_or(text);
    match parse_size(text, Prefix::Decimal)? {
        0 => Err("a rate of 0 moves nothing; for no limit write unlimited".to_owned()),
        rate => Ok(Some(rate)),
    }
}

/// Below this a rate is probably meant in other units, in bytes per second.
pub const RATE_SUSPICIOUS: u64 = 1000;

fn parse_size(text: &str, prefix: Prefix) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: write 500K, 2M, 1.5G (decimal) or 2MiB (binary)");
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = multiplier(unit.trim(), prefix).ok_or_else(wrong)?;
    scaled(number, unit).ok_or_else(wrong)
}

fn multiplier(unit: &str, prefix: Prefix) -> Option<u64> {
    let base: u64 = if prefix == Prefix::Binary { 1024 } else { 1000 };
    let unit = unit.to_ascii_lowercase();
    let (letter, base) = match unit.as_str() {
        "" | "b" => return Some(1),
        longer => match longer
            .strip_suffix("ib")
            .or_else(|| longer.strip_suffix('i'))
        {
            Some(letter) => (letter, 1024),
            None => (longer.strip_suffix('b').unwrap_or(longer), base),
        },
    };
    let power = match letter {
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    Some(base.pow(power))
}

/// `number` x `unit`, rounded down; `number` has digits and at most one point.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || part.is_empty() || part.contains('.') || part.len() > 18 {
        return None;
    }
    let unit = u128::from(unit);
    let whole = u128::from(whole.parse::<u64>().ok()?) * unit;
    let part = u128::from(part.parse::<u64>().ok()?) * unit / 10u128.pow(part.len() as u32);
    u64::try_from(whole + part).ok()
}

/// `30s`, `10m`, `1h30m`, `2d`, `500ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write 30s, 10m or 1h30m");
    let mut rest = text.trim();
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit_us: u64 = match unit {
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" | "min" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            _ => return Err(wrong()),
        };
        let us = scaled(number, unit_us).ok_or_else(wrong)?;
        sum = sum
            .checked_add(Duration::from_micros(us))
            .ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(sum)
}

/// A duration that may not be zero.
pub fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("an interval of 0 never ends; write 1s or more".to_owned()),
        interval => Ok(interval),
    }
}

/// `31`: how many hundredths of `of`, rounded down; all of nothing is everything.
pub fn percent(part: u64, of: u64) -> u64 {
    if of == 0 {
        100
    } else {
        (u128::from(part) * 100 / u128::from(of)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_prefixes_are_decimal_and_ib_is_binary() {
        for (text, bytes) in [
            ("0", 0),
            ("1500", 1500),
            ("500K", 500_000),
            ("500k", 500_000),
            ("2M", 2_000_000),
            ("2MB", 2_000_000),
            ("1.5G", 1_500_000_000),
            ("0.001K", 1),
            ("1KiB", 1024),
            ("2 MiB", 2 << 20),
            ("1.5GiB", 3 << 29),
            ("1T", 1_000_000_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "K",
            "-1",
            "1.",
            ".5",
            "1.2.3",
            "1X",
            "1KiBs",
            "99999999999T",
            "1e3",
            "é",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_piece_length_reads_k_as_binary() {
        assert_eq!(piece_length("256K"), Ok(Some(262_144)));
        assert_eq!(piece_length("1M"), Ok(Some(1 << 20)));
        assert_eq!(piece_length("256KiB"), Ok(Some(262_144)));
        assert_eq!(piece_length("auto"), Ok(None));
    }

    #[test]
    fn rates_may_be_unlimited_but_not_zero() {
        assert_eq!(rate("unlimited"), Ok(None));
        assert_eq!(rate("1.5M"), Ok(Some(1_500_000)));
        assert_eq!(rate("10MB/s"), Ok(Some(10_000_000)));
        assert!(rate("0").is_err());
    }

    #[test]
    fn durations_need_a_unit_and_add_up() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        for text in ["", "30", "s", "5 s", "1x", "99999999999999d", "-1s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(interval("0s").is_err());
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!(percent(31, 100), 31);
        assert_eq!(percent(0, 0), 100);
    }
}
