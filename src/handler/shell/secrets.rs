//! Secrets in a payload: in `env` and `stdin` only.
//!
//! Arguments are no place for them: every account of the host sees the arguments of all processes. An environment
//! is readable for its own account and root, standard input for nobody.

use serde_json::{Map, Value};

use crate::handler::secret::{KEY, Mask, Secrets, refers};
use crate::handler::{HandlerError, fatal};

/// Puts the values in the places of their references; answers what masks them.
///
/// Only what may be resolved is: no message about the payload can quote a value that is in the wrong place.
pub(super) async fn resolve(payload: &mut Map<String, Value>, secrets: &Secrets) -> Result<Mask, HandlerError> {
    if let Some((key, _)) = payload.iter().find(|(key, value)| !is_place(key) && refers(value)) {
        return Err(fatal(if matches!(key.as_str(), "argv" | "command") {
            format!(
                "\"{key}\" must not refer to a secret: every account of the host can see the \
                 arguments of a process; use \"env\" or \"stdin\""
            )
        } else {
            format!("{key:?} must not refer to a secret; only \"env\" and \"stdin\" may")
        }));
    }
    let mut places = Map::new();
    if let Some(Value::Object(env)) = payload.get_mut("env") {
        if env.contains_key(KEY) {
            return Err(fatal("\"env\" must be an object of names and values; a value may refer to a secret"));
        }
        let (found, others) = std::mem::take(env).into_iter().partition(|(_, value)| is_reference(value));
        *env = others;
        if let Some((name, _)) = env.iter().find(|(_, value)| refers(value)) {
            return Err(fatal(format!("\"env.{name}\" must be a string or refer to a secret")));
        }
        places.insert("env".to_owned(), Value::Object(found));
    }
    places.extend(payload.remove_entry("stdin"));
    let mut places = Value::Object(places);
    let mask = secrets.resolve(&mut places).await?;
    let Value::Object(mut places) = places else { return Ok(mask) };
    if let (Some(Value::Object(env)), Some(Value::Object(found))) = (payload.get_mut("env"), places.remove("env")) {
        env.extend(found);
    }
    payload.extend(places);
    Ok(mask)
}

fn is_place(key: &str) -> bool {
    ["env", "stdin"].contains(&key)
}

fn is_reference(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.contains_key(KEY))
}
