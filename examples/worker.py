#!/usr/bin/env python3
"""An Outlive worker over plain HTTP, with nothing but Python's standard library. It runs one command at a time.

    OUTLIVE_SERVER=http://127.0.0.1:7070 OUTLIVE_WORKER_NAME=mine python3 worker.py

Copy it and put your own work in the place of the command. What must stay, in any language:

* A question is asked until it is answered, with the same body: `request_id` and `seq` make it count once.
* Beats go on while the work runs. Work that cannot beat is frozen before its run may be given to somebody else.
* `fenced`, `terminal` and `lost` mean that the run is not yours any more: stop the work, report nothing about it.
* All output and the last checkpoint are reported before the end is.

The command finds its last checkpoint in $OUTLIVE_CHECKPOINT_FILE and saves the next by replacing that file (JSON; `mv`).
SIGTERM: finish, then leave. A second one: hand back, then leave. Exit status 5: a newer worker has the name.
"""
import base64, http.client, json, os, signal, socket, subprocess, sys, tempfile, time, urllib.error, urllib.request, uuid

SERVER, QUEUES = os.environ.get("OUTLIVE_SERVER", "http://127.0.0.1:7070"), os.environ.get("OUTLIVE_QUEUES", "default")
NAME = os.environ.get("OUTLIVE_WORKER_NAME", socket.gethostname())
BEAT = float(os.environ.get("OUTLIVE_HEARTBEAT_SECONDS", "2"))  # a request in each; silent for three, it is written off
INHERITED = ("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "SHELL")  # of this environment; the run may name more
me, wishes, idle = {}, 0, False  # what the server knows me by; how often I was asked to end; whether I only wait


def call(path, body, limit=lambda: 30):
    """Asks until there is an answer. `limit` is called before each try: how many seconds it may take."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": "Bearer " + me["session_token"]} if me else {})
    while True:
        try:
            question = urllib.request.Request(SERVER + path, json.dumps(body).encode(), headers)
            return json.load(urllib.request.urlopen(question, timeout=limit()))
        except urllib.error.HTTPError as error:
            if error.code < 500 and (error.code, path) != (409, "/v1/workers"):  # that: who had the name still answers
                raise
        except (OSError, ValueError, http.client.HTTPException):
            pass  # no answer, or half of one
        time.sleep(0.2)


def register():
    me.clear()
    me.update(call("/v1/workers", {"protocol": 1, "name": NAME, "instance": str(uuid.uuid4()), "kinds": ["exec"], "slots": 1,
                                   "queues": QUEUES.split(","), "liveness": "poll", "heartbeat_interval": f"{BEAT}s"}))


def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while this machine sleeps, as the server does


def tell(child, number):
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        pass


def work(lease):
    run, job, beat = {k: lease[k] for k in ("run_id", "epoch")}, lease["input"], min(BEAT, lease["lease_ttl_ms"] / 5000)
    report = lambda items, *limit: call(f"/v1/workers/{me['worker_id']}/report",
                                        {"beat": {"held": [run]}, "items": [run | item for item in items]}, *limit)
    with tempfile.TemporaryDirectory() as folder:
        stdin, stdout, stderr, checkpoint = (os.path.join(folder, f) for f in ("stdin", "stdout", "stderr", "checkpoint.json"))
        for path, text in (stdin, job.get("stdin") or ""), (checkpoint, json.dumps(lease["checkpoint"])):
            with open(path, "w") as file:
                file.write("" if text == "null" else text)
        env = {k: os.environ[k] for k in INHERITED if k in os.environ} | (job.get("env") or {})
        env |= {f"OUTLIVE_{k.upper()}": str(lease[k]) for k in ("run_id", "epoch", "attempt")} | {"OUTLIVE_CHECKPOINT_FILE": checkpoint}
        try:
            child = subprocess.Popen(job["command"], cwd=job.get("cwd") or folder, env=env, start_new_session=True,
                                     stdin=open(stdin), stdout=open(stdout, "wb"), stderr=open(stderr, "wb"))
        except OSError as error:
            return report([{"op": "fail", "reason": "rejected", "permanent": True, "error": {"message": str(error)}}])
        logs, saved, seq, asked, answered, ending, patience = (open(stdout, "rb"), open(stderr, "rb")), lease["checkpoint"], 0, now(), now(), None, 0

        def limit():  # work whose last answered beat is too old stands still
            nonlocal asked
            asked = now()
            left = answered + 4 * beat - asked
            if left <= 0:
                tell(child, signal.SIGSTOP)
            return min(max(left, 0.5), 5)

        try:
            while True:
                ended, items = child.poll() is not None, []  # first whether it has ended, then what it had said
                for channel, log in zip(("stdout", "stderr"), logs):
                    if frame := log.read(256 << 10):
                        seq += 1
                        items.append({"op": "output", "seq": seq, "channel": channel, "base64": base64.b64encode(frame).decode()})
                if (text := open(checkpoint).read()) and (state := json.loads(text)) != saved:
                    saved = state
                    items.append({"op": "checkpoint", "data": state})
                if last := ended and not items:
                    code = child.returncode
                    end = "complete" if code == 0 else ending or "fail"
                    items = [{"op": end, "last_output_seq": seq, "exit": {"code": code} if code >= 0 else {"signal": signal.Signals(-code).name}}
                             | ({"reason": "exit_code" if code > 0 else "signal"} if end == "fail" else {})]
                answer = report(items, limit)
                answered, orders = asked, [order["type"] for order in answer["orders"] if order.get("run_id") == run["run_id"]]
                if last or "lost" in orders or any(result["status"] in ("fenced", "terminal") for result in answer["results"]):
                    return
                tell(child, signal.SIGCONT)
                if not ending and ("cancel" in orders or wishes > 1):
                    ending, patience = "cancelled" if "cancel" in orders else "release", now() + lease["cancel_grace_ms"] / 1000
                    tell(child, signal.SIGTERM)
                elif ending and now() > patience:
                    tell(child, signal.SIGKILL)
                try:
                    child.wait(0 if items else beat)
                except subprocess.TimeoutExpired:
                    pass
        finally:  # whatever happened, nothing of it goes on
            tell(child, signal.SIGKILL)
            child.wait()


def asked_to_end(*_):
    global wishes
    wishes += 1
    if idle:
        raise KeyboardInterrupt


signal.signal(signal.SIGTERM, asked_to_end), signal.signal(signal.SIGINT, asked_to_end)
register()
while not wishes:
    try:
        question, idle = {"request_id": str(uuid.uuid4()), "max": 1, "wait": "20s"}, True
        leases, idle = call(f"/v1/workers/{me['worker_id']}/claim", question)["leases"], False
        for lease in leases:
            work(lease)
    except KeyboardInterrupt:
        break  # what was on its way to me is handed back by my leaving
    except urllib.error.HTTPError as refused:
        if refused.code not in (401, 404):  # these: the server does not know me, its store is another
            sys.exit(5 if refused.code == 409 else f"refused: {refused.read().decode()}")
        register()
call(f"/v1/workers/{me['worker_id']}/leave", {})
