//! Silence that begins anew, and when its rest is shortened.

use super::*;

const TTL: u64 = 60_000;

fn long() -> Liveness {
    Liveness { lease_ttl: Millis(TTL), ..policy() }
}

fn run(n: i64) -> u128 {
    n.unsigned_abs().into()
}

impl World {
    /// All beat but the last `silent`.
    fn all_beat(&mut self, of: i64, silent: i64, seq: u64) {
        (1..=of - silent).for_each(|n| drop(self.beat(n, seq, 3, &[run(n)])));
    }

    /// Time passes, and the store does not commit.
    fn without_store(&mut self, ms: u64) {
        for _ in 0..ms / TICK.0 {
            self.now += TICK.0;
            let pending_write = Some(Millis::secs(1));
            let senses = Senses { pending_write, self_beat_sent: Some(Mono(self.now)), ..Senses::default() };
            assert!(verdicts(&self.put(Input::Tick(senses))).is_empty());
        }
    }

    /// Lets observed time come to `ms` while all but the last few beat.
    fn pass_to(&mut self, ms: u64, of: i64, silent: i64) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.engine.observed().now() < Observed(ms) {
            effects.extend(self.pass(TICK.0));
            if self.now.is_multiple_of(1_000) {
                self.all_beat(of, silent, self.now);
            }
        }
        effects
    }
}

/// A fleet of which the last `silent` were heard at 500 ms and never again; the store is away once all others have been heard at
/// `at`, and back. Observed time then is still `at`.
fn after_an_outage(of: i64, silent: i64, at: u64) -> World {
    let mut world = World::new();
    world.put(Input::Queue(Q, named("q"), long()));
    for n in 1..=of {
        world.session(n, vec![info(run(n), long())]);
        world.beat(n, 1, 3, &[run(n)]);
    }
    assert!(verdicts(&world.pass_to(at, of, silent)).is_empty());
    world.without_store(3_000);
    world
}

/// When, in observed time, the first verdict comes while the others beat; none before `most`.
fn first_verdict(world: &mut World, of: i64, silent: i64, most: u64) -> Option<u64> {
    loop {
        let now = world.engine.observed().now().0;
        if now >= most {
            return None;
        }
        if !verdicts(&world.pass_to(now + TICK.0, of, silent)).is_empty() {
            return Some(world.engine.observed().now().0);
        }
    }
}

#[test]
fn when_nearly_all_of_a_fleet_are_back_the_others_have_five_seconds_more() {
    let mut world = after_an_outage(20, 1, 58_000);
    let at = first_verdict(&mut world, 20, 1, 200_000).unwrap();
    // The beats after the outage came within a second.
    assert!((63_000..=64_300).contains(&at), "{at}");
}

#[test]
fn the_rest_of_a_grace_never_ends_before_a_full_ttl_without_a_sign_of_life() {
    let mut world = after_an_outage(20, 1, 30_000);
    let at = first_verdict(&mut world, 20, 1, 200_000).unwrap();
    assert!((500 + TTL..=500 + TTL + 200).contains(&at), "{at}");
}

#[test]
fn a_small_fleet_or_one_that_is_not_nearly_whole_has_its_full_grace() {
    for (of, silent) in [(19, 1), (20, 2), (40, 3)] {
        let mut world = after_an_outage(of, silent, 58_000);
        let at = first_verdict(&mut world, of, silent, 200_000).unwrap();
        assert!((58_000 + TTL..58_200 + TTL).contains(&at), "{silent} of {of}: {at}");
    }
}

#[test]
fn whoever_is_heard_in_a_shortened_grace_has_a_full_ttl_again() {
    let mut world = after_an_outage(20, 1, 58_000);
    world.pass_to(60_000, 20, 1);
    world.beat(20, 2, 3, &[20]);
    let at = first_verdict(&mut world, 20, 1, 200_000).unwrap();
    assert!((60_000 + TTL..60_200 + TTL).contains(&at), "{at}");
}

/// What was acknowledged a moment before the start is trusted for 0.8 TTL from there, and the judge does not know of it.
#[test]
fn a_start_gives_everybody_a_full_ttl_however_many_are_back() {
    let mut world = World::new();
    world.put(Input::Queue(Q, named("q"), long()));
    for n in 1..=40 {
        let profile = WorkerProfile { namespace: "default".into(), ..WorkerProfile::default() };
        let info = SessionInfo {
            holder: holder(n),
            profile,
            presence: Presence::Session,
            home_seq: HomeSeq(0),
            draining: false,
            leases: vec![info(run(n), long())],
            rearmed: 0,
            armed: Observed(0),
        };
        world.put(Input::Adopt(info));
    }
    (1..=39).for_each(|n| drop(world.session(n, vec![info(run(n), long())])));
    let at = first_verdict(&mut world, 40, 1, 200_000).unwrap();
    assert!((500 + TTL..=700 + TTL).contains(&at), "{at}");
}
