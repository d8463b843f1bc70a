//! Several replicas over one database at once: caps, rates, serial keys and business keys are exact, nothing is claimed twice,
//! no key makes two runs, and what one commits another hears.

mod locks;
#[path = "../support/mod.rs"]
mod support;

use outlive_core::class::WorkerProfile;
use outlive_core::clock::SimClock;
use outlive_core::policy::{QueuePolicy, Rate};
use outlive_core::report::{Completion, Failure, Item, ItemResult, Op};
use outlive_core::run::begin::NewRun;
use outlive_core::run::{Evidence, LossBudget};
use outlive_core::{Holder, Json, LeaseRef, Millis, Reason, ReplicaId, RunId, State, Wall};
use outlive_pg_private::Database;
use outlive_store::{
    Catalog, ClaimOrder, ClassRow, CreateRequest, CreateRun, Errand, Exchange, FeedFrom, History, Idempotency,
    LeaseRow, Leases, OnConflict, Presence, Registration, Runs, Sweeps, Verdict, Workers,
};
use outlive_store_postgres::PostgresStore;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use support::{database, runtime, store};
use uuid::Uuid;

const REPLICAS: usize = 3;

/// Replicas, each with a worker whose session it is home of.
struct Cluster {
    replicas: Vec<Replica>,
    clock: Arc<SimClock>,
    numbers: AtomicU64,
    database: Database,
}

struct Replica {
    store: PostgresStore,
    id: ReplicaId,
    holder: Holder,
    order: ClaimOrder,
}

impl Cluster {
    async fn start() -> Self {
        let database = database();
        let clock = Arc::new(SimClock::starting_at(Wall(1_700_000_000_000)));
        let mut replicas = Vec::new();
        for n in 0..REPLICAS {
            let store = store(&database.url(), &format!("r{n}"), clock.clone()).await;
            let id = store.load().await.expect("a store").replica;
            let registration = Registration {
                profile: WorkerProfile {
                    namespace: "default".into(),
                    name: format!("w{n}"),
                    ..WorkerProfile::default()
                },
                instance: Uuid::from_u128(n as u128 + 1),
                outbox_key: String::new(),
                presence: Presence::Session,
                version: String::new(),
                host: String::new(),
                pid: 1,
                may_replace: false,
            };
            let holder = store.register(registration).await.expect("a worker").worker.holder();
            let home_seq = store.open_session(holder, id).await.expect("a store").expect("a session").home_seq;
            let order = ClaimOrder { holder, replica: id, home_seq, max: 4, classes: Vec::new(), request: None };
            replicas.push(Replica { store, id, holder, order });
        }
        Self { replicas, clock, numbers: AtomicU64::new(1), database }
    }

    async fn class(&self, queue: &str, policy: QueuePolicy) -> ClassRow {
        let store = &self.replicas[0].store;
        store.put_queue("default", queue, policy.into()).await.expect("a queue");
        let class = outlive_core::class::MatchClass {
            namespace: "default".into(),
            queue: queue.into(),
            kind: "exec".into(),
            requires: BTreeMap::new(),
            pin: None,
        };
        store.intern_class(class).await.expect("a class")
    }

    fn draft(&self, class: &ClassRow) -> CreateRun {
        let random = u128::from(self.numbers.fetch_add(1, Ordering::Relaxed))
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        let new = NewRun {
            id: RunId::from_parts(Wall(1_700_000_000_000), random),
            class: class.id,
            queue: class.queue,
            priority: 0,
            run_at: None,
            hold: false,
            serial_key: None,
            key: None,
            queue_ttl: None,
        };
        let (input, options) = (Json::null(), outlive_core::options::RunOptions::default());
        CreateRun { new, id_chosen: false, on_conflict: OnConflict::Reject, input, options, checkpoint: None }
    }
}

impl Replica {
    async fn create(&self, runs: Vec<CreateRun>) -> Vec<RunId> {
        self.try_create(runs, None).await.expect("runs").into_iter().map(|(id, _)| id).collect()
    }

