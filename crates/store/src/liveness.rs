//! An accelerator beside the replicas' rows: who was heard where, sooner and for any number of workers. It is **never the
//! truth**: it can only put a verdict by absence off. What is missing in it, or cannot be asked, is *unknown*, and the rows
//! decide as if it were not there.

use async_trait::async_trait;
use outlive_core::Holder;

/// Why nothing is known, as a lower-case fragment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unknown(pub String);

/// A place where replicas leave signs of life for each other. No call takes longer than a fraction of a second.
#[async_trait]
pub trait Liveness: Send + Sync + 'static {
    /// Leaves a new sign of each worker.
    async fn touch(&self, heard: &[Holder]) -> Result<(), Unknown>;
    /// The newest sign of each, in their order; `None`: there is none. A sign says nothing of its age; *another one than before*
    /// says that its worker was heard in between. Of nobody: whether the place answers at all.
    async fn check(&self, of: &[Holder]) -> Result<Vec<Option<String>>, Unknown>;
    /// Takes the signs of workers away: the store has confirmed that they are offline, or it has another home for them.
    async fn forget(&self, gone: &[Holder]) -> Result<(), Unknown>;
}
