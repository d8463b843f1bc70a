//! The liveness exchange on Redis, or what speaks its protocol.
//!
//! ```text
//!   replica A ── SET outlive:<generation>:<worker>:<incarnation> = <writer>.<n>, EX ──► Redis
//!   replica B ── MGET of those that it has not heard for a while ◄──────────────────────────────────────┘
//! ```
//!
//! A sign is a number that its writer never uses twice. So a key that stands still, however it came there, says nothing; and
//! neither does a key that is gone. Each call has a deadline ([`PATIENCE`]); after a failure the next call makes a new
//! connection, at the earliest [`REST`] later, so that a Redis which is away, stalled or full costs nobody any time.
//!
//! `rediss://` is TLS: the certificate must be for this host, and signed by `?sslrootcert=FILE` or an authority of the system.

use async_trait::async_trait;
use futures_util::FutureExt as _;
use outlive_core::Holder;
use outlive_store::{Liveness, Unknown};
use redis::aio::MultiplexedConnection;
use redis::{Client, Pipeline, TlsCertificates};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Sleep, sleep};
use uuid::Uuid;

/// What a call may take: shorter than the exchange of rows, which it is there to beat.
const PATIENCE: Duration = Duration::from_millis(500);
/// After a failure nothing is tried for so long.
const REST: Duration = Duration::from_secs(1);
/// Signs of life in one round trip.
const BATCH: usize = 1_000;
/// How long a sign stays that nobody renews or takes away, in seconds: nobody is judged by its age.
const KEPT_SECONDS: u64 = 3_600;

/// A Redis.
#[derive(Debug)]
pub struct Redis {
    client: Client,
    prefix: String,
    /// Of this process: no other has it.
    writer: Uuid,
    signs: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Nothing is tried until then, and why.
    rests: Option<(Pin<Box<Sleep>>, Unknown)>,
}

impl Redis {
    /// The exchange of a store with this generation. Nothing is connected yet: a Redis that is away stops nobody.
    ///
    /// # Errors
    /// The URL is none, or its certificate cannot be read; as a sentence for people.
    pub fn new(url: &str, generation: Uuid) -> Result<Self, String> {
        Ok(Self {
            client: client(url)?,
            prefix: format!("outlive:{}", generation.simple()),
            writer: Uuid::new_v4(),
            signs: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    fn key(&self, holder: Holder) -> String {
        format!("{}:{}:{}", self.prefix, holder.worker, holder.incarnation)
    }

    /// Runs batches one after the other, all within the deadline.
    async fn run<T: redis::FromRedisValue>(&self, batches: Vec<Pipeline>) -> Result<Vec<T>, Unknown> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        // Whoever waits for another call waits no longer than that may take.
        let mut state = self.state.lock().await;
        if let Some((rest, why)) = &mut state.rests {
            if rest.now_or_never().is_none() {
                return Err(why.clone());
            }
            state.rests = None;
        }
        let mut connection = state.connection.take();
        let work = async {
            let mut connection = match connection.take() {
                Some(connection) => connection,
                None => self.client.get_multiplexed_async_connection().await.map_err(told)?,
            };
            let mut answers = Vec::with_capacity(batches.len());
            for batch in batches {
                answers.push(batch.query_async(&mut connection).await.map_err(told)?);
            }
            Ok((connection, answers))
        };
        let done = tokio::time::timeout(PATIENCE, work).await;
        match done.unwrap_or_else(|_| Err(Unknown(format!("no answer within {} ms", PATIENCE.as_millis())))) {
            Ok((connection, answers)) => {
                state.connection = Some(connection);
                Ok(answers)
            }
            Err(why) => {
                state.rests = Some((Box::pin(sleep(REST)), why.clone()));
                Err(why)
            }
        }
    }
}

fn client(url: &str) -> Result<Client, String> {
    let wrong = |error: redis::RedisError| format!("the URL of the liveness exchange is wrong: {error}");
    // A fragment would be `#insecure`: whoever wants no certificate looked at wants redis://.
    if url.starts_with("redis://") && !url.contains('#') {
        return Client::open(url).map_err(wrong);
    }
    if !url.starts_with("rediss://") || url.contains('#') {
        let form = "redis[s]://[user:password@]host[:port][/database], with TLS also ?sslrootcert=FILE";
        return Err(format!("the liveness exchange is {form}"));
    }
    let (url, root) = match url.split_once("?sslrootcert=") {
        Some((url, file)) => (url, Some(file)),
        None => (url, None),
    };
    let read = |file| std::fs::read(file).map_err(|error| format!("sslrootcert={file} cannot be read: {error}"));
    let root_cert = root.map(read).transpose()?;
    // The same one as everywhere; whoever was first has said so already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert }).map_err(wrong)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn told(error: redis::RedisError) -> Unknown {
    Unknown(error.to_string())
}

#[async_trait]
impl Liveness for Redis {
    async fn touch(&self, heard: &[Holder]) -> Result<(), Unknown> {
        let sign = format!("{}.{}", self.writer.simple(), self.signs.fetch_add(1, Ordering::Relaxed));
        let batch = |some: &[Holder]| {
            let mut pipeline = redis::pipe();
            for holder in some {
                pipeline.cmd("SET").arg(self.key(*holder)).arg(&sign).arg("EX").arg(KEPT_SECONDS).ignore();
            }
            pipeline
        };
        self.run::<()>(heard.chunks(BATCH).map(batch).collect()).await.map(drop)
    }

    /// Of nobody: whether it answers.
    async fn check(&self, of: &[Holder]) -> Result<Vec<Option<String>>, Unknown> {
        if of.is_empty() {
            let mut ping = redis::pipe();
            ping.cmd("PING").ignore();
            return self.run::<()>(vec![ping]).await.map(|_| Vec::new());
        }
        let batch = |some: &[Holder]| {
            let mut pipeline = redis::pipe();
            let keys: Vec<String> = some.iter().map(|holder| self.key(*holder)).collect();
            pipeline.cmd("MGET").arg(keys);
            pipeline
        };
        let answers = self.run::<(Vec<Option<String>>,)>(of.chunks(BATCH).map(batch).collect()).await?;
        let signs: Vec<Option<String>> = answers.into_iter().flat_map(|(signs,)| signs).collect();
        if signs.len() == of.len() {
            return Ok(signs);
        }
        Err(Unknown(format!("{} answers to {} questions", signs.len(), of.len())))
    }

    async fn forget(&self, gone: &[Holder]) -> Result<(), Unknown> {
        let batch = |some: &[Holder]| {
            let mut pipeline = redis::pipe();
            let keys: Vec<String> = some.iter().map(|holder| self.key(*holder)).collect();
            pipeline.cmd("DEL").arg(keys).ignore();
            pipeline
        };
        self.run::<()>(gone.chunks(BATCH).map(batch).collect()).await.map(drop)
    }
}