    async fn try_create(
        &self,
        runs: Vec<CreateRun>,
        idempotency: Option<Idempotency>,
    ) -> Result<Vec<(RunId, bool)>, outlive_store::CreateError> {
        let namespace = "default".to_owned();
        let request = CreateRequest { namespace, runs, idempotency, claims: Vec::new(), only_known: false };
        let created = self.store.create(request).await?;
        Ok(created.runs.into_iter().map(|one| (one.run.id, one.existed)).collect())
    }

    async fn claim(&self, class: &ClassRow, max: u32) -> Vec<LeaseRow> {
        let order = ClaimOrder { max, classes: vec![class.id], ..self.order.clone() };
        self.store.claim(order).await.expect("a claim").leases
    }

    async fn complete(&self, held: &LeaseRow) {
        let item = Item {
            lease: LeaseRef { run_id: held.run.id, epoch: held.run.epoch },
            op: Op::Complete(Completion::default()),
        };
        let results = self.store.report(self.holder, vec![item]).await.expect("a report").results;
        assert_eq!(results, [ItemResult::Ok]);
    }
}

/// Claims on every replica at once until nothing is left; `watch` sees every lease at its beginning and at its end.
async fn drain(cluster: &Cluster, class: &ClassRow, total: usize, watch: &(dyn Fn(&LeaseRow, bool) + Sync)) {
    let done = AtomicU64::new(0);
    let work = cluster.replicas.iter().map(async |replica| {
        while done.load(Ordering::SeqCst) < total as u64 {
            let leases = replica.claim(class, 4).await;
            for held in &leases {
                watch(held, true);
            }
            for held in &leases {
                // Before the store hears it: from then on another may begin.
                watch(held, false);
                replica.complete(held).await;
                done.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    futures_util::future::join_all(work).await;
}

#[test]
fn nothing_is_claimed_twice_and_a_cap_is_never_passed() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let capped = QueuePolicy { max_running: Some(5), ..QueuePolicy::default() };
        let class = cluster.class("capped", capped).await;
        for replica in &cluster.replicas {
            replica.create((0..40).map(|_| cluster.draft(&class)).collect()).await;
        }
        let (open, seen) = (Mutex::new((0_i32, 0_i32)), Mutex::new(BTreeSet::new()));
        drain(&cluster, &class, 120, &|held, begins| {
            let mut open = open.lock().expect("a test");
            open.0 += if begins { 1 } else { -1 };
            open.1 = open.1.max(open.0);
            assert!(open.0 <= 5, "{} leases of a queue that may have 5", open.0);
            assert!(!begins || seen.lock().expect("a test").insert((held.run.id, held.run.epoch)), "claimed twice");
        })
        .await;
        assert_eq!(seen.into_inner().expect("a test").len(), 120);
        assert!(open.into_inner().expect("a test").1 > 1, "replicas worked at once");
        let counts = cluster.replicas[1].store.queue_counts(class.queue).await.expect("counts");
        assert_eq!((counts.queued, counts.running), (0, 0));
        assert_eq!(cluster.replicas[2].store.audit_waiting(1_000).await.expect("an audit").acted, 0);
    });
}

#[test]
fn runs_of_one_serial_key_never_run_at_once_on_any_replica() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let class = cluster.class("serial", QueuePolicy::default()).await;
        let created = cluster.replicas.iter().map(|replica| {
            let drafts = (0..30).map(|n| {
                let mut draft = cluster.draft(&class);
                draft.new.serial_key = Some(format!("s{}", n % 4));
                draft
            });
            replica.create(drafts.collect())
        });
        futures_util::future::join_all(created).await;
        let running = Mutex::new(BTreeSet::new());
        drain(&cluster, &class, 90, &|held, begins| {
            let key = held.run.serial_key.clone().expect("a key");
            let mut running = running.lock().expect("a test");
            assert!(if begins { running.insert(key) } else { running.remove(&key) }, "two runs of a key at once");
        })
        .await;
        assert_eq!(cluster.replicas[0].store.audit_waiting(1_000).await.expect("an audit").acted, 0);
    });
}

