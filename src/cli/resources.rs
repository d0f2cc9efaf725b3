//! Options that override `resources` of the sweep file: they hold what the file may hold.

use winsign_sweep::check_number;

/// Parses `--jobs`.
pub(crate) fn jobs(text: &str) -> Result<u32, String> {
    whole("resources.jobs", text)
}

/// Parses `--ranks`.
pub(crate) fn ranks(text: &str) -> Result<u32, String> {
    whole("resources.ranks", text)
}

/// Parses `--threads`.
pub(crate) fn threads(text: &str) -> Result<u32, String> {
    whole("resources.threads", text)
}

/// Parses `--gpus`; 0 overrides a sweep file that asks for GPUs.
pub(crate) fn gpus(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(0.0) => Ok(0.0),
        Ok(number) => check_number("resources.gpus", number).map(|()| number).map_err(|error| format!("{error}, or 0")),
        Err(_) => Err(format!("{}, or 0", check_number("resources.gpus", f64::NAN).unwrap_err())),
    }
}

fn whole(path: &str, text: &str) -> Result<u32, String> {
    let number = text.parse().unwrap_or(f64::NAN);
    check_number(path, number).map(|()| number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_bounds_of_sweep_file() {
        assert_eq!((jobs("4096"), ranks("1"), threads("1024")), (Ok(4096), Ok(1), Ok(1024)));
        for wrong in ["0", "4097", "1.5", "-1", "many", ""] {
            assert_eq!(jobs(wrong), Err("must be a whole number from 1 to 4,096".to_string()), "{wrong}");
        }
        assert_eq!((gpus("0"), gpus("0.25"), gpus("1024")), (Ok(0.0), Ok(0.25), Ok(1024.0)));
        for wrong in ["2.5", "-1", "1025", "all", "NaN"] {
            let error = gpus(wrong).unwrap_err();
            assert!(error.contains("a whole number up to 1,024, or 0"), "{wrong}: {error}");
        }
    }
}
