//! Sets of tasks of an array, in the notation of schedulers: `0-3,7`.

use std::fmt;
use std::ops::RangeInclusive;

/// The indices of tasks of an array, as ranges in ascending order without gaps of length zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tasks(Vec<RangeInclusive<u32>>);

impl Tasks {
    /// Parses `0-3,7` and `0-8:2`, optionally followed by a limit as in `0-3%2`; returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Tasks> {
        let list = text.split('%').next()?;
        let ranges: Vec<Vec<RangeInclusive<u32>>> = list.split(',').map(parse_ranges).collect::<Option<_>>()?;
        Some(Tasks::from_ranges(ranges.into_iter().flatten().collect()))
    }

    fn from_ranges(mut ranges: Vec<RangeInclusive<u32>>) -> Tasks {
        ranges.sort_by_key(|range| *range.start());
        let mut joined: Vec<RangeInclusive<u32>> = vec![];
        for range in ranges {
            match joined.last_mut() {
                Some(last) if *range.start() <= last.end().saturating_add(1) => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => joined.push(range),
            }
        }
        Tasks(joined)
    }

    /// Returns the tasks of several sets.
    pub fn union<'a>(sets: impl IntoIterator<Item = &'a Tasks>) -> Tasks {
        Tasks::from_ranges(sets.into_iter().flat_map(|set| set.0.iter().cloned()).collect())
    }

    pub fn ranges(&self) -> &[RangeInclusive<u32>] {
        &self.0
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().cloned().flatten()
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|range| (range.end() - range.start()) as usize + 1).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the largest index.
    pub fn last(&self) -> Option<u32> {
        self.0.last().map(|range| *range.end())
    }
}

impl From<RangeInclusive<u32>> for Tasks {
    fn from(range: RangeInclusive<u32>) -> Tasks {
        Tasks(vec![range])
    }
}

fn parse_ranges(text: &str) -> Option<Vec<RangeInclusive<u32>>> {
    let (range, step) = match text.split_once(':') {
        Some((range, step)) => (range, step.parse().ok().filter(|step| *step > 0)?),
        None => (text, 1),
    };
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let range: RangeInclusive<u32> = first.parse().ok()?..=last.parse().ok()?;
    match step {
        _ if range.is_empty() => None,
        1 => Some(vec![range]),
        step => Some(range.step_by(step).map(|task| task..=task).collect()),
    }
}

impl fmt::Display for Tasks {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match range.start() == range.end() {
                true => write!(formatter, "{comma}{}", range.start())?,
                false => write!(formatter, "{comma}{}-{}", range.start(), range.end())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_joined_and_written() {
        let set = Tasks::parse("7,0-3,4%2").unwrap();
        assert_eq!((set.to_string().as_str(), set.len(), set.last()), ("0-4,7", 6, Some(7)));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 7]);
        assert_eq!(Tasks::union([&set, &Tasks::from(5..=6)]).to_string(), "0-7");
        assert_eq!(Tasks::union([&set, &Tasks::from(9..=9)]).to_string(), "0-4,7,9");
        assert_eq!(Tasks::parse("0-8:4,10").unwrap().to_string(), "0,4,8,10");
        for wrong in ["N/A", "0-4:0", "", "3-1", "1,", "0-9,..."] {
            assert_eq!(Tasks::parse(wrong), None, "{wrong}");
        }
    }
}
