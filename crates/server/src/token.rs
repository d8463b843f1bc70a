//! Session tokens: who a worker's call comes from, without a look into the store.
//!
//! `owt_<worker>.<incarnation>.<hmac>`, signed with the store's secret over (generation, worker, incarnation): valid at every
//! replica, void after a restore.

use hmac::{Hmac, KeyInit, Mac};
use outlive_core::{Holder, Incarnation, WorkerId};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Makes and checks tokens.
pub(crate) struct Signer {
    key: Hmac<Sha256>,
    generation: uuid::Uuid,
    /// The path of the replica's session with itself; nobody else knows it.
    pub(crate) self_path: String,
}

impl Signer {
    pub(crate) fn new(secret: &[u8; 32], generation: uuid::Uuid) -> Self {
        #[expect(clippy::expect_used, reason = "an HMAC takes keys of any length")]
        let key = Hmac::new_from_slice(secret).expect("any length");
        let self_path = format!("/internal/self/{}", uuid::Uuid::new_v4().simple());
        Self { key, generation, self_path }
    }

    fn sign(&self, holder: Holder) -> String {
        let mut mac = self.key.clone();
        mac.update(self.generation.as_bytes());
        mac.update(&holder.worker.0.to_be_bytes());
        mac.update(&holder.incarnation.0.to_be_bytes());
        hex(&mac.finalize().into_bytes())
    }

    /// The token of a holder.
    pub(crate) fn token(&self, holder: Holder) -> String {
        format!("owt_{}.{}.{}", holder.worker.0, holder.incarnation.0, self.sign(holder))
    }

    /// Whose token this is; none if it is not one of this store.
    pub(crate) fn holder(&self, token: &str) -> Option<Holder> {
        let mut parts = token.strip_prefix("owt_")?.splitn(3, '.');
        let worker = WorkerId(parts.next()?.parse().ok()?);
        let incarnation = Incarnation(parts.next()?.parse().ok()?);
        let holder = Holder { worker, incarnation };
        let given = parts.next()?;
        let expected = self.sign(holder);
        // Same length, every byte compared: the time taken tells nothing.
        let equal = given.len() == expected.len()
            && given.bytes().zip(expected.bytes()).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0;
        equal.then_some(holder)
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// SHA-256.
pub(crate) fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_holder_and_any_change_voids_it() {
        let signer = Signer::new(&[7; 32], uuid::Uuid::from_u128(1));
        let holder = Holder { worker: WorkerId(3), incarnation: Incarnation(2) };
        let token = signer.token(holder);
        assert_eq!(signer.holder(&token), Some(holder));
        assert_eq!(signer.holder(&token.replace("_3.", "_4.")), None);
        assert_eq!(signer.holder(&token.replace(".2.", ".3.")), None);
        let restored = Signer::new(&[7; 32], uuid::Uuid::from_u128(2));
        assert_eq!(restored.holder(&token), None, "another generation");
        assert_eq!(signer.holder(""), None);
    }
}
