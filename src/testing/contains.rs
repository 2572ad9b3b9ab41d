//! Whether one JSON value has all that another one asks for.

use serde_json::Value;

/// Objects by the keys asked for, arrays by elements in any order, everything else by equality: as `@>` of jsonb.
pub(super) fn contains(value: &Value, part: &Value) -> bool {
    match (value, part) {
        (Value::Object(value), Value::Object(part)) => {
            part.iter().all(|(key, part)| value.get(key).is_some_and(|value| contains(value, part)))
        }
        (Value::Array(value), Value::Array(part)) => {
            part.iter().all(|part| value.iter().any(|value| contains(value, part)))
        }
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (value, part) => value == part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_part_may_leave_things_out_and_nothing_else() {
        let payload = json!({"to": {"name": "A", "mail": "a@b.c"}, "lines": [1, 2, {"n": 3, "m": 4}], "x": 1.0});
        for part in [
            json!({}),
            json!({"to": {"mail": "a@b.c"}}),
            json!({"lines": [2]}),
            json!({"lines": [{"m": 4}, 1]}),
            json!({"x": 1}),
        ] {
            assert!(contains(&payload, &part), "{part}");
        }
        for part in [json!({"to": "A"}), json!({"lines": [5]}), json!({"y": null}), json!([]), json!({"lines": 1})] {
            assert!(!contains(&payload, &part), "{part}");
        }
    }
}
