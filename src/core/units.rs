//! Formatting of times, memory and numbers.

/// Formats a time: `12 s`, `8 min`, `3.4 h`, `2.5 days`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        ..99.5 => format!("{seconds:.0} s"),
        ..5970.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

/// Formats an amount of memory: `412 MB`, `1.3 GB`.
pub fn bytes(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        ..999.5e6 => format!("{:.0} MB", bytes / 1e6),
        _ => format!("{:.1} GB", bytes / 1e9),
    }
}

/// Formats a number with about three digits: `0.25`, `12.3`, `1240`.
pub fn number(number: f64) -> String {
    let text = match number {
        ..9.995 => format!("{number:.2}"),
        ..99.95 => format!("{number:.1}"),
        _ => return format!("{number:.0}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits_and_a_unit() {
        let times = [0.2, 99.4, 99.6, 5969.0, 5971.0, 100_000.0, 200_000.0].map(duration);
        assert_eq!(times, ["0 s", "99 s", "2 min", "99 min", "1.7 h", "27.8 h", "2.3 days"]);
        assert_eq!([412_000_000, 999_600_000, 80_000_000_000].map(bytes), ["412 MB", "1.0 GB", "80.0 GB"]);
        let numbers = [0.0, 0.254, 9.5, 9.999, 40.53, 100.0, 1240.4].map(number);
        assert_eq!(numbers, ["0", "0.25", "9.5", "10", "40.5", "100", "1240"]);
    }
}
