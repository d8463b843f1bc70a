//! Against a real Redis, as it is and as it fails.

use outlive_core::{Holder, Incarnation, WorkerId};
use outlive_liveness_redis::Redis as Exchange;
use outlive_pg_private::{Redis, Signed, signed_for};
use outlive_store::Liveness as _;
use uuid::Uuid;

fn holders(n: i64) -> Vec<Holder> {
    (1..=n).map(|id| Holder { worker: WorkerId(id), incarnation: Incarnation(1) }).collect()
}

fn exchange(redis: &Redis) -> Exchange {
    Exchange::new(&redis.url(), Uuid::from_u128(1)).expect("a URL")
}

/// Waits until it answers.
async fn again(exchange: &Exchange, of: &[Holder]) -> Vec<Option<String>> {
    loop {
        if let Ok(signs) = exchange.check(of).await {
            return signs;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn signs_of_thousands_are_left_read_by_others_and_taken_away() {
    let redis = Redis::start().expect("a Redis");
    let (here, there) = (exchange(&redis), exchange(&redis));
    let all = holders(2_500);
    assert_eq!(here.check(&all).await, Ok(vec![None; 2_500]));
    here.touch(&all).await.unwrap();
    let first = there.check(&all).await.unwrap();
    assert!(first.iter().all(Option::is_some));
    // Each touch is another sign, whoever leaves it.
    here.touch(&all[..1]).await.unwrap();
    let second = there.check(&all[..2]).await.unwrap();
    there.touch(&all[..1]).await.unwrap();
    let third = here.check(&all[..1]).await.unwrap();
    assert!(first[0] != second[0] && second[0] != third[0] && first[1] == second[1]);
    there.forget(&all[1..]).await.unwrap();
    assert_eq!(redis.ask(&["DBSIZE"]).unwrap(), ":1");
    for nothing in [here.touch(&[]).await, here.forget(&[]).await, here.check(&[]).await.map(drop)] {
        assert_eq!(nothing, Ok(()));
    }
    // Another store on the same Redis is another matter.
    let other = Exchange::new(&redis.url(), Uuid::from_u128(2)).unwrap();
    assert_eq!(other.check(&all[..1]).await, Ok(vec![None]));
    assert_ne!(redis.ask(&["TTL", &format!("outlive:{}:1:1", Uuid::from_u128(1).simple())]).unwrap(), ":-1");
}

#[tokio::test]
async fn a_redis_that_is_killed_or_flushed_is_unknown_or_empty_and_is_found_again() {
    let mut redis = Redis::start().expect("a Redis");
    let (exchange, one) = (exchange(&redis), holders(1));
    exchange.touch(&one).await.unwrap();
    redis.flush().unwrap();
    assert_eq!(exchange.check(&one).await, Ok(vec![None]));
    exchange.touch(&one).await.unwrap();
    redis.kill();
    exchange.check(&one).await.unwrap_err();
    // While it rests nothing is even tried.
    exchange.touch(&one).await.unwrap_err();
    redis.start_again().unwrap();
    assert_eq!(again(&exchange, &one).await, [None]);
}

#[tokio::test]
async fn a_redis_that_stalls_in_the_middle_costs_a_moment_and_no_more() {
    let redis = Redis::start().expect("a Redis");
    let (exchange, one) = (exchange(&redis), holders(1));
    exchange.touch(&one).await.unwrap();
    redis.stall(true).unwrap();
    exchange.check(&one).await.unwrap_err();
    redis.stall(false).unwrap();
    assert!(again(&exchange, &one).await[0].is_some());
}

#[tokio::test]
async fn who_is_not_let_in_knows_nothing() {
    let redis = Redis::start().expect("a Redis");
    let url = redis.url().replace("redis://:", "redis://:not-");
    let exchange = Exchange::new(&url, Uuid::nil()).unwrap();
    exchange.check(&holders(1)).await.unwrap_err();
}

#[tokio::test]
async fn over_tls_only_a_redis_with_a_certificate_for_its_name_is_believed() {
    let Signed { cert, key, authority } = signed_for(&["localhost"]).unwrap();
    let stranger = signed_for(&["localhost"]).unwrap().authority;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (authority, stranger) = (file("authority.pem", &authority), file("stranger.pem", &stranger));
    let redis = Redis::start_with_tls(&cert, &key).expect("a Redis with TLS");
    let url = redis.tls_url().unwrap();
    let one = holders(1);
    let trusted = Exchange::new(&format!("{url}?sslrootcert={authority}"), Uuid::from_u128(1)).unwrap();
    trusted.touch(&one).await.unwrap();
    assert!(trusted.check(&one).await.unwrap()[0].is_some());
    // What is not encrypted reads the same: it is one Redis.
    assert!(exchange(&redis).check(&one).await.unwrap()[0].is_some());
    let by_number = url.replace("localhost", "127.0.0.1");
    let doubtful =
        [format!("{url}?sslrootcert={stranger}"), format!("{by_number}?sslrootcert={authority}"), url.clone()];
    for url in doubtful {
        let exchange = Exchange::new(&url, Uuid::from_u128(1)).unwrap();
        let why = exchange.check(&one).await.unwrap_err();
        assert!(why.to_string().contains("ertificate"), "{url}: {why}");
    }
    for url in [format!("{url}#insecure"), format!("{url}?sslrootcert=/none"), "http://localhost".to_owned()] {
        Exchange::new(&url, Uuid::nil()).unwrap_err();
    }
}
