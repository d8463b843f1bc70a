//! A database that servers share: what it must be, what it should be, and the way to it.

use super::finding::Finding;
use outlive_core::Millis;
use outlive_server::{History, Survey};

/// Replicas that people begin with: so many should find connections.
const REPLICAS: u64 = 3;
/// A submission waits for a commit, and a claim for another.
const SLOW_COMMIT: u64 = 20_000;
/// Nothing is committed in less: the disk, or whatever stands before it, does not sync.
const UNSYNCED_COMMIT: u64 = 20;
/// `run_at`, retention and what people read go by the database's clock.
const SKEW: Millis = Millis::secs(2);

pub(super) fn findings(shown: &str, survey: &Result<Survey, String>) -> Vec<Finding> {
    let survey = match survey {
        Ok(survey) => survey,
        Err(why) => {
            let advice = "see that it runs, and that host, port, role, password and sslmode in --store are right";
            return vec![Finding::problem("database", format!("{shown}: {why}"), advice)];
        }
    };
    if let Some(why) = &survey.refusal {
        let (found, advice) = why.split_once("; ").or_else(|| why.split_once(". ")).unwrap_or((why, "see above"));
        return vec![Finding::problem("database", format!("{shown}: {found}"), advice)];
    }
    let mut all = vec![version(shown, survey), durability(survey), rights(survey), connections(survey)];
    all.extend(survey.history.as_ref().map(history));
    all.extend([way(survey), clock(survey), commits(&survey.commits)]);
    all
}

fn version(shown: &str, s: &Survey) -> Finding {
    Finding::ok("database", format!("{shown}: PostgreSQL {}.{}", s.version / 10_000, s.version % 10_000))
}

fn durability(s: &Survey) -> Finding {
    let found = format!("synchronous_commit {}, fsync {}", s.synchronous_commit, if s.fsync { "on" } else { "off" });
    if !s.fsync {
        let advice =
            "set fsync = on in postgresql.conf: with it off, a crash of the machine can lose or damage everything";
        return Finding::problem("durability", found, advice);
    }
    Finding::ok("durability", found)
}

fn rights(s: &Survey) -> Finding {
    match (s.may_migrate, &s.history) {
        (true, None) => Finding::ok("permissions", "this role may make the schema"),
        (true, Some(_)) => Finding::ok("permissions", "this role may bring the schema up to date"),
        (false, None) => Finding::problem(
            "permissions",
            "there is no store here, and this role may not make one",
            "GRANT CREATE ON DATABASE … TO …, or let a role that may start the first server",
        ),
        (false, Some(_)) => Finding::warning(
            "permissions",
            "this role is not the owner of the schema outlive",
            "servers run as they are; for the next version, start with the owner's role once",
        ),
    }
}

fn connections(s: &Survey) -> Finding {
    let free = s.connections.saturating_sub(s.connections_used);
    let each = s.connections_of_a_replica;
    let found = format!("{free} of {} connections are free; a replica takes {each}", s.connections);
    let advice = "raise max_connections in postgresql.conf, or put a pgbouncer in transaction mode before it";
    if free < each {
        return Finding::problem("connections", found, advice);
    }
    if free < each * REPLICAS {
        return Finding::warning("connections", found, format!("{advice}: it is too few for {REPLICAS} replicas"));
    }
    Finding::ok("connections", found)
}

fn history(h: &History) -> Finding {
    let found = format!("generation {}, timeline {}", h.generation, h.written);
    if h.known == h.written {
        return Finding::ok("history", found);
    }
    let found = format!("{found}, and the store was last open on timeline {}", h.known);
    let advice = "a standby took over, or a copy was restored: start the servers again, which raises all epochs, so that no \
                  lease of before can pass";
    Finding::warning("history", found, advice)
}

fn way(s: &Survey) -> Finding {
    let pooler = if s.other_port { "another port answers: a pooler or proxy stands between; " } else { "" };
    if s.hears_notices {
        return Finding::ok("notices", format!("{pooler}NOTIFY is heard"));
    }
    Finding::warning(
        "notices",
        format!("{pooler}NOTIFY is not heard, as behind a pgbouncer in transaction mode"),
        "nothing is wrong with it: replicas poll each 50 ms instead. To hear of each other at once, let them connect directly, \
         or through a pool in session mode",
    )
}

