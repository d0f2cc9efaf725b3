//! Names and numbers in messages.

use winsign_core::text::{code_point, deceptive, printable};

/// Returns a text of the file as it appears in messages, shortened.
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 40;
    let shown: String = text.chars().take(LONGEST).collect();
    let more = if text.chars().nth(LONGEST).is_some() { "…" } else { "" };
    let mut shown = printable(&shown);
    for character in deceptive(&shown.clone()) {
        shown = shown.replace(character, &format!("<{}>", code_point(character)));
    }
    format!("`{shown}{more}`")
}

/// Returns names as they appear in messages.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// Returns the known name that was probably meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A name is no longer than this; the distance of a text of a megabyte would take minutes.
    if name.len() > 64 {
        return None;
    }
    let tolerated = (name.chars().count() / 3).clamp(1, 3);
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerated)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns a number with separated thousands: 1,234,567.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
