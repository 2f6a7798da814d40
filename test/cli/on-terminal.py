"""Runs a command on a pseudo-terminal of its own and plays a script on it, for the tests of questions.

usage: on-terminal.py STEPS COMMAND...   STEPS: JSON list of [wait_for, send], or [wait_for, {"signal": NAME}]
       or [wait_for, {"resize": [COLUMNS, ROWS]}]
prints JSON: {"output", "code", "signal", "echo", "canonical"}; the flags are those of the terminal at the end
"""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

steps = json.loads(sys.argv[1])
deadline = time.monotonic() + 30
# The slave is kept open here, so that the terminal's flags can still be read when the command has ended.
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, int(os.environ.get("COLUMNS", "80")), 0, 0))
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for descriptor in (0, 1, 2):
        os.dup2(slave, descriptor)
    os.execvp(sys.argv[2], sys.argv[2:])
output = b""
searched = 0
status = None


def pump(seconds):
    global output
    ready, _, _ = select.select([master], [], [], seconds)
    if ready:
        output += os.read(master, 65536)
    return bool(ready)


for wait_for, send in steps:
    while True:
        found = output.find(wait_for.encode(), searched)
        if found >= 0:
            searched = found + len(wait_for.encode())
            break
        if time.monotonic() > deadline:
            break
        pump(0.05)
    # The question is printed just before it is listened to, and flags change just after.
    time.sleep(0.1)
    if isinstance(send, dict) and "resize" in send:
        columns, rows = send["resize"]
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    elif isinstance(send, dict):
        os.kill(pid, getattr(signal, send["signal"]))
    else:
        os.write(master, send.encode())

while status is None:
    pump(0.05)
    done, result = os.waitpid(pid, os.WNOHANG)
    if done:
        status = result
    elif time.monotonic() > deadline:
        os.kill(pid, signal.SIGKILL)
while pump(0.05):
    pass

flags = termios.tcgetattr(slave)[3]
print(
    json.dumps(
        {
            "output": output.decode("utf-8", "replace"),
            "code": os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else None,
            "signal": signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else None,
            "echo": bool(flags & termios.ECHO),
            "canonical": bool(flags & termios.ICANON),
        }
    )
)
