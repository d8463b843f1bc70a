//! What a server process is called among those that share a store.

/// The stable name of a replica: the same over restarts, another one for each replica of a cluster. 1 to 64 of letters, digits,
/// `.`, `_` and `-`, so that a pod's or a host's name will do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaName(String);

/// Why a name is none, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaNameError {
    /// Several replicas may share the store, and this one has no name.
    #[error(
        "this store can be shared by several replicas, and each needs a name of its own that stays the same over restarts: \
         add --replica NAME, or set OUTLIVE_REPLICA, such as --replica \"$(hostname)\""
    )]
    Missing,
    /// It has other characters, or too many.
    #[error("\"{0}\" is no name for a replica: use 1 to 64 letters, digits, dots, underscores and hyphens")]
    Invalid(String),
}

impl ReplicaName {
    /// The name as it was given; empty: none. `shared`: whether other replicas may use the same store, so that a name is needed.
    ///
    /// # Errors
    /// See [`ReplicaNameError`].
    pub fn of(given: &str, shared: bool) -> Result<Option<Self>, ReplicaNameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match given {
            "" if shared => Err(ReplicaNameError::Missing),
            "" => Ok(None),
            name if name.len() <= 64 && name.chars().all(allowed) => Ok(Some(Self(name.to_owned()))),
            name => Err(ReplicaNameError::Invalid(name.to_owned())),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_needs_a_name_only_where_others_may_share_its_store() {
        assert_eq!(ReplicaName::of("", false), Ok(None));
        let missing = ReplicaName::of("", true).unwrap_err();
        assert!(missing.to_string().contains("--replica NAME"), "{missing}");
        for shared in [false, true] {
            assert_eq!(ReplicaName::of("outlive-0.eu_1", shared).unwrap().unwrap().as_str(), "outlive-0.eu_1");
            for bad in ["a b", "é", "a/b", &"x".repeat(65)] {
                assert_eq!(ReplicaName::of(bad, shared), Err(ReplicaNameError::Invalid(bad.to_owned())));
            }
        }
    }
}
