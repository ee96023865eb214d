"""Runs a program as if somebody sat at a terminal.

Reads {"command": [...], "answers": [[prompt, answer], ...]} from standard input: types each answer once its prompt is shown
and the terminal has stopped echoing, as somebody does who reads before typing. (If it never stops, the answer is shown.)
Prints everything the terminal showed, and exits as the program did.
"""

import json
import os
import pty
import sys
import termios
import time

PATIENCE = 10


def wait_for_silence():
    end = time.monotonic() + PATIENCE
    while termios.tcgetattr(terminal)[3] & termios.ECHO and time.monotonic() < end:
        time.sleep(0.01)


script = json.load(sys.stdin)
child, terminal = pty.fork()
if child == 0:
    os.execvp(script["command"][0], script["command"])

shown = b""
seen = 0
answers = script["answers"]
while True:
    try:
        chunk = os.read(terminal, 4096)
    except OSError:  # EIO: the program has closed its side
        break
    if not chunk:
        break
    shown += chunk
    while answers and (at := shown.find(answers[0][0].encode(), seen)) >= 0:
        seen = at + len(answers[0][0])
        if not answers[0][0].endswith("[y/N] "):  # whose answer is shown
            wait_for_silence()
        os.write(terminal, answers.pop(0)[1].encode() + b"\n")
_, status = os.waitpid(child, 0)
sys.stdout.write(shown.decode())
if answers:
    sys.exit(f"never asked: {answers[0][0]!r}")
sys.exit(os.waitstatus_to_exitcode(status))
