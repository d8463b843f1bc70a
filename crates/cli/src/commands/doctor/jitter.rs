//! How late this machine wakes up, against the least `lease_ttl`: a worker that wakes late beats late, and a judge that wakes
//! late holds its verdicts back.

use super::finding::Finding;
use crate::stats::{Spread, figure};
use outlive_api::clock::nanos;
use outlive_core::Millis;
use outlive_core::engine::TICK;
use outlive_core::policy::{QueuePolicy, derive};
use std::time::Duration;

/// Three seconds of the judge's own rhythm, five times as fine.
pub(super) const WAKES: usize = 300;

/// How late each wake came.
pub(super) fn measure(wakes: usize) -> Spread {
    let step = Duration::from_millis(TICK.0 / 5);
    let mut late = Vec::with_capacity(wakes);
    for _ in 0..wakes {
        let before = nanos();
        std::thread::sleep(step);
        let slept = Duration::from_nanos(nanos() - before);
        late.push(u64::try_from(slept.saturating_sub(step).as_nanos()).unwrap_or(u64::MAX));
    }
    Spread::of_nanos(&late)
}

/// `least`: the least TTL of the server's queues, if one was asked.
pub(super) fn findings(late: &Spread, least: Option<Millis>) -> Vec<Finding> {
    let ttl = least.unwrap_or(QueuePolicy::default().lease_ttl);
    vec![judge(late), against(late, ttl)]
}

fn judge(late: &Spread) -> Finding {
    let found = format!(
        "wakes are late by p50 {}, p99 {}, at most {}",
        figure(late.p50_ms),
        figure(late.p99_ms),
        figure(late.max_ms)
    );
    if late.p99_ms > ms(TICK) {
        let advice = "the processor is overcommitted: a server here often holds its verdicts back, so deaths are noticed \
                      late (never wrongly). Give it a core, or move the other load away";
        return Finding::warning("scheduling", found, advice);
    }
    Finding::ok("scheduling", found)
}

fn against(late: &Spread, ttl: Millis) -> Finding {
    let beat = derive::heartbeat(ttl);
    let found = format!("lease_ttl {ttl}, a beat each {beat}; the latest wake took {}", figure(late.max_ms));
    // Four beats may be missed before trust ends: a wake that eats half of that leaves no room for the network.
    let half_of_trust = ms(derive::trusted(ttl)) / 2.0;
    if late.max_ms > half_of_trust {
        let wanted = Millis(ceil(late.max_ms * 2.0 / 0.8)).max(Millis::secs(1));
        let advice = format!(
            "workers here would freeze their work now and then: set lease_ttl to at least {wanted} (outlive queues set NAME lease_ttl={wanted})"
        );
        return Finding::problem("lease_ttl", found, advice);
    }
    if late.max_ms > ms(beat) {
        let advice = "a beat may be skipped under load; a longer lease_ttl, or less load, leaves more room";
        return Finding::warning("lease_ttl", found, advice);
    }
    Finding::ok("lease_ttl", found)
}

#[expect(clippy::cast_precision_loss, reason = "durations of policies are far below 2^52 ms")]
fn ms(of: Millis) -> f64 {
    of.0 as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "lateness is small and not negative")]
fn ceil(ms: f64) -> u64 {
    ms.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn late(max_ms: f64) -> Spread {
        Spread { count: 300, p50_ms: 0.1, p90_ms: 0.2, p99_ms: max_ms / 2.0, max_ms }
    }

    #[test]
    fn a_ttl_is_judged_by_the_latest_wake() {
        let verdict = |max, ttl| against(&late(max), ttl).verdict;
        assert_eq!(verdict(5.0, Millis::secs(10)), Verdict::Ok);
        assert_eq!(verdict(2_500.0, Millis::secs(10)), Verdict::Warning);
        assert_eq!(verdict(4_100.0, Millis::secs(10)), Verdict::Problem);
        assert_eq!(verdict(500.0, Millis::secs(1)), Verdict::Problem);
        let advice = against(&late(500.0), Millis::secs(1)).advice.unwrap();
        assert!(advice.contains("1250ms"), "{advice}");
    }

    #[test]
    fn a_judge_that_wakes_later_than_its_tick_is_named() {
        assert_eq!(judge(&late(20.0)).verdict, Verdict::Ok);
        assert_eq!(judge(&late(200.0)).verdict, Verdict::Warning);
    }

    #[test]
    fn lateness_is_measured() {
        assert_eq!(measure(5).count, 5);
    }
}
