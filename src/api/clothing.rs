//! Naked and clothed values: `5` and `{"value": 5}` mean the same on this bus.

use serde_json::Value;

/// The keys that a web page puts beside `value` in a clothed value.
const CLOTHES: [&str; 8] = ["name", "unit", "units", "scaler", "enabled", "type", "ui_type", "options"];

/// Takes the clothes off a body: `{"value": x}` becomes `x`, at the top and at each field of an object.
///
/// An object counts as clothed when it has the key `value` and otherwise only keys that a web page adds (`name`, `unit`,
/// `scaler`, `enabled`, `type`, `ui_type`, `options`), so a field that is itself called `value` beside unknown ones is kept and
/// refused later by name.
pub fn undress(body: Value) -> Value {
    match take_value(body) {
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(name, field)| (name, take_value(field))).collect()),
        naked => naked,
    }
}

fn take_value(body: Value) -> Value {
    match body {
        Value::Object(mut fields)
            if fields.contains_key("value") && fields.keys().all(|key| key == "value" || CLOTHES.contains(&key.as_str())) =>
        {
            fields.remove("value").unwrap_or(Value::Null)
        }
        naked => naked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn four_ways_to_say_the_same() {
        assert_eq!(undress(json!(true)), json!(true));
        assert_eq!(undress(json!({"value": true})), json!(true));
        assert_eq!(undress(json!({"ping": true})), json!({"ping": true}));
        assert_eq!(undress(json!({"ping": {"value": true, "type": "Bool"}})), json!({"ping": true}));
        assert_eq!(undress(json!({"value": {"ping": {"value": false}}})), json!({"ping": false}));
    }

    #[test]
    fn a_value_beside_unknown_fields_is_no_clothing() {
        let body = json!({"value": 1, "pign": true});
        assert_eq!(undress(body.clone()), body);
    }
}
