//! A fresh store, a clock that only the test moves, and the words that tests are written in.

use crate::build::{class, json};
use outlive_core::class::{MatchClass, WorkerProfile};
use outlive_core::clock::{Clock, SimClock};
use outlive_core::feed::FeedEvent;
use outlive_core::options::RunOptions;
use outlive_core::policy::QueuePolicy;
use outlive_core::report::{Item, ItemResult, Op};
use outlive_core::run::begin::NewRun;
use outlive_core::run::{Evidence, LossBudget, Run};
use outlive_core::{Holder, HomeSeq, LeaseRef, Millis, Mono, Reason, ReplicaId, RunId, Wall};
use outlive_store::{
    ClaimOrder, Claimed, ClassRow, CreateError, CreateRequest, CreateRun, Created, FeedCursor, FeedFrom, FeedPage,
    LeaseRow, LoseOutcome, OnConflict, OutputEntry, OutputFrom, OutputKind, OutputQuery, Presence, QueueCounts,
    QueueRow, RecoveryQuery, RecoveryRow, RegisterError, Registered, Registration, RunQuery, RunRow, Store, Verdict,
};
use std::any::Any;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

/// A store, and what must live as long as it (a temporary folder).
pub struct Built {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Dropped after it.
    pub keep: Box<dyn Any + Send>,
}

/// Changes rows past a store, by a statement that every backend reads.
pub type Harm = Box<dyn Fn(&str)>;

/// One test's store.
pub struct World {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Its clock.
    pub clock: Arc<SimClock>,
    numbers: AtomicU64,
    _keep: Box<dyn Any + Send>,
}

/// An open session of a worker.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who.
    pub holder: Holder,
    /// Its home.
    pub replica: ReplicaId,
    /// The same.
    pub home_seq: HomeSeq,
}

/// The replica of all sessions of a test.
pub const HERE: ReplicaId = ReplicaId(1);
/// The tenant that tests use if they do not say.
pub const TENANT: &str = "default";

impl World {
    /// Runs one test over a fresh store.
    ///
    /// # Panics
    /// If the test does, or if there is no runtime for it.
    pub fn run<T>(factory: &dyn Fn(Arc<SimClock>) -> Built, test: impl FnOnce(World) -> T)
    where
        T: Future<Output = ()>,
    {
        let world = Self::fresh(factory);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(test(world));
    }

    fn fresh(factory: &dyn Fn(Arc<SimClock>) -> Built) -> Self {
        let clock = Arc::new(SimClock::starting_at(Wall(1_700_000_000_000)));
        let Built { store, keep } = factory(clock.clone());
        Self { store, clock, numbers: AtomicU64::new(1), _keep: keep }
    }

    /// Runs one test over a fresh store and a way past it.
    ///
    /// # Panics
    /// See [`Self::run`].
    pub fn run_past<T>(factory: &dyn Fn(Arc<SimClock>) -> (Built, Harm), test: impl FnOnce(World, Harm) -> T)
    where
        T: Future<Output = ()>,
    {
        let way = std::cell::Cell::new(None);
        let store = |clock| {
            let (built, harm) = factory(clock);
            way.set(Some(harm));
            built
        };
        Self::run(&store, |world| test(world, way.take().expect("a way past the store")));
    }

    /// Runs one test over two fresh stores.
    ///
    /// # Panics
    /// If the test does, or if there is no runtime for it.
    pub fn run_both<T>(factories: [&dyn Fn(Arc<SimClock>) -> Built; 2], test: impl FnOnce(World, World) -> T)
    where
        T: Future<Output = ()>,
    {
        let other = Self::fresh(factories[1]);
        Self::run(factories[0], |one| test(one, other));
    }

    /// A number that no other call got.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The store's time.
    pub fn now(&self) -> Wall {
        self.clock.wall()
    }

    /// Time passes.
    pub fn pass(&self, millis: Millis) {
        self.clock.advance_to(Mono(self.clock.mono().0 + millis.0));
    }

    /// A class of the tenant's queue.
    pub async fn class(&self, queue: &str) -> ClassRow {
        self.class_of(class(queue)).await
    }

    /// A class.
    pub async fn class_of(&self, class: MatchClass) -> ClassRow {
        self.store.intern_class(class).await.expect("a class")
    }

    /// A queue with a policy, and its class.
    pub async fn queue(&self, name: &str, policy: QueuePolicy) -> (QueueRow, ClassRow) {
        let queue = self.store.put_queue(TENANT, name, policy.into()).await.expect("a queue");
        (queue, self.class(name).await)
    }

