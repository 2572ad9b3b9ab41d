//! Secrets by reference: a payload says `{"$secret": "NAME"}`, and the worker puts the value in its place.
//!
//! The value comes from an environment variable or a file of the worker's host, and only names that the
//! worker's configuration declares exist. It is looked up for every attempt (a file that changed is seen),
//! never written to the database, and replaced by `***` in whatever the run puts out, by a [`Mask`].
//!
//! ```
//! use serde_json::json;
//! use watchbell::handler::secret::{Secret, Secrets};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let secrets: Secrets = [Secret::env("PATH_OF_OURS", "PATH")].into_iter().collect();
//! let mut payload = json!({"env": {"OURS": {"$secret": "PATH_OF_OURS", "prefix": "is "}}});
//! let mask = secrets.resolve(&mut payload).await.unwrap();
//! let text = payload["env"]["OURS"].as_str().unwrap();
//! assert!(text.starts_with("is /"));
//! assert_eq!(mask.text(text), "is ***");
//! # });
//! ```
//!
//! **Where a reference may stand**: in the place of any string, at any depth. `prefix` stands before the
//! value, as in `{"$secret": "TOKEN", "prefix": "Bearer "}`. Keys are not looked at.
//!
//! **Bounds**: 4 bytes to 16 KiB of UTF-8 text. A shorter one is refused, because masking it would blacken
//! half of the output. A file's last line end does not belong to the value.
//!
//! **Where it may go**: whoever may insert runs can have any declared secret sent anywhere that the handlers
//! reach. A secret declared for hosts ([`Secret::only_for`]) is sent by the handler `http` to these and
//! refused by every other handler.

mod forms;
mod mask;
mod source;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use super::{HandlerError, fatal};

pub use mask::{Mask, Masking};
pub use source::Secret;

/// The key that makes an object a reference.
pub(super) const KEY: &str = "$secret";

/// The secrets that a worker's configuration declares, by name.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    declared: Arc<BTreeMap<String, Secret>>,
}

impl FromIterator<Secret> for Secrets {
    /// Of two with the same name the later stays.
    fn from_iter<I: IntoIterator<Item = Secret>>(secrets: I) -> Self {
        let declared = secrets.into_iter().map(|secret| (secret.name().to_owned(), secret)).collect();
        Self { declared: Arc::new(declared) }
    }
}

impl Secrets {
    /// Whether each can be read now.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) names the first that cannot.
    pub async fn check(&self) -> crate::Result<()> {
        for secret in self.declared.values() {
            let field = format!("secret {}", secret.name());
            secret.read().await.map_err(|problem| crate::Error::invalid(field, problem))?;
        }
        Ok(())
    }

    /// Puts the values in the places of their references; answers what masks them.
    ///
    /// # Errors
    /// Fatal for a reference that is malformed, names nothing declared, or a secret that is only for hosts.
    /// A value that cannot be read now may be readable at the next attempt.
    pub async fn resolve(&self, payload: &mut Value) -> Result<Mask, HandlerError> {
        let used = self.resolve_for_host(payload).await?;
        match used.bound.first() {
            None => Ok(used.mask),
            Some(secret) => Err(fatal(format!(
                "secret \"{}\" is declared for the host {} and goes nowhere else",
                secret.name(),
                secret.hosts().join(", ")
            ))),
        }
    }

    /// The same for a call of a host that is known only now; ask [`Used::check`] before sending anything.
    pub(crate) async fn resolve_for_host(&self, payload: &mut Value) -> Result<Used, HandlerError> {
        let mut places = vec![];
        find(payload, &mut places)?;
        let (mut values, mut bound) = (vec![], vec![]);
        for place in places {
            let Reference { name, prefix } = Reference::of(place)?;
            let secret = self.declared.get(&name).ok_or_else(|| fatal(self.unknown(&name)))?;
            let value = secret.read().await.map_err(|problem| format!("secret \"{name}\": {problem}"))?;
            if !secret.hosts().is_empty() {
                bound.push(secret.clone());
            }
            *place = Value::String(prefix + &value);
            values.push(value);
        }
        Ok(Used { mask: Mask::of(&values), bound })
    }

    fn unknown(&self, name: &str) -> String {
        let known: Vec<&str> = self.declared.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        format!("this worker's configuration has no secret \"{name}\" (it has: {known}); see --secret")
    }
}

/// What a payload used.
#[derive(Debug)]
pub(crate) struct Used {
    pub(crate) mask: Mask,
    /// Those that are only for certain hosts.
    bound: Vec<Secret>,
}

#[cfg(feature = "http")]
impl Used {
    /// Refuses a host for which one of them is not meant.
    pub(crate) fn check(&self, host: &str) -> Result<(), HandlerError> {
        let stray = self.bound.iter().find(|secret| !secret.hosts().iter().any(|h| h.eq_ignore_ascii_case(host)));
        stray.map_or(Ok(()), |secret| {
            let (name, hosts) = (secret.name(), secret.hosts().join(", "));
            Err(fatal(format!("secret \"{name}\" is declared for the host {hosts} and is not sent to {host}")))
        })
    }
}

/// A payload's reference to a secret.
struct Reference {
    name: String,
    prefix: String,
}

impl Reference {
    fn of(place: &Value) -> Result<Self, HandlerError> {
        let malformed =
            || fatal("a secret is referred to by {\"$secret\": \"NAME\"}, if need be with \"prefix\": \"TEXT\"");
        let object = place.as_object().ok_or_else(malformed)?;
        let text =
            |key| object.get(key).map(|value| value.as_str().map(str::to_owned).ok_or_else(malformed)).transpose();
        let (name, prefix) = (text(KEY)?.ok_or_else(malformed)?, text("prefix")?);
        if object.len() != 1 + usize::from(prefix.is_some()) {
            return Err(malformed());
        }
        Ok(Self { name, prefix: prefix.unwrap_or_default() })
    }
}

/// Whether a reference stands here or anywhere in it.
pub(super) fn refers(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.contains_key(KEY) || object.values().any(refers),
        Value::Array(list) => list.iter().any(refers),
        _ => false,
    }
}

/// Collects the places of all references.
fn find<'a>(value: &'a mut Value, places: &mut Vec<&'a mut Value>) -> Result<(), HandlerError> {
    /// Most references of one payload.
    const REFERENCES_MAX: usize = 100;
    let is_reference = |object: &Map<String, Value>| object.contains_key(KEY);
    match value {
        Value::Object(object) if is_reference(object) => {
            if places.len() == REFERENCES_MAX {
                return Err(fatal(format!("a payload may refer to secrets at most {REFERENCES_MAX} times")));
            }
            places.push(value);
            Ok(())
        }
        Value::Object(object) => object.values_mut().try_for_each(|value| find(value, places)),
        Value::Array(list) => list.iter_mut().try_for_each(|value| find(value, places)),
        _ => Ok(()),
    }
}
