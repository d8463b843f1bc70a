//! Credit, claims and offers.

use super::*;

#[test]
fn no_work_goes_to_a_session_before_its_first_beat_or_after_its_close() {
    let mut world = World::new();
    world.session(1, vec![]);
    assert!(claims(&world.put(Input::Ready(vec![C]))).is_empty());
    let effects = world.beat(1, 1, 4, &[]);
    assert_eq!(claims(&effects)[0].max, 4);
    let token = claims(&effects)[0].token;
    let result = ClaimResult { leases: vec![info(1, policy())], ..ClaimResult::default() };
    let effects = world.put(Input::ClaimDone(token, result));
    assert!(matches!(said(&effects)[..], [Say::Push(2, _)]));
    world.put(Input::Closed(holder(1), conn(1), CloseKind::Ended));
    assert!(claims(&world.put(Input::Ready(vec![C]))).is_empty());
}

#[test]
fn credit_bounds_what_is_claimed_and_a_hint_after_a_claim_is_not_lost() {
    let mut world = World::new();
    world.session(1, vec![]);
    world.beat(1, 1, 2, &[]);
    let first = world.put(Input::Ready(vec![C]));
    let token = claims(&first)[0].token;
    assert!(claims(&world.put(Input::Ready(vec![C]))).is_empty(), "all credit is reserved");
    let nothing = ClaimResult { exhausted: vec![C], ..ClaimResult::default() };
    let effects = world.put(Input::ClaimDone(token, nothing));
    assert_eq!(claims(&effects).len(), 1, "the hint came after the claim was sent");
    let token = claims(&effects)[0].token;
    let nothing = ClaimResult { exhausted: vec![C], ..ClaimResult::default() };
    assert!(claims(&world.put(Input::ClaimDone(token, nothing))).is_empty());
}

#[test]
fn an_offer_is_spread_over_the_sessions_that_have_room() {
    let mut world = World::new();
    for n in 1..=3 {
        world.session(n, vec![]);
        world.beat(n, 1, 4, &[]);
    }
    let effects = world.put(Input::Offer(vec![(C, 6)]));
    assert_eq!(claims(&effects).iter().map(|c| c.max).collect::<Vec<_>>(), [2, 2, 2]);
    let effects = world.put(Input::Offer(vec![(C, 1)]));
    assert_eq!(claims(&effects).len(), 1);
}

#[test]
fn a_silent_session_takes_nothing_new_although_its_connection_is_open() {
    let mut world = World::new();
    world.session(1, vec![]);
    world.beat(1, 1, 4, &[]);
    world.pass(5_100);
    assert!(claims(&world.put(Input::Ready(vec![C]))).is_empty());
    assert!(!claims(&world.beat(1, 2, 4, &[])).is_empty(), "heard again, it does");
}

#[test]
fn nobody_is_given_more_than_its_slots_whatever_credit_it_claims_to_have() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.beat(1, 1, u64::MAX, &[7]);
    let effects = world.put(Input::Ready(vec![C]));
    assert_eq!(claims(&effects)[0].max, 3);
}

#[test]
fn credit_that_came_before_the_end_of_its_lease_is_used_when_the_end_is_stored() {
    let mut world = World::new();
    world.session(1, vec![info(5, policy()), info(6, policy()), info(7, policy()), info(8, policy())]);
    world.beat(1, 1, 0, &[5, 6, 7, 8]);
    world.put(Input::Ready(vec![C]));
    assert!(claims(&world.beat(1, 2, 1, &[5, 6, 7, 8])).is_empty(), "all slots are held");
    let effects = world.put(Input::Ended(vec![(holder(1), lease(5))]));
    assert_eq!(claims(&effects)[0].max, 1);
}
