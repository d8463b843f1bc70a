//! Broken twins: the same cluster with one rule taken out of it, by its own settings or by the hand of somebody in its database.
//! Nothing in the product knows of them. What the checker does not find of a twin it would not find of the product.

use outlive_core::Millis;
use outlive_core::policy::{OnIsolation, QueuePolicy};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    /// Work whose trust has run out goes on: two attempts execute at once. Leases are short and commands long, so that many outlast one.
    NeverFreezes,
    /// The queue with a limit has none.
    NoLimit,
    /// A worker is taken for dead after a second: a pause that must harm nobody does.
    Impatient,
    /// The database loses output in a crash that it had acknowledged.
    Forgetful,
    /// The store takes a frame under the name of the attempt before, which is over.
    NoFence,
}

impl Twin {
    /// Changes what queues are told.
    #[must_use]
    pub fn policy(self, policy: QueuePolicy) -> QueuePolicy {
        match self {
            Self::NeverFreezes => {
                QueuePolicy { on_isolation: OnIsolation::Continue, lease_ttl: Millis::secs(3), ..policy }
            }
            Self::NoLimit => QueuePolicy { max_running: None, ..policy },
            Self::Impatient => QueuePolicy { lease_ttl: Millis::secs(1), ..policy },
            Self::Forgetful | Self::NoFence => policy,
        }
    }

    /// What is done to the database.
    #[must_use]
    pub const fn statements(self) -> &'static str {
        match self {
            Self::NeverFreezes | Self::NoLimit | Self::Impatient => "",
            Self::Forgetful => "ALTER TABLE outlive.output SET UNLOGGED",
            Self::NoFence => {
                "CREATE FUNCTION outlive.take_stale() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN NEW.epoch := NEW.epoch - 1; RETURN NEW; END'; \
                 CREATE TRIGGER take_stale BEFORE INSERT ON outlive.output FOR EACH ROW \
                 WHEN (NEW.epoch > 1 AND NEW.frame_seq = 2) EXECUTE FUNCTION outlive.take_stale()"
            }
        }
    }
}
