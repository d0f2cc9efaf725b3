//! How many panels make a picture, and what stands over them.

use crate::study::report::tables::remaining_text;
use crate::study::sweep::Axes;

/// A panel of a figure: its place in the grid, and the lines over it, of which the first is bold.
pub struct Panel {
    pub row: usize,
    pub column: usize,
    pub heading: Vec<String>,
}

/// The first groups, and the sentence for the caption that says so, if there are more than make a picture.
pub fn limited<T>(mut groups: Vec<T>, most: usize, name: &str) -> (Vec<T>, Option<String>) {
    let total = groups.len();
    groups.truncate(most);
    let left_out = (total > most).then(|| format!("Only the first {most} of {total} {name} are drawn."));
    (groups, left_out)
}

pub fn level_text(level: u32, ratio: Option<f64>) -> String {
    match ratio {
        Some(_) => format!("level {level}, {} remaining", remaining_text(ratio)),
        None => format!("level {level}"),
    }
}

/// None of a study without axes.
pub fn axes_text(axes: &Axes) -> Option<String> {
    let values: Vec<String> = axes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_said() {
        assert_eq!(limited(vec![1, 2], 2, "levels"), (vec![1, 2], None));
        let said = Some("Only the first 2 of 3 levels are drawn.".to_string());
        assert_eq!(limited(vec![1, 2, 3], 2, "levels"), (vec![1, 2], said));
    }
}
