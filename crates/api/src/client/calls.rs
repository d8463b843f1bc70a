//! One method per endpoint.

use super::http::{Ask, Client, ClientError, escape, json, query};
use super::servers::Repeat;
use crate::events::Subject;
use crate::ops::{Recoveries, Server, StuckRuns};
use crate::queues::{Queue, Queues};
use crate::runs::{
    Attempts, CancelBody, CreatedRuns, Explanation, NewRun, NewRuns, ReleaseBody, RetryBody, Run, RunEvents, Runs,
    SignalBody,
};
use crate::workers::{ClaimBody, Leases, Register, Registered, ReportAnswer, ReportBody, Worker, Workers};
use hyper::Method;
use outlive_core::given::GivenPolicy;
use outlive_core::{Millis, RunId, WorkerId};
use serde::de::IgnoredAny;

/// Filters of a list of runs; empty ones are left out.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Comma-separated states.
    pub state: String,
    /// Lane.
    pub queue: String,
    /// Kind.
    pub kind: String,
    /// Worker name.
    pub worker: String,
    /// Subject.
    pub subject: String,
    /// Serial key.
    pub serial_key: String,
    /// Parent.
    pub parent: String,
    /// `k:v`.
    pub tag: String,
    /// `any`.
    pub stuck: String,
    /// Reason code.
    pub reason: String,
    /// End of the id.
    pub id_suffix: String,
    /// Beginning of the id.
    pub id_prefix: String,
    /// At most.
    pub limit: Option<u32>,
    /// From the page before.
    pub cursor: String,
}

#[expect(missing_docs, reason = "each method is the endpoint of its name in the HTTP contract")]
#[expect(clippy::missing_errors_doc, reason = "all of them: ClientError")]
impl Client {
    pub async fn create_run(&self, run: &NewRun, idempotency_key: Option<&str>) -> Result<Run, ClientError> {
        let headers: Vec<_> = idempotency_key.map(|key| ("idempotency-key", key)).into_iter().collect();
        let known = run.id.is_some() || idempotency_key.is_some();
        let repeat = if known { Repeat::Safe } else { Repeat::Once };
        let (method, body) = (Method::POST, Some(json(run)?));
        self.call(Ask { method, headers: &headers, body, repeat, ..Ask::get("/v1/runs") }).await
    }

    pub async fn create_runs(&self, runs: &NewRuns) -> Result<CreatedRuns, ClientError> {
        let known = runs.runs.iter().all(|run| run.id.is_some());
        self.post("/v1/runs/batch", runs, if known { Repeat::Safe } else { Repeat::Once }).await
    }

    pub async fn run(&self, id: RunId) -> Result<Run, ClientError> {
        self.get(&format!("/v1/runs/{id}")).await
    }

    /// Answers when the run is terminal or `wait` (at most 60 s) is over.
    pub async fn run_wait(&self, id: RunId, wait: Millis) -> Result<Run, ClientError> {
        self.call(Ask { waits: wait, ..Ask::get(&format!("/v1/runs/{id}?wait={wait}")) }).await
    }

    pub async fn runs(&self, f: &RunFilter) -> Result<Runs, ClientError> {
        let pairs = [
            ("state", f.state.clone()),
            ("queue", f.queue.clone()),
            ("kind", f.kind.clone()),
            ("worker", f.worker.clone()),
            ("subject", f.subject.clone()),
            ("serial_key", f.serial_key.clone()),
            ("parent", f.parent.clone()),
            ("tag", f.tag.clone()),
            ("stuck", f.stuck.clone()),
            ("reason", f.reason.clone()),
            ("id_suffix", f.id_suffix.clone()),
            ("id_prefix", f.id_prefix.clone()),
            ("limit", f.limit.map(|n| n.to_string()).unwrap_or_default()),
            ("cursor", f.cursor.clone()),
        ];
        self.get(&format!("/v1/runs{}", query(&pairs))).await
    }

    pub async fn cancel_run(&self, id: RunId, body: &CancelBody) -> Result<Run, ClientError> {
        self.post(&format!("/v1/runs/{id}/cancel"), body, Repeat::Safe).await
    }

    pub async fn retry_run(&self, id: RunId, body: &RetryBody) -> Result<Run, ClientError> {
        self.post_with_key(&format!("/v1/runs/{id}/retry"), body).await
    }

    pub async fn signal_run(&self, id: RunId, body: &SignalBody) -> Result<Run, ClientError> {
        self.post(&format!("/v1/runs/{id}/signal"), body, Repeat::Once).await
    }

    pub async fn release_run(&self, id: RunId, body: &ReleaseBody) -> Result<Run, ClientError> {
        self.post_with_key(&format!("/v1/runs/{id}/release"), body).await
    }

