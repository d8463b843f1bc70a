//! What follows a failure or a loss: the budgets.
//!
//! Failures of the work use `max_attempts`; losses use `max_losses` and never `max_attempts` (invariant I10). The first
//! loss queues again at once, later ones wait: a run that kills its workers must not take a fleet down at full speed.

use crate::ids::{Epoch, RunId};
use crate::options::Budgets;
use crate::policy::{Backoff, OnCrashLoop, OnLoss};
use crate::time::Millis;

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Queued at once, at its old rank.
    Requeue,
    /// Queued again after this long.
    After(Millis),
    /// Held for a person, with reason `crash_loop` if that is why.
    Hold {
        /// Whether the budget is used up.
        crash_loop: bool,
    },
    /// It ends.
    End,
}

/// After the `failures`-th failure of the work.
#[must_use]
pub fn after_failure(
    budgets: &Budgets,
    failures: u32,
    permanent: bool,
    retry_after: Option<Millis>,
    lease: (RunId, Epoch),
) -> Next {
    if permanent || failures >= budgets.max_attempts {
        return Next::End;
    }
    Next::After(retry_after.unwrap_or_else(|| wait(&budgets.backoff, failures, lease)))
}

/// After the `in_row`-th loss without a new checkpoint between.
#[must_use]
pub fn after_loss(
    budgets: &Budgets,
    on_loss: OnLoss,
    on_crash_loop: OnCrashLoop,
    in_row: u32,
    lease: (RunId, Epoch),
) -> Next {
    match on_loss {
        OnLoss::Fail => Next::End,
        OnLoss::Hold => Next::Hold { crash_loop: false },
        OnLoss::Retry if in_row >= budgets.max_losses => match on_crash_loop {
            OnCrashLoop::Hold => Next::Hold { crash_loop: true },
            OnCrashLoop::Lost => Next::End,
        },
        OnLoss::Retry if in_row <= 1 => Next::Requeue,
        OnLoss::Retry => Next::After(wait(&budgets.backoff, in_row - 1, lease)),
    }
}

/// The n-th wait, n from 1. The jitter is a hash of the lease: spread over runs, the same when computed twice.
#[must_use]
pub fn wait(backoff: &Backoff, n: u32, lease: (RunId, Epoch)) -> Millis {
    let exponent = i32::try_from(n.saturating_sub(1)).unwrap_or(i32::MAX);
    #[expect(clippy::cast_precision_loss, reason = "durations are far below 2^52 ms")]
    let (initial, max) = (backoff.initial.0 as f64, backoff.max.0 as f64);
    let base = (initial * backoff.factor.powi(exponent)).min(max);
    let moved = base * (1.0 + backoff.jitter * (2.0 * spread(lease) - 1.0));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=max")]
    let millis = moved.clamp(0.0, max) as u64;
    Millis(millis)
}

/// A number in 0..1 that depends on the lease alone.
fn spread((run, epoch): (RunId, Epoch)) -> f64 {
    let mut x = run.0.as_u64_pair().1 ^ epoch.0.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let unit = ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
    unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::QueuePolicy;

    fn lease(n: u128) -> (RunId, Epoch) {
        (RunId::from_parts(crate::Wall(1), n << 64 | n << 17), Epoch(1))
    }

    fn budgets() -> Budgets {
        crate::options::RunOptions::default().budgets(&QueuePolicy::default())
    }

    #[test]
    fn the_third_failure_ends_a_run_with_three_attempts() {
        let b = budgets();
        assert!(matches!(after_failure(&b, 2, false, None, lease(1)), Next::After(_)));
        assert_eq!(after_failure(&b, 3, false, None, lease(1)), Next::End);
        assert_eq!(after_failure(&b, 1, true, None, lease(1)), Next::End);
        assert_eq!(after_failure(&b, 1, false, Some(Millis(7)), lease(1)), Next::After(Millis(7)));
    }

    #[test]
    fn the_first_loss_queues_at_once_and_the_fifth_quarantines() {
        let b = budgets();
        let next = |n| after_loss(&b, OnLoss::Retry, OnCrashLoop::Hold, n, lease(1));
        assert_eq!(next(1), Next::Requeue);
        assert!(matches!(next(2), Next::After(_)));
        assert_eq!(next(5), Next::Hold { crash_loop: true });
        assert_eq!(after_loss(&b, OnLoss::Retry, OnCrashLoop::Lost, 5, lease(1)), Next::End);
        assert_eq!(after_loss(&b, OnLoss::Fail, OnCrashLoop::Hold, 1, lease(1)), Next::End);
    }

    #[test]
    fn waits_double_up_to_the_cap_and_jitter_stays_within_a_fifth() {
        let b = Backoff::default();
        for n in 0..200u128 {
            let first = wait(&b, 1, lease(n)).0;
            assert!((800..=1_200).contains(&first), "{first}");
            assert!(wait(&b, 30, lease(n)).0 <= 300_000);
        }
        let distinct: std::collections::BTreeSet<_> = (0..200u128).map(|n| wait(&b, 3, lease(n))).collect();
        assert!(distinct.len() > 100, "jitter spreads");
    }
}
