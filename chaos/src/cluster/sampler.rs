//! Looks into the store, over and over, beside everything else: at no moment more leases than a limit or a serial key allows.
//!
//! Through the database's own socket, so that no link is in between; each look is one statement, hence one snapshot.

use super::stage::{CAP, CAPPED, Stage, config};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::{JoinHandle, spawn_local};
use tokio_postgres::{Config, NoTls};

/// Between two looks.
const EACH: Duration = Duration::from_millis(150);

/// More than one lease of a serial key, or more leases in a queue than its limit. States 3 to 5 are the leased ones.
const EXCESS: &str = "SELECT 'serial key ' || slot || ' has ' || count(*) FROM outlive.run \
     WHERE state BETWEEN 3 AND 5 AND slot IS NOT NULL GROUP BY slot HAVING count(*) > 1 \
     UNION ALL SELECT 'queue ' || q.name || ' has ' || count(*) FROM outlive.run r JOIN outlive.queue q ON q.id = r.queue \
     WHERE r.state BETWEEN 3 AND 5 AND q.name = $1 GROUP BY q.name HAVING count(*) > $2";

#[derive(Debug, Default)]
pub(super) struct Looks {
    /// That were taken.
    pub(super) taken: Cell<u64>,
    /// What was too much.
    pub(super) excesses: RefCell<Vec<String>>,
}

pub(super) fn start(stage: &Stage) -> (Rc<Looks>, JoinHandle<()>) {
    let looks = Rc::<Looks>::default();
    let config = config(&stage.database(), "chaos");
    let task = spawn_local(look(Rc::clone(&looks), config));
    (looks, task)
}

async fn look(looks: Rc<Looks>, config: Config) {
    loop {
        // While the database is away there is nothing to see.
        if let Ok((client, connection)) = config.connect(NoTls).await {
            let carried = spawn_local(async move { drop(connection.await) });
            while let Ok(rows) = client.query(EXCESS, &[&CAPPED, &i64::from(CAP)]).await {
                looks.taken.set(looks.taken.get() + 1);
                looks.excesses.borrow_mut().extend(rows.iter().map(|row| row.get::<_, String>(0)));
                tokio::time::sleep(EACH).await;
            }
            carried.abort();
        }
        tokio::time::sleep(EACH).await;
    }
}
