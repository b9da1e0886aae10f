//! Quantities and names as people read them, the same in every log.

use std::time::Duration;

/// `134.2 MB`: decimal, three or four digits.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1e3;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

pub fn show_rate(bytes_per_s: u64) -> String {
    format!("{}/s", show_bytes(bytes_per_s))
}

/// `1 peer`, `2 peers`.
pub fn count(number: usize, what: &str) -> String {
    if number == 1 {
        format!("1 {what}")
    } else {
        format!("{number} {what}s")
    }
}

/// `8.2 s`, `3m 05s`, `2h 07m`, `4d 03h`.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 99.95 {
        return format!("{seconds:.1} s");
    }
    let seconds = duration.as_secs_f64().round() as u64;
    let (big, big_unit, small, small_unit) = match seconds {
        0..3_600 => (seconds / 60, 'm', seconds % 60, 's'),
        3_600..86_400 => (seconds / 3_600, 'h', seconds % 3_600 / 60, 'm'),
        _ => (seconds / 86_400, 'd', seconds % 86_400 / 3_600, 'h'),
    };
    format!("{big}{big_unit} {small:02}{small_unit}")
}

/// A peer id as text: what is not printable becomes a dot.
pub fn shown_id(id: &[u8; 20]) -> String {
    id.iter()
        .map(|&byte| {
            if byte.is_ascii_graphic() {
                char::from(byte)
            } else {
                '.'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_well() {
        assert_eq!(show_bytes(0), "0 B");
        assert_eq!(show_bytes(999), "999 B");
        assert_eq!(show_bytes(134_217_728), "134.2 MB");
        assert_eq!(show_bytes(999_960), "1.0 MB");
        assert_eq!(show_rate(10_000_000), "10.0 MB/s");
        assert_eq!(show_duration(Duration::from_millis(15_120)), "15.1 s");
        assert_eq!(show_duration(Duration::from_secs(185)), "3m 05s");
        assert_eq!(show_duration(Duration::from_secs(7_620)), "2h 07m");
        assert_eq!(
            shown_id(b"-DL0100-\x00\xffabcdefghij"),
            "-DL0100-..abcdefghij"
        );
    }
}
