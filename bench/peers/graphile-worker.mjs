// Jobs that do nothing, all queued before; prints how many are finished in a second, from the start of the worker to the last.
// node graphile-worker.mjs URL JOBS [batches]      batches: it also collects completions, and asks for them in one statement
import { makeWorkerUtils, run, Logger } from "graphile-worker";
import pg from "pg";

const [connectionString, count] = [process.argv[2], Number(process.argv[3])];
const completions = process.argv[4] === "batches" ? { completeJobBatchDelay: 0, failJobBatchDelay: 0 } : {};
const quiet = new Logger(() => () => {});

const utils = await makeWorkerUtils({ connectionString, logger: quiet });
await utils.migrate();
await utils.release();

const pool = new pg.Pool({ connectionString });
await pool.query("SELECT graphile_worker.add_job('noop', json_build_object('id', i)) FROM generate_series(1, $1) i", [count]);
await pool.query("VACUUM ANALYZE");

let done = 0;
let finished;
const all = new Promise((resolve) => (finished = resolve));
const began = process.hrtime.bigint();
const runner = await run({
  logger: quiet,
  noHandleSignals: true,
  taskList: {
    noop: () => {
      done += 1;
      if (done === count) finished();
    },
  },
  preset: {
    worker: {
      connectionString,
      concurrentJobs: 24,
      maxPoolSize: 25,
      localQueue: { size: 500, ttl: 60_000 },
      ...completions,
    },
  },
});
await all;
// Finished is what the database says.
for (;;) {
  const { rows } = await pool.query("SELECT 1 FROM graphile_worker.jobs LIMIT 1");
  if (rows.length === 0) break;
  await new Promise((resolve) => setTimeout(resolve, 5));
}
const seconds = Number(process.hrtime.bigint() - began) / 1e9;
console.log((count / seconds).toFixed(0));
await runner.stop();
await pool.end();