    pub async fn delete_run(&self, id: RunId) -> Result<(), ClientError> {
        let path = format!("/v1/runs/{id}");
        // Repeated, it would say that there is no such run.
        self.call::<IgnoredAny>(Ask { method: Method::DELETE, repeat: Repeat::Once, ..Ask::get(&path) }).await.map(drop)
    }

    pub async fn attempts(&self, id: RunId) -> Result<Attempts, ClientError> {
        self.get(&format!("/v1/runs/{id}/attempts")).await
    }

    pub async fn run_events(&self, id: RunId) -> Result<RunEvents, ClientError> {
        self.get(&format!("/v1/runs/{id}/events")).await
    }

    pub async fn explain(&self, id: RunId) -> Result<Explanation, ClientError> {
        self.get(&format!("/v1/runs/{id}/explain")).await
    }

    /// All of a run's output as bytes; `all`: of every attempt.
    pub async fn output_text(&self, id: RunId, all: bool) -> Result<Vec<u8>, ClientError> {
        let view = if all { "all" } else { "live" };
        let path = format!("/v1/runs/{id}/output?format=text&follow=false&view={view}");
        Ok(self.fetch(&Ask::get(&path)).await?.1.to_vec())
    }

    pub async fn register(&self, body: &Register) -> Result<Registered, ClientError> {
        self.post("/v1/workers", body, Repeat::Safe).await
    }

    pub async fn claim(&self, worker: WorkerId, body: &ClaimBody) -> Result<Leases, ClientError> {
        let path = format!("/v1/workers/{worker}/claim");
        let (method, waits) = (Method::POST, body.wait.unwrap_or_default());
        self.call(Ask { method, body: Some(json(body)?), waits, ..Ask::get(&path) }).await
    }

    pub async fn report(&self, worker: WorkerId, body: &ReportBody) -> Result<ReportAnswer, ClientError> {
        self.post(&format!("/v1/workers/{worker}/report"), body, Repeat::Safe).await
    }

    pub async fn workers(&self) -> Result<Workers, ClientError> {
        self.get("/v1/workers?limit=1000").await
    }

    pub async fn worker(&self, worker: WorkerId) -> Result<Worker, ClientError> {
        self.get(&format!("/v1/workers/{worker}")).await
    }

    /// `drain`, `undrain`, `leave` or `evict`.
    pub async fn worker_action(&self, worker: WorkerId, action: &str) -> Result<Worker, ClientError> {
        // A second goodbye would be refused, and a second eviction might meet a worker that came back.
        let repeat = if matches!(action, "drain" | "undrain") { Repeat::Safe } else { Repeat::Once };
        let path = format!("/v1/workers/{worker}/{action}");
        self.call(Ask { method: Method::POST, repeat, ..Ask::get(&path) }).await
    }

    pub async fn queues(&self) -> Result<Queues, ClientError> {
        self.get("/v1/queues").await
    }

    pub async fn queue(&self, name: &str) -> Result<Queue, ClientError> {
        self.get(&format!("/v1/queues/{}", escape(name))).await
    }

    pub async fn put_queue(&self, name: &str, policy: impl Into<GivenPolicy>) -> Result<Queue, ClientError> {
        let path = format!("/v1/queues/{}", escape(name));
        self.call(Ask { method: Method::PUT, body: Some(json(&policy.into())?), ..Ask::get(&path) }).await
    }

    /// `pause` or `resume`.
    pub async fn queue_action(&self, name: &str, action: &str) -> Result<Queue, ClientError> {
        let path = format!("/v1/queues/{}/{action}", escape(name));
        self.call(Ask { method: Method::POST, ..Ask::get(&path) }).await
    }

    pub async fn recoveries(&self, run: Option<RunId>, limit: u32, cursor: &str) -> Result<Recoveries, ClientError> {
        let run = run.map(|r| r.to_string()).unwrap_or_default();
        let pairs = [("run", run), ("limit", limit.to_string()), ("cursor", cursor.to_owned())];
        self.get(&format!("/v1/recoveries{}", query(&pairs))).await
    }

    pub async fn subject(&self, subject: &str) -> Result<Subject, ClientError> {
        self.get(&format!("/v1/subjects/{}", escape(subject))).await
    }

    pub async fn stuck(&self) -> Result<StuckRuns, ClientError> {
        self.get("/v1/stuck").await
    }

    pub async fn server(&self) -> Result<Server, ClientError> {
        self.get("/v1/server").await
    }

    /// Numbers for Prometheus.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        self.text(Method::GET, "/metrics").await
    }

    /// Whether the server answers at all.
    pub async fn is_live(&self) -> bool {
        self.text(Method::GET, "/livez").await.is_ok()
    }
}
