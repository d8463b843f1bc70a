//! The store under test: SQLite in memory behind the fault decorator, called without an executor. Each replica has a way of
//! its own to the one store, with weather of its own.

use crate::rng::Rng;
use futures_util::FutureExt as _;
use outlive_core::Mono;
use outlive_core::clock::{Clock as _, SimClock};
use outlive_store::faults::{Call, Fault, Faulty};
use outlive_store_sqlite::SqliteStore;
use std::sync::{Arc, Mutex, PoisonError};

/// What befalls calls now.
#[derive(Debug)]
pub(crate) struct Weather {
    /// Nothing is written.
    pub refuse: bool,
    /// Of a hundred writes, so many are written and their replies lost.
    pub lose: u64,
    /// Of a hundred writes, so many are torn.
    pub tear: u64,
    /// The same for verdicts alone: lost, torn.
    pub verdicts: (u64, u64),
    /// Whether something befell the last call.
    pub struck: bool,
    /// When the last write of this way was committed.
    pub committed: Mono,
    rng: Rng,
}

type Script = Box<dyn Fn(Call) -> Fault + Send + Sync>;
/// The store.
pub(crate) type SimStore = Faulty<SqliteStore, Script>;

/// A way to the store, with its weather.
#[derive(Clone)]
pub(crate) struct Stormy {
    pub store: Arc<SimStore>,
    weather: Arc<Mutex<Weather>>,
}

impl Stormy {
    pub(crate) fn new(store: Arc<SqliteStore>, clock: Arc<SimClock>, rng: Rng) -> Self {
        let committed = clock.mono();
        let calm = Weather { refuse: false, lose: 0, tear: 0, verdicts: (0, 0), struck: false, committed, rng };
        let weather = Arc::new(Mutex::new(calm));
        let seen = Arc::clone(&weather);
        let script: Script = Box::new(move |call| {
            let mut w = seen.lock().unwrap_or_else(PoisonError::into_inner);
            w.struck = true;
            if w.refuse {
                return Fault::Refuse;
            }
            let (mut lose, mut tear) = if call.writes { (w.lose, w.tear) } else { (0, 0) };
            if call.method == "lose" {
                (lose, tear) = (lose.max(w.verdicts.0), tear.max(w.verdicts.1));
            }
            if lose > 0 && w.rng.chance(lose) {
                w.committed = clock.mono();
                return Fault::LoseReply;
            }
            if tear > 0 && w.rng.chance(tear) {
                return Fault::Tear;
            }
            w.struck = false;
            if call.writes {
                w.committed = clock.mono();
            }
            Fault::None
        });
        Self { store: Arc::new(Faulty::new(store, script)), weather }
    }

    /// When the last write of this way was committed.
    pub(crate) fn committed(&self) -> Mono {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner).committed
    }

    pub(crate) fn weather(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.weather.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether something befell the last call, so that its answer says nothing about what was written.
    pub(crate) fn struck(&self) -> bool {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner).struck
    }
}

/// A store in memory answers when it is first polled.
pub(crate) fn now<T>(call: impl Future<Output = T>) -> T {
    match call.now_or_never() {
        Some(answer) => answer,
        None => unreachable!("a store in memory answers when it is first polled"),
    }
}

/// What the simulation itself needs of the store must work: if it does not, the simulation is broken and stops.
pub(crate) fn sure<T, E: std::fmt::Display>(answer: Result<T, E>, what: &str) -> T {
    match answer {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}
