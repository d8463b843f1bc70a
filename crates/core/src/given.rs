//! A policy as somebody gave it: the values that they said. The others are the defaults of the version that runs, today's and
//! tomorrow's, and are told apart from those that were set.

use crate::policy::QueuePolicy;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What was said, and the policy that it makes. On the wire and in a store: only what was said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GivenPolicy {
    said: Map<String, Value>,
    policy: QueuePolicy,
}

impl GivenPolicy {
    /// The whole policy.
    #[must_use]
    pub const fn policy(&self) -> &QueuePolicy {
        &self.policy
    }

    /// The values that were said, as `name` or `outer.inner`, in order.
    #[must_use]
    pub fn set(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, value) in &self.said {
            match value {
                Value::Object(inner) => names.extend(inner.keys().map(|key| format!("{name}.{key}"))),
                _ => names.push(name.clone()),
            }
        }
        names
    }

    /// Whether a value was said, by itself or as part of one.
    #[must_use]
    pub fn says(&self, name: &str) -> bool {
        match name.split_once('.') {
            None => self.said.contains_key(name),
            Some((outer, inner)) => self.said.get(outer).is_some_and(|value| value.get(inner).is_some()),
        }
    }

    /// What was said of a value as a whole.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.said.get(name)
    }

    /// Of a whole policy the values of these names.
    #[must_use]
    pub fn of(policy: &QueuePolicy, set: &[String]) -> Self {
        let Value::Object(all) = as_value(policy) else { return Self::default() };
        let mut said = Map::new();
        for name in set {
            let (outer, inner) = name.split_once('.').map_or((name.as_str(), None), |(o, i)| (o, Some(i)));
            match (inner, all.get(outer)) {
                (None, Some(value)) => drop(said.insert(outer.to_owned(), value.clone())),
                (Some(inner), Some(Value::Object(values))) => {
                    let slot = said.entry(outer).or_insert_with(|| Value::Object(Map::new()));
                    if let (Value::Object(slot), Some(value)) = (slot, values.get(inner)) {
                        slot.insert(inner.to_owned(), value.clone());
                    }
                }
                _ => {}
            }
        }
        Self { said, policy: policy.clone() }
    }

    /// These values more, or other ones of them. `None` takes back what was said of one.
    ///
    /// # Errors
    /// Which value no policy can have.
    pub fn with<'v>(&self, values: impl IntoIterator<Item = (&'v str, Option<Value>)>) -> Result<Self, BadValue> {
        let mut said = self.said.clone();
        for (name, value) in values {
            match (name.split_once('.'), value) {
                (None, Some(value)) => drop(said.insert(name.to_owned(), value)),
                (None, None) => drop(said.remove(name)),
                (Some((outer, inner)), value) => within(&mut said, outer, inner, value),
            }
        }
        Self::read(said)
    }

    fn read(said: Map<String, Value>) -> Result<Self, BadValue> {
        match QueuePolicy::deserialize(Value::Object(said.clone())) {
            Ok(policy) => Ok(Self { said, policy }),
            Err(error) => Err(named(&said, &error)),
        }
    }
}

fn within(said: &mut Map<String, Value>, outer: &str, inner: &str, value: Option<Value>) {
    let slot = said.entry(outer).or_insert(Value::Null);
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    let Value::Object(values) = slot else { return };
    match value {
        Some(value) => drop(values.insert(inner.to_owned(), value)),
        None => drop(values.remove(inner)),
    }
    if values.is_empty() {
        said.remove(outer);
    }
}

/// A value that no policy has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}`: {detail}")]
pub struct BadValue {
    /// Which.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

/// The first value that is wrong by itself; a value that lacks another one is told as a whole.
fn named(said: &Map<String, Value>, error: &serde_json::Error) -> BadValue {
    let alone = |(name, value): (&String, &Value)| {
        let one: Map<String, Value> = [(name.clone(), value.clone())].into_iter().collect();
        QueuePolicy::deserialize(Value::Object(one))
            .err()
            .map(|e| BadValue { field: name.clone(), detail: e.to_string() })
    };
    said.iter().find_map(alone).unwrap_or_else(|| BadValue { field: "policy".to_owned(), detail: error.to_string() })
}

fn as_value(policy: &QueuePolicy) -> Value {
    serde_json::to_value(policy).unwrap_or(Value::Null)
}

/// What differs from the defaults counts as said.
impl From<QueuePolicy> for GivenPolicy {
    fn from(policy: QueuePolicy) -> Self {
        let (Value::Object(all), Value::Object(default)) = (as_value(&policy), as_value(&QueuePolicy::default()))
        else {
            return Self::default();
        };
        let said = all.into_iter().filter(|(name, value)| default.get(name) != Some(value)).collect();
        Self { said, policy }
    }
}

impl From<&QueuePolicy> for GivenPolicy {
    fn from(policy: &QueuePolicy) -> Self {
        policy.clone().into()
    }
}

impl Serialize for GivenPolicy {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.said.serialize(s)
    }
}

impl<'de> Deserialize<'de> for GivenPolicy {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::read(Map::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// Policies as a file: any number of queues, each with the values that differ from the defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// By the queue's name.
    pub queues: BTreeMap<String, GivenPolicy>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Millis;

    fn given(text: &str) -> GivenPolicy {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_was_said_is_told_apart_from_the_defaults_and_reads_back() {
        let policy = given(r#"{"lease_ttl":"10s","backoff":{"max":"1m"},"rate":null}"#);
        assert_eq!(policy.set(), ["backoff.max", "lease_ttl", "rate"]);
        assert_eq!(policy.policy().backoff.max, Millis::mins(1));
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(text, r#"{"backoff":{"max":"1m"},"lease_ttl":"10s","rate":null}"#);
        assert_eq!(given(&text), policy);
        assert_eq!(GivenPolicy::of(policy.policy(), &policy.set()), policy);
        assert_eq!(GivenPolicy::from(QueuePolicy::default()).set(), Vec::<String>::new());
    }

    #[test]
    fn a_value_is_changed_or_taken_back_and_the_others_stay() {
        let policy = given(r#"{"lease_ttl":"5s"}"#).with([("backoff.factor", Some(3.into()))]).unwrap();
        assert_eq!(policy.set(), ["backoff.factor", "lease_ttl"]);
        let less = policy.with([("backoff.factor", None), ("lease_ttl", None)]).unwrap();
        assert_eq!(less, GivenPolicy::default());
        let rate = policy.with([("rate.limit", Some(5.into())), ("rate.per", Some("1s".into()))]).unwrap();
        assert_eq!(rate.with([("rate.limit", Some(7.into()))]).unwrap().policy().rate.unwrap().limit, 7);
        assert_eq!(policy.with([("rate.limit", Some(5.into()))]).unwrap_err().field, "rate", "a rate needs both");
    }

    #[test]
    fn a_wrong_value_is_named() {
        for (text, field) in [
            (r#"{"max_losses":1,"lease_ttl":5}"#, "lease_ttl"),
            (r#"{"leese_ttl":"5s"}"#, "leese_ttl"),
            (r#"{"backoff":{"faktor":1}}"#, "backoff"),
        ] {
            let error = serde_json::from_str::<GivenPolicy>(text).unwrap_err().to_string();
            assert!(error.contains(&format!("field `{field}`")), "{error}");
        }
    }
}
