//! The forms of limits of time and memory in Slurm.

use crate::batch::scheduler::{MemoryForm, TimeForm};

pub(super) const TIME: TimeForm =
    TimeForm { expects: "minutes, or a time such as `4:00:00` or `1-12:00:00`", example: "4:00:00", seconds };

pub(super) const MEMORY: MemoryForm =
    MemoryForm { expects: "a whole number, optionally followed by `K`, `M`, `G` or `T`", example: "32G", megabytes };

/// Returns a time limit in seconds, 0 for none: minutes, minutes:seconds, hours:minutes:seconds, days-hours,
/// days-hours:minutes, days-hours:minutes:seconds, or a word for no limit.
fn seconds(time: &str) -> Option<u64> {
    if ["unlimited", "infinite"].contains(&time.to_lowercase().as_str()) {
        return Some(0);
    }
    // Slurm counts no further.
    const LONGEST: u64 = i32::MAX as u64;
    let number = |text: &str| {
        let is_number = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (days, rest) = match time.split_once('-') {
        Some((days, rest)) => (Some(number(days)?), rest),
        None => (None, time),
    };
    let parts = rest.split(':').map(number).collect::<Option<Vec<_>>>()?;
    let (hours, minutes, seconds) = match (days, parts.as_slice()) {
        (None, [minutes]) => (0, *minutes, 0),
        (None, [minutes, seconds]) => (0, *minutes, *seconds),
        (Some(_), [hours]) => (*hours, 0, 0),
        (Some(_), [hours, minutes]) => (*hours, *minutes, 0),
        (_, [hours, minutes, seconds]) => (*hours, *minutes, *seconds),
        _ => return None,
    };
    let seconds = ((days.unwrap_or(0) * 24 + hours) * 60 + minutes) * 60 + seconds;
    (seconds <= LONGEST).then_some(seconds)
}

/// Returns the megabytes of an amount as `sbatch --mem` takes it: `4000`, `64G`, `64GB`.
fn megabytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_uppercase();
    let is_number = (1..=12).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let amount: u64 = digits.parse().ok().filter(|_| is_number)?;
    match unit.trim_end_matches('B') {
        "K" => Some(amount.div_ceil(1024)),
        "" if unit.is_empty() => Some(amount),
        "M" => Some(amount),
        "G" => amount.checked_mul(1024),
        "T" => amount.checked_mul(1024 * 1024),
        _ => None,
    }
}