fn clock(s: &Survey) -> Finding {
    let (before, theirs, after) = s.clock;
    let off = if theirs < before { theirs.0 - before.0 } else { (theirs.0 - after.0).max(0) };
    let amount = Millis(off.unsigned_abs());
    let found = match off {
        0 => "this machine's and the database's agree".to_owned(),
        1.. => format!("the database's is {amount} ahead"),
        _ => format!("the database's is {amount} behind"),
    };
    if amount > SKEW {
        let advice = "run_at, cron and retention go by the database's clock, and nobody is taken for dead by it: run NTP on both";
        return Finding::warning("database clock", found, advice);
    }
    Finding::ok("database clock", found)
}

fn commits(sorted: &[u64]) -> Finding {
    let (Some(&middle), Some(&longest)) = (sorted.get(sorted.len() / 2), sorted.last()) else {
        return Finding::warning("commits", "none could be measured", "see the database's log");
    };
    let ms = |us: u64| format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10);
    let found = format!("{} in the middle, {} at most, of {}", ms(middle), ms(longest), sorted.len());
    if middle > SLOW_COMMIT {
        let advice =
            "each step of a run waits for one: use a faster disk for the log, or servers nearer to the database";
        return Finding::warning("commits", found, advice);
    }
    if middle < UNSYNCED_COMMIT {
        return Finding::warning("commits", found, "no disk syncs so fast: see that none on its way only says so");
    }
    Finding::ok("commits", found)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use outlive_core::Wall;

    fn survey() -> Survey {
        Survey {
            version: 150_004,
            synchronous_commit: "on".into(),
            fsync: true,
            refusal: None,
            history: Some(History { generation: uuid::Uuid::nil(), known: 1, written: 1 }),
            may_migrate: true,
            connections: 97,
            connections_used: 10,
            connections_of_a_replica: 9,
            clock: (Wall(10), Wall(12), Wall(20)),
            other_port: false,
            hears_notices: true,
            commits: vec![900, 1_000, 4_000],
        }
    }

    #[test]
    fn a_database_that_is_well_has_nothing_to_change() {
        let all = findings("db", &Ok(survey()));
        assert!(all.iter().all(|f| f.verdict == Verdict::Ok), "{all:?}");
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line_with_what_to_do() {
        let well = survey;
        let cases = [
            ("durability", Verdict::Problem, Survey { fsync: false, ..well() }),
            ("permissions", Verdict::Problem, Survey { may_migrate: false, history: None, ..well() }),
            ("permissions", Verdict::Warning, Survey { may_migrate: false, ..well() }),
            ("connections", Verdict::Problem, Survey { connections_used: 90, ..well() }),
            ("connections", Verdict::Warning, Survey { connections_used: 80, ..well() }),
            ("notices", Verdict::Warning, Survey { hears_notices: false, other_port: true, ..well() }),
            ("database clock", Verdict::Warning, Survey { clock: (Wall(9_000), Wall(12), Wall(9_010)), ..well() }),
            ("commits", Verdict::Warning, Survey { commits: vec![30_000], ..well() }),
            ("commits", Verdict::Warning, Survey { commits: vec![5], ..well() }),
            (
                "history",
                Verdict::Warning,
                Survey { history: Some(History { generation: uuid::Uuid::nil(), known: 1, written: 2 }), ..well() },
            ),
            (
                "database",
                Verdict::Problem,
                Survey { refusal: Some("this is PostgreSQL 13; version 14 or newer is needed".into()), ..well() },
            ),
        ];
        for (check, verdict, survey) in cases {
            let all = findings("db", &Ok(survey));
            let wrong: Vec<_> = all.iter().filter(|f| f.verdict != Verdict::Ok).collect();
            assert_eq!(wrong.iter().map(|f| (f.check, f.verdict)).collect::<Vec<_>>(), [(check, verdict)], "{all:?}");
            assert!(wrong[0].advice.as_ref().is_some_and(|a| a.len() > 10) && !wrong[0].found.contains('\n'));
        }
        assert_eq!(findings("db", &Err("refused".into()))[0].verdict, Verdict::Problem);
    }
}