#[test]
fn a_rate_holds_over_all_replicas() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let rate = Rate { limit: 7, per: Millis::secs(10) };
        let class = cluster.class("rated", QueuePolicy { rate: Some(rate), ..QueuePolicy::default() }).await;
        cluster.replicas[0].create((0..60).map(|_| cluster.draft(&class)).collect()).await;
        for _ in 0..3 {
            let claims = cluster.replicas.iter().flat_map(|replica| (0..4).map(|_| replica.claim(&class, 3)));
            let taken: usize = futures_util::future::join_all(claims).await.iter().map(Vec::len).sum();
            assert_eq!(taken, 7, "claims in one window");
            cluster.clock.advance_to(outlive_core::Mono(outlive_core::clock::Clock::mono(&*cluster.clock).0 + 10_000));
        }
    });
}

#[test]
fn one_key_makes_one_run_whoever_asks_and_a_repetition_gets_it() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let class = cluster.class("keys", QueuePolicy::default()).await;
        for round in 0..10 {
            let asked = cluster.replicas.iter().flat_map(|replica| {
                (0..3).map(|_| {
                    let mut draft = cluster.draft(&class);
                    draft.new.key = Some(format!("k{round}"));
                    draft.on_conflict = OnConflict::Return;
                    replica.try_create(vec![draft], None)
                })
            });
            let answers: Vec<_> =
                futures_util::future::join_all(asked).await.into_iter().flat_map(|a| a.expect("a run")).collect();
            let ids: BTreeSet<RunId> = answers.iter().map(|(id, _)| *id).collect();
            assert_eq!((ids.len(), answers.iter().filter(|(_, existed)| !existed).count()), (1, 1), "{answers:?}");
            let idempotency = Idempotency { key: format!("i{round}"), body_hash: [7; 32] };
            let asked = cluster.replicas.iter().flat_map(|replica| {
                (0..3).map(|_| replica.try_create(vec![cluster.draft(&class)], Some(idempotency.clone())))
            });
            let answers: Vec<_> =
                futures_util::future::join_all(asked).await.into_iter().flat_map(|a| a.expect("a run")).collect();
            let ids: BTreeSet<RunId> = answers.iter().map(|(id, _)| *id).collect();
            assert_eq!((ids.len(), answers.iter().filter(|(_, existed)| !existed).count()), (1, 1), "{answers:?}");
        }
    });
}

#[test]
fn a_claim_and_the_move_of_its_session_never_both_win() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let class = cluster.class("moves", QueuePolicy::default()).await;
        let (old, new) = (&cluster.replicas[0], &cluster.replicas[1]);
        let mut order = ClaimOrder { max: 1, classes: vec![class.id], ..old.order.clone() };
        for _ in 0..20 {
            old.create(vec![cluster.draft(&class)]).await;
            let claim = old.store.claim(order.clone());
            let open = new.store.open_session(old.holder, new.id);
            let (claimed, opened) = futures_util::future::join(claim, open).await;
            let (claimed, opened) = (claimed.expect("a store"), opened.expect("a store").expect("a session"));
            let seen: Vec<RunId> = opened.leases.iter().map(|held| held.run.id).collect();
            for held in &claimed.leases {
                assert!(seen.contains(&held.run.id), "a lease that the new home does not know");
                old.complete(held).await;
            }
            order = ClaimOrder { replica: new.id, home_seq: opened.home_seq, ..order };
            let left = new.store.claim(ClaimOrder { max: 9, ..order.clone() }).await.expect("a claim");
            for held in &left.leases {
                old.complete(held).await;
            }
            let back = old.store.open_session(old.holder, old.id).await.expect("a store").expect("a session");
            order = ClaimOrder { replica: old.id, home_seq: back.home_seq, ..order };
        }
    });
}

