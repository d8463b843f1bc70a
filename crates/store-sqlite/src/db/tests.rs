//! Groups of commands of which one goes wrong.

use super::*;
use crate::open;
use crate::rows::single;
use outlive_core::clock::SimClock;
use std::sync::Mutex;

type Answers = Arc<Mutex<Vec<(usize, Result<i64, StoreError>)>>>;

fn db() -> Db {
    let clock = Arc::new(SimClock::default());
    Db::new(open::in_memory(&*clock).unwrap(), clock).unwrap()
}

fn command(
    n: usize,
    answers: &Answers,
    work: impl FnMut(&mut Tx<'_>) -> Answer<i64, StoreError> + Send + 'static,
) -> Box<dyn Command> {
    let answers = answers.clone();
    Box::new(Write::new(work, move |answer| answers.lock().unwrap().push((n, answer))))
}

/// Adds a queue; its row's number is the answer.
fn adds_a_queue(name: &'static str) -> impl FnMut(&mut Tx<'_>) -> Answer<i64, StoreError> {
    move |tx| Ok(Ok(crate::catalog::put_queue(tx, "n", name, &outlive_core::given::GivenPolicy::default())?.id.0))
}

fn queues(db: &Db) -> i64 {
    single(&db.conn, "SELECT count(*) FROM queue", &[]).unwrap().unwrap()
}

fn group(
    db: &mut Db,
    bad: impl FnMut(&mut Tx<'_>) -> Answer<i64, StoreError> + Send + 'static,
) -> Vec<Result<i64, StoreError>> {
    let answers = Answers::default();
    let commands = vec![
        command(0, &answers, adds_a_queue("first")),
        command(1, &answers, bad),
        command(2, &answers, adds_a_queue("last")),
    ];
    db.transact(commands);
    let mut answers = answers.lock().unwrap().clone();
    answers.sort_by_key(|(n, _)| *n);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[test]
fn a_panic_undoes_its_own_command_and_no_other() {
    let mut db = db();
    let answers = group(&mut db, |tx| {
        let _ = adds_a_queue("half")(tx)?;
        panic!("on purpose");
    });
    assert!(matches!(&answers[1], Err(StoreError::Unavailable(why)) if why.contains("panicked")), "{answers:?}");
    assert_eq!((&answers[0], &answers[2]), (&Ok(1), &Ok(2)));
    assert_eq!(queues(&db), 2);
    // What it had put into the cache is gone as well.
    assert_eq!(group(&mut db, adds_a_queue("half")), [Ok(1), Ok(3), Ok(2)]);
}

#[test]
fn an_error_of_sql_undoes_its_own_command_and_no_other() {
    let mut db = db();
    let answers = group(&mut db, |tx| {
        let _ = adds_a_queue("half")(tx)?;
        tx.conn.execute("INSERT INTO queue (id) VALUES (1)", [])?;
        Ok(Ok(0))
    });
    assert!(matches!(answers[1], Err(StoreError::Unavailable(_))), "{answers:?}");
    assert_eq!((queues(&db), answers[2].is_ok()), (2, true));
}

#[test]
fn the_feed_tells_nothing_that_was_undone_and_nothing_twice() {
    let mut db = db();
    let answers = Answers::default();
    let tells = |n: u128, fails: bool| {
        move |tx: &mut Tx<'_>| {
            let run = run(n);
            tx.feed.run(&run, &outlive_core::run::derive::created(&run));
            if fails { Err(Fault::Other("on purpose".to_owned())) } else { Ok(Ok(0)) }
        }
    };
    let commands = (0..4).map(|n| command(0, &answers, tells(n, n == 2)));
    db.transact(commands.collect());
    let bodies: Vec<String> = crate::rows::column(&db.conn, "SELECT body FROM feed", &[]).unwrap();
    let told: Vec<String> = bodies
        .iter()
        .flat_map(|body| serde_json::from_str::<Vec<serde_json::Value>>(body).unwrap())
        .map(|event| event[1].as_str().unwrap().to_owned())
        .collect();
    let expected: Vec<String> = [0, 1, 3].map(|n| run(n).id.to_string()).into();
    assert_eq!(told, expected);
}

fn run(n: u128) -> outlive_core::run::Run {
    use outlive_core::{ClassId, QueueId, RunId, Wall};
    let new = outlive_core::run::begin::NewRun {
        id: RunId::from_parts(Wall(1), n << 64),
        class: ClassId(1),
        queue: QueueId(1),
        priority: 0,
        run_at: None,
        hold: false,
        serial_key: None,
        key: None,
        queue_ttl: None,
    };
    outlive_core::run::Run::create(new, &outlive_core::policy::QueuePolicy::default(), Wall(1))
}

#[test]
fn a_refusal_is_an_answer_and_costs_the_group_nothing() {
    let mut db = db();
    let mut runs = 0;
    let ran = Arc::new(Mutex::new(0));
    let seen = ran.clone();
    let answers = group(&mut db, move |_| {
        runs += 1;
        *seen.lock().unwrap() = runs;
        Ok(Err(StoreError::Refused("no".to_owned())))
    });
    assert_eq!(answers[1], Err(StoreError::Refused("no".to_owned())));
    assert_eq!((queues(&db), *ran.lock().unwrap()), (2, 1), "the group ran once");
}

#[test]
fn a_full_disk_is_told_and_is_no_end() {
    let mut db = db();
    let pages: i64 = db.conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    db.conn.pragma_update(None, "max_page_count", pages + 1).unwrap();
    let fills = |tx: &mut Tx<'_>| {
        tx.conn.execute("INSERT INTO worker_gone (id, name, at) VALUES (1, hex(zeroblob(100000)), 0)", [])?;
        Ok(Ok(0))
    };
    let answers = group(&mut db, fills);
    assert!(matches!(answers[1], Err(StoreError::Full(_))), "{answers:?}");
    assert_eq!((queues(&db), answers[0].is_ok(), answers[2].is_ok()), (2, true, true));
    db.conn.pragma_update(None, "max_page_count", pages + 1_000).unwrap();
    assert_eq!(group(&mut db, fills)[1], Ok(0));
}

#[test]
fn after_an_error_of_the_disk_nothing_more_is_written() {
    let mut db = db();
    let answers = group(&mut db, |_| Err(Fault::Io("a bad sector".to_owned())));
    assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Unavailable(_)))), "{answers:?}");
    assert_eq!(queues(&db), 0);
    let after = group(&mut db, adds_a_queue("more"));
    let told = |answer: &Result<i64, StoreError>| matches!(answer, Err(StoreError::Unavailable(why)) if why.contains("restart"));
    assert!(after.iter().all(told), "{after:?}");
}
