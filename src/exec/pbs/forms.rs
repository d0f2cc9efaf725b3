//! The forms of limits of time and memory in PBS.

use crate::batch::scheduler::{MemoryForm, TimeForm};

pub(super) const TIME: TimeForm =
    TimeForm { expects: "seconds, or a time such as `4:00:00`", example: "4:00:00", seconds };

pub(super) const MEMORY: MemoryForm = MemoryForm {
    expects: "a whole number of bytes, or one followed by `kb`, `mb`, `gb` or `tb`",
    example: "32gb",
    megabytes,
};

/// Returns a time limit in seconds: seconds, minutes:seconds, or hours:minutes:seconds. There is no word for no limit.
fn seconds(time: &str) -> Option<u64> {
    let parts: Vec<u64> = time.split(':').map(number).collect::<Option<_>>()?;
    let seconds = parts.iter().fold(0, |sum, part| sum * 60 + part);
    (parts.len() <= 3 && seconds > 0).then_some(seconds)
}

/// Returns the megabytes of a size such as `32gb`, rounded up.
fn megabytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let amount = number(digits).filter(|amount| *amount > 0)?;
    match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(amount.div_ceil(1024 * 1024)),
        "kb" => Some(amount.div_ceil(1024)),
        "mb" => Some(amount),
        "gb" => amount.checked_mul(1024),
        "tb" => amount.checked_mul(1024 * 1024),
        _ => None,
    }
}

fn number(digits: &str) -> Option<u64> {
    let is_number = (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read() {
        assert_eq!(["90", "1:30", "4:00:00"].map(seconds), [Some(90), Some(90), Some(14_400)]);
        assert_eq!(["", "0", "1-12:00:00", "1:2:3:4", "4h", "-5"].map(seconds), [None; 6]);
        assert_eq!(
            ["32gb", "1048577", "512mb", "1TB"].map(megabytes),
            [Some(32_768), Some(2), Some(512), Some(1 << 20)]
        );
        assert_eq!(["32G", "1.5gb", "0", "gb", "32 gb"].map(megabytes), [None; 5]);
    }
}