fn taken(holder: Holder, lease: LeaseRef) -> Verdict {
    Verdict {
        holder,
        guard: None,
        leases: Some(vec![lease]),
        reason: Reason::Evicted,
        evidence: Evidence::Person,
        last_heard_at: Wall(1_700_000_000_000),
        budget: LossBudget::Free,
        end_session: false,
    }
}

#[test]
fn a_verdict_and_a_report_of_the_same_lease_end_it_once() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let class = cluster.class("ends", QueuePolicy::default()).await;
        let (home, other) = (&cluster.replicas[0], &cluster.replicas[1]);
        for _ in 0..20 {
            home.create(vec![cluster.draft(&class)]).await;
            let held = home.claim(&class, 1).await.remove(0);
            let lease = LeaseRef { run_id: held.run.id, epoch: held.run.epoch };
            let verdict = taken(home.holder, lease);
            let item = Item { lease, op: Op::Complete(Completion::default()) };
            let (lost, said) =
                futures_util::future::join(other.store.lose(verdict), home.store.report(home.holder, vec![item])).await;
            let (lost, said) = (lost.expect("a verdict").lost.len(), said.expect("a report").results);
            let row = home.store.get("default", held.run.id).await.expect("a store").expect("the run").run;
            // A success behind the loss is salvaged: it is accepted in either order, and the run ends once.
            assert_eq!(said, [ItemResult::Ok]);
            assert_eq!(row.state, State::Succeeded, "{lost} lost");
        }
        assert_eq!(home.store.audit_waiting(1_000).await.expect("an audit").acted, 0);
    });
}

#[test]
fn a_report_about_a_run_that_another_replica_has_changed_is_decided_on_the_run_as_it_is() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let (home, other) = (&cluster.replicas[0], &cluster.replicas[1]);
        let held = async |queue| {
            let class = cluster.class(queue, QueuePolicy::default()).await;
            home.create(vec![cluster.draft(&class)]).await;
            let held = home.claim(&class, 1).await.remove(0);
            let lease = LeaseRef { run_id: held.run.id, epoch: held.run.epoch };
            (held.run.id, lease)
        };
        let say = async |lease, op| {
            let said = home.store.report(home.holder, vec![Item { lease, op }]).await.expect("a report").results;
            said.into_iter().next().expect("an answer")
        };
        let state = async |id| home.store.get("default", id).await.expect("a store").expect("the run").run.state;

        // Asked to end elsewhere: a failure, which would be tried again, ends it.
        let (id, lease) = held("cancelled").await;
        other.store.cancel("default", id, Reason::Cancelled, None).await.expect("a store");
        assert_eq!(say(lease, Op::Fail(Failure::of(Reason::ExitCode))).await, ItemResult::Ok);
        assert_eq!(state(id).await, State::Cancelled);

        // Taken elsewhere: what leaves its row alone is no more believed than what would change it.
        for queue in ["claimed", "started"] {
            let (id, lease) = held(queue).await;
            if queue == "started" {
                assert_eq!(say(lease, Op::Start).await, ItemResult::Ok);
            }
            let lost = other.store.lose(taken(home.holder, lease)).await.expect("a verdict").lost;
            assert_eq!(lost, [lease]);
            let said = say(lease, Op::Start).await;
            assert!(matches!(said, ItemResult::Fenced { .. }), "{said:?}");
            assert_eq!(state(id).await, State::Queued);
        }

        // One of many that end alike.
        let class = cluster.class("many", QueuePolicy::default()).await;
        home.create((0..40).map(|_| cluster.draft(&class)).collect()).await;
        let held = home.claim(&class, 40).await;
        let leases: Vec<LeaseRef> = held.iter().map(|h| LeaseRef { run_id: h.run.id, epoch: h.run.epoch }).collect();
        assert_eq!(leases.len(), 40);
        let lost = other.store.lose(taken(home.holder, leases[7])).await.expect("a verdict").lost;
        assert_eq!(lost, [leases[7]]);
        assert_eq!(other.claim(&class, 1).await[0].run.id, leases[7].run_id);
        let end = |lease: &LeaseRef| Item { lease: *lease, op: Op::Complete(Completion::default()) };
        let said = home.store.report(home.holder, leases.iter().map(end).collect()).await.expect("a report").results;
        for (i, (lease, said)) in leases.iter().zip(&said).enumerate() {
            let ended = state(lease.run_id).await;
            match i {
                7 => assert!(matches!(said, ItemResult::Fenced { .. }) && ended == State::Claimed, "{said:?} {ended}"),
                _ => assert_eq!((said, ended), (&ItemResult::Ok, State::Succeeded)),
            }
        }
    });
}

