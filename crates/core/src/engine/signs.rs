//! Signs of life that another replica may have left outside the store: whom to ask about, and what an answer means.
//!
//! A sign has no age that anybody could trust. What counts is that it is *another one* than at an earlier look: then its worker
//! was heard in between, and it is taken as heard at the earlier look. A sign that stands still, one that is gone, and no answer
//! at all mean nothing; so the worst that a wrong exchange can do is put a verdict off.

use super::Engine;
use super::replicas::Note;
use crate::Holder;
use crate::time::Mono;
use std::collections::BTreeMap;

/// Sessions that are asked about in one look. More is a mass of silences, which the breaker is for.
const LOOKED_AT: usize = 4_096;

/// What was seen at the last look.
#[derive(Clone, Debug, Default)]
pub struct Signs(BTreeMap<Holder, (Option<String>, Mono)>);

impl Signs {
    /// What the answer to a look means that was made at `at`. Whoever was not asked about is forgotten: its next look is a
    /// first one.
    pub fn seen(&mut self, answers: Vec<(Holder, Option<String>)>, at: Mono) -> Vec<Note> {
        let before = std::mem::take(&mut self.0);
        let mut notes = Vec::new();
        for (holder, sign) in answers {
            if let Some((earlier, looked)) = before.get(&holder)
                && sign.is_some()
                && *earlier != sign
            {
                notes.push(Note { holder, opened: None, age: at.since(*looked), named: Vec::new(), evicted: false });
            }
            // An answer that is gone does not make the next one new.
            let earlier = before.get(&holder).and_then(|(earlier, _)| earlier.clone());
            self.0.insert(holder, (sign.or(earlier), at));
        }
        notes
    }
}

impl Engine {
    /// Workers at home elsewhere that were heard here since then.
    #[must_use]
    pub fn heard_for_others(&self, since: Mono) -> Vec<Holder> {
        self.cluster.as_ref().map(|cluster| cluster.heard_since(since)).unwrap_or_default()
    }

    /// Sessions that have not been heard for half the time by which they are judged: another replica may know more.
    #[must_use]
    pub fn unheard(&self) -> Vec<Holder> {
        let observed = self.observed.now();
        let is_unheard = |s: &&super::session::Session| observed.since(s.heard).0 * 2 >= s.ttl(&s.least).0;
        self.sessions.values().filter(is_unheard).map(|s| s.holder).take(LOOKED_AT).collect()
    }

    /// Whether this replica is the home of the session, as far as it knows.
    #[must_use]
    pub fn is_home_of(&self, holder: Holder) -> bool {
        self.sessions.contains_key(&holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Incarnation, Millis, WorkerId};

    const W: Holder = Holder { worker: WorkerId(7), incarnation: Incarnation(1) };

    fn look(signs: &mut Signs, sign: Option<&str>, at: u64) -> Vec<Millis> {
        signs.seen(vec![(W, sign.map(str::to_owned))], Mono(at)).into_iter().map(|note| note.age).collect()
    }

    #[test]
    fn only_a_sign_that_changes_between_two_looks_means_that_its_worker_was_heard() {
        let mut signs = Signs::default();
        assert_eq!(look(&mut signs, Some("a.1"), 100), [], "how old it is nobody knows");
        assert_eq!(look(&mut signs, Some("a.1"), 350), [], "it lies there");
        assert_eq!(look(&mut signs, Some("a.2"), 600), [Millis(250)], "heard at the earlier look, at the earliest");
        assert_eq!(look(&mut signs, None, 850), [], "flushed");
        assert_eq!(look(&mut signs, Some("a.2"), 1_100), [], "restored");
        assert_eq!(look(&mut signs, Some("b.1"), 1_350), [Millis(250)], "another replica");
    }

    #[test]
    fn a_first_sign_counts_where_there_was_none_at_an_earlier_look() {
        let mut signs = Signs::default();
        assert_eq!(look(&mut signs, None, 100), []);
        assert_eq!(look(&mut signs, Some("a.1"), 350), [Millis(250)]);
        // Nobody asked in between: it may be of any time since.
        signs.seen(Vec::new(), Mono(600));
        assert_eq!(look(&mut signs, Some("a.9"), 850), []);
    }
}