    /// A new run of a class.
    pub fn draft(&self, class: &ClassRow) -> CreateRun {
        let random = u128::from(self.number()).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        CreateRun {
            new: NewRun {
                id: RunId::from_parts(self.now(), random),
                class: class.id,
                queue: class.queue,
                priority: 0,
                run_at: None,
                hold: false,
                serial_key: None,
                key: None,
                queue_ttl: None,
            },
            id_chosen: false,
            on_conflict: OnConflict::Reject,
            input: json(r#"{"command":["true"]}"#),
            options: RunOptions::default(),
            checkpoint: None,
        }
    }

    /// A request for runs.
    pub fn request(&self, runs: Vec<CreateRun>) -> CreateRequest {
        CreateRequest { namespace: TENANT.to_owned(), runs, idempotency: None, claims: Vec::new(), only_known: false }
    }

    /// Creates runs.
    pub async fn try_create(&self, runs: Vec<CreateRun>) -> Result<Created, CreateError> {
        self.store.create(self.request(runs)).await
    }

    /// Creates one run.
    pub async fn create(&self, draft: CreateRun) -> Run {
        let mut created = self.try_create(vec![draft]).await.expect("a run");
        created.runs.remove(0).run
    }

    /// Creates one plain run.
    pub async fn one(&self, class: &ClassRow) -> Run {
        self.create(self.draft(class)).await
    }

    /// Creates one run that is a little different.
    pub async fn one_with(&self, class: &ClassRow, change: impl FnOnce(&mut CreateRun)) -> Run {
        let mut draft = self.draft(class);
        change(&mut draft);
        self.create(draft).await
    }

    /// How a process presents itself.
    pub fn registration(&self, name: &str) -> Registration {
        Registration {
            profile: WorkerProfile { namespace: TENANT.to_owned(), name: name.to_owned(), ..WorkerProfile::default() },
            instance: Uuid::from_u128(u128::from(self.number())),
            outbox_key: format!("folder of {name}"),
            presence: Presence::Session,
            version: "1".to_owned(),
            host: "h".to_owned(),
            pid: 7,
            may_replace: false,
        }
    }

    /// Registers.
    pub async fn register(&self, registration: &Registration) -> Result<Registered, RegisterError> {
        self.store.register(registration.clone()).await
    }

    /// A worker of the tenant with an open session.
    pub async fn worker(&self, name: &str) -> Session {
        let mut registration = self.registration(name);
        registration.may_replace = true;
        let registered = self.register(&registration).await.expect("a worker");
        self.open(registered.worker.holder()).await
    }

    /// A worker of any tenant.
    pub async fn worker_in(&self, namespace: &str, name: &str) -> Session {
        let mut registration = self.registration(name);
        namespace.clone_into(&mut registration.profile.namespace);
        let registered = self.register(&registration).await.expect("a worker");
        self.open(registered.worker.holder()).await
    }

    /// Opens the holder's session.
    pub async fn open(&self, holder: Holder) -> Session {
        let opened = self.store.open_session(holder, HERE).await.expect("a store").expect("a current incarnation");
        Session { holder, replica: HERE, home_seq: opened.home_seq }
    }

    /// An order for a session.
    pub fn order(&self, session: &Session, classes: &[&ClassRow], max: u32) -> ClaimOrder {
        ClaimOrder {
            holder: session.holder,
            replica: session.replica,
            home_seq: session.home_seq,
            max,
            classes: classes.iter().map(|class| class.id).collect(),
            request: None,
        }
    }

    /// Claims.
    pub async fn claim(&self, session: &Session, classes: &[&ClassRow], max: u32) -> Claimed {
        self.store.claim(self.order(session, classes, max)).await.expect("a claim")
    }

    /// Claims, and names what was taken.
    pub async fn claim_ids(&self, session: &Session, classes: &[&ClassRow], max: u32) -> Vec<RunId> {
        self.claim(session, classes, max).await.leases.iter().map(|lease| lease.run.id).collect()
    }

    /// Claims the one run that must be there.
    pub async fn take(&self, session: &Session, class: &ClassRow) -> LeaseRow {
        self.claim(session, &[class], 1).await.leases.pop().expect("a ready run")
    }

    /// A run that the session holds.
    pub async fn leased(&self, session: &Session, class: &ClassRow) -> LeaseRow {
        let run = self.one(class).await;
        let lease = self.take(session, class).await;
        assert_eq!(lease.run.id, run.id, "the new run is the first");
        lease
    }

    /// One statement.
    pub async fn say(&self, session: &Session, lease: LeaseRef, op: Op) -> ItemResult {
        self.say_all(session, vec![Item { lease, op }]).await.remove(0)
    }

    /// Statements.
    pub async fn say_all(&self, session: &Session, items: Vec<Item>) -> Vec<ItemResult> {
        self.store.report(session.holder, items).await.expect("a report").results
    }

    /// A verdict of silence over a session.
    pub fn silence(&self, session: &Session) -> Verdict {
        Verdict {
            holder: session.holder,
            guard: Some((session.replica, session.home_seq)),
            leases: None,
            reason: Reason::WorkerHeartbeatLost,
            evidence: Evidence::Silence,
            last_heard_at: self.now(),
            budget: LossBudget::Losses,
            end_session: false,
        }
    }

    /// Loses all that a session holds.
    pub async fn lose(&self, session: &Session) -> LoseOutcome {
        self.store.lose(self.silence(session)).await.expect("a verdict")
    }

    /// A run of the tenant.
    pub async fn get(&self, id: RunId) -> RunRow {
        self.store.get(TENANT, id).await.expect("a store").expect("the run")
    }

    /// Its hot row.
    pub async fn row(&self, id: RunId) -> Run {
        self.get(id).await.run
    }

    /// A queue's counts.
    pub async fn counts(&self, class: &ClassRow) -> QueueCounts {
        self.store.queue_counts(class.queue).await.expect("counts")
    }

    /// Queued, scheduled, held, running.
    pub async fn tally(&self, class: &ClassRow) -> (i64, i64, i64, i64) {
        let counts = self.counts(class).await;
        (counts.queued, counts.scheduled, counts.held, counts.running)
    }

    /// A whole log, read in pages of this size.
    pub async fn log_by(&self, id: RunId, from: OutputFrom, limit: u32) -> Vec<OutputEntry> {
        let mut from = from;
        let mut entries = Vec::new();
        loop {
            let query = OutputQuery { from, channel: None, limit, max_bytes: usize::MAX };
            let page = self.store.output(id, query).await.expect("a store").expect("the run");
            entries.extend(page.entries);
            if page.at_head {
                return entries;
            }
            from = OutputFrom::After(page.next_after);
        }
    }

    /// A whole log as text: `A2` the marker of epoch 2, `L1` the loss of epoch 1, `gap 3-9 limit`, and frames as they are.
    pub async fn log(&self, id: RunId) -> Vec<String> {
        self.log_by(id, OutputFrom::After(0), 100).await.iter().map(told).collect()
    }

    /// Recoveries of a run, newest first.
    pub async fn recoveries(&self, id: RunId) -> Vec<RecoveryRow> {
        let query = RecoveryQuery { namespace: TENANT.to_owned(), run: Some(id), limit: 100, cursor: None };
        self.store.recoveries(query).await.expect("recoveries").rows
    }

    /// A page of the feed. Where others write, too, what is committed may have to wait for a transaction that began before it.
    pub async fn feed(&self, from: FeedFrom, limit: u32) -> FeedPage {
        loop {
            let page = self.store.feed(from, limit).await.expect("a page");
            if page.at_head || !page.events.is_empty() {
                return page;
            }
        }
    }

    /// The whole feed, oldest first.
    pub async fn whole_feed(&self) -> Vec<(FeedCursor, FeedEvent)> {
        let (mut from, mut events) = (FeedFrom::Oldest, Vec::new());
        loop {
            let page = self.feed(from, 1_000).await;
            events.extend(page.events);
            if page.at_head {
                return events;
            }
            from = FeedFrom::After(page.next);
        }
    }

    /// Ids of the runs that a query finds, newest first, all pages.
    pub async fn found(&self, query: RunQuery) -> Vec<RunId> {
        let mut query = RunQuery { namespace: TENANT.to_owned(), limit: query.limit.max(2), ..query };
        let mut ids = Vec::new();
        loop {
            let page = self.store.list(query.clone()).await.expect("a page");
            ids.extend(page.rows.iter().map(|row| row.run.id));
            match page.next {
                Some(next) => query.cursor = Some(next),
                None => return ids,
            }
        }
    }
}

/// An entry in few letters.
pub(crate) fn told(entry: &OutputEntry) -> String {
    use outlive_core::run::derive::Marker;
    match &entry.kind {
        OutputKind::Frame { frame, .. } => String::from_utf8_lossy(&frame.bytes).into_owned(),
        OutputKind::Marker(Marker::Attempt { epoch, .. }, _) => format!("A{epoch}"),
        OutputKind::Marker(Marker::Lost { epoch, .. }, _) => format!("L{epoch}"),
        OutputKind::Gap { from, to, why } => format!("gap {from}-{to} {why}"),
    }
}
