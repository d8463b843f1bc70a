"""A worker that does one thing wrong: the example with that place changed. twin.py WORKER.py WHAT"""
import sys

TWINS = {
    "output_is_forgotten": [('"channel": channel, "base64"', '"channel": "stdout", "base64"')],
    "never_beats": [("child.wait(0 if items else beat)", "child.wait()")],
    "ignores_the_fence": [('if last or "lost" in orders or any(', 'if last or False and any('), ('tell(child, signal.SIGSTOP)', 'pass')],
    "never_freezes": [("tell(child, signal.SIGSTOP)", "pass")],
    "ignores_a_cancel": [('if not ending and ("cancel" in orders or', "if not ending and (False or")],
    "kills_at_once": [("tell(child, signal.SIGTERM)", "tell(child, signal.SIGKILL)")],
    "never_kills": [("elif ending and now() > patience:", "elif False:")],
    "forgets_the_checkpoint": [('(checkpoint, json.dumps(lease["checkpoint"]))', '(checkpoint, "null")')],
    "ends_before_its_checkpoint": [("!= saved:", '!= saved and not ended and now() > globals().setdefault("seen", {}).setdefault(text, now()) + 5:')],
    "a_new_request_id_on_retry": [("json.dumps(body).encode()", 'json.dumps(body | ({"request_id": str(uuid.uuid4())} if "request_id" in body else {})).encode()')],
    "a_new_seq_on_retry": [("            pass  # no answer", '            [i.__setitem__("seq", i["seq"] + 1) for i in body.get("items", []) if "seq" in i]  # no answer')],
    "gives_up_at_once": [("            pass  # no answer", "            sys.exit(1)  # no answer")],
    "dies_of_term": [("    wishes += 1\n", "    sys.exit(0)\n")],
    "does_not_end": [("sys.exit(5 if refused.code == 409 else", "register() if refused.code == 409 else sys.exit(")],
    "never_registers_again": [("        if refused.code not in (401, 404):", "        if True:")],
}
path, what = sys.argv[1:3]
text = open(path).read()
for old, new in TWINS[what]:
    assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
    text = text.replace(old, new)
exec(compile(text, path, "exec"))