#[test]
fn readers_of_the_feed_miss_nothing_that_replicas_commit_at_once() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let class = cluster.class("feed", QueuePolicy::default()).await;
        let stop = AtomicU64::new(0);
        let write = cluster.replicas.iter().map(async |replica| {
            for _ in 0..25 {
                replica.create(vec![cluster.draft(&class), cluster.draft(&class)]).await;
            }
            stop.fetch_add(1, Ordering::SeqCst);
        });
        let read = async {
            let (mut from, mut seen) = (FeedFrom::Oldest, Vec::new());
            loop {
                let over = stop.load(Ordering::SeqCst) == REPLICAS as u64;
                let page = cluster.replicas[0].store.feed(from, 3).await.expect("a page");
                assert!(!page.gap);
                let at_head = page.at_head;
                seen.extend(page.events.into_iter().map(|(place, _)| place));
                from = FeedFrom::After(page.next);
                if over && at_head {
                    return seen;
                }
            }
        };
        let (_, seen) = futures_util::future::join(futures_util::future::join_all(write), read).await;
        let mut from = FeedFrom::Oldest;
        let mut whole = Vec::new();
        loop {
            let page = cluster.replicas[1].store.feed(from, 1_000).await.expect("a page");
            whole.extend(page.events.into_iter().map(|(place, _)| place));
            from = FeedFrom::After(page.next);
            if page.at_head {
                break;
            }
        }
        assert_eq!(seen, whole);
        assert!(whole.len() >= 150, "{} events", whole.len());
    });
}

#[test]
fn what_one_replica_commits_another_hears_and_an_errand_is_read_once() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let class = cluster.class("hints", QueuePolicy::default()).await;
        let (here, there) = (&cluster.replicas[0], &cluster.replicas[1]);
        here.create(vec![cluster.draft(&class)]).await;
        while !there.store.hints().await.ready.contains(&class.id) {}
        let errand = Errand::Drain { holder: there.holder, draining: true };
        here.store.tell(there.id, errand.clone()).await.expect("an errand");
        while !there.store.hints().await.errands {}
        assert_eq!(cluster.replicas[2].store.errands(10).await.expect("errands"), []);
        assert_eq!(there.store.errands(10).await.expect("errands"), [errand]);
        assert_eq!(there.store.errands(10).await.expect("errands"), []);
    });
}

#[test]
fn a_policy_that_one_replica_sets_holds_on_the_others() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let class = cluster.class("policy", QueuePolicy::default()).await;
        let (here, there) = (&cluster.replicas[0], &cluster.replicas[1]);
        there.create((0..6).map(|_| cluster.draft(&class)).collect()).await;
        assert_eq!(there.claim(&class, 1).await.len(), 1);
        here.store
            .put_queue("default", "policy", QueuePolicy { max_running: Some(2), ..QueuePolicy::default() }.into())
            .await
            .expect("a queue");
        assert_eq!(there.claim(&class, 4).await.len(), 1, "one of two was leased");
        here.store.pause_queue(class.queue, true).await.expect("a queue");
        assert_eq!(there.claim(&class, 4).await.len(), 0);
    });
}
