//! Lists of values as the page reads them: short where values repeat, as those of ten thousand runs do.

use std::collections::HashMap;

use serde_json::{Value, json};

/// A column: `{"all": value}` where every value is the same, `{"of": values, "at": places}` where few differ, else the
/// values themselves.
pub(super) fn column(values: Vec<Value>) -> Value {
    let mut places: HashMap<&Value, usize> = HashMap::new();
    let mut distinct: Vec<&Value> = vec![];
    let mut at = Vec::with_capacity(values.len());
    for value in &values {
        let place = *places.entry(value).or_insert(distinct.len());
        if place == distinct.len() {
            distinct.push(value);
        }
        at.push(place);
    }
    let mut distinct: Vec<Value> = distinct.into_iter().cloned().collect();
    match distinct.len() {
        1 => object([("all", distinct.remove(0))]),
        several if several > 0 && 2 * several <= values.len() => object([("of", distinct.into()), ("at", at.into())]),
        _ => Value::Array(values),
    }
}

/// An object of values that exist already: `json!` would copy them.
pub(super) fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
}

/// Returns a number with six digits: more than are shown. What is not finite, or does not exist, is null.
pub(super) fn short(value: impl Into<Option<f64>>) -> Value {
    match value.into().filter(|value| value.is_finite()) {
        None => Value::Null,
        Some(value) if value.fract() == 0.0 && value.abs() < 1e15 => json!(value as i64),
        Some(value) => json!(format!("{value:.5e}").parse::<f64>().expect("a number that was just written")),
    }
}

/// A list of lists, most of which are the same: the different ones, and which each is.
#[derive(Default)]
pub(super) struct Shared {
    places: HashMap<Value, usize>,
    at: Vec<usize>,
}

impl Shared {
    pub(super) fn push(&mut self, list: Value) {
        let next = self.places.len();
        self.at.push(*self.places.entry(list).or_insert(next));
    }

    pub(super) fn json(self) -> Value {
        let mut lists: Vec<(Value, usize)> = self.places.into_iter().collect();
        lists.sort_by_key(|(_, place)| *place);
        let lists: Vec<Value> = lists.into_iter().map(|(list, _)| list).collect();
        object([("of", lists.into()), ("at", self.at.into())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_short_where_values_repeat() {
        assert_eq!(column(vec![json!("a"), json!("a")]), json!({"all": "a"}));
        let repeated = [1, 2, 1, 2].map(Value::from).to_vec();
        assert_eq!(column(repeated), json!({"of": [1, 2], "at": [0, 1, 0, 1]}));
        assert_eq!(column(vec![json!(1), json!(2), json!(1)]), json!([1, 2, 1]));
        // A number and its text are two values.
        assert_eq!(column(vec![json!("1"), json!(1)]), json!(["1", 1]));
        assert_eq!(column(vec![]), json!([]));
    }

    #[test]
    fn numbers_are_short_and_finite() {
        assert_eq!(short(6.333333333), json!(6.33333));
        assert_eq!(short(0.0000123456789), json!(0.0000123457));
        assert_eq!(short(100.0), json!(100));
        assert_eq!([None, Some(f64::NAN), Some(f64::INFINITY)].map(short), [Value::Null, Value::Null, Value::Null]);
    }
}
