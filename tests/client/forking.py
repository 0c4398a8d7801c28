"""Programs that fork.

Each is a process of its own, since that of the tests has more threads than one should fork with.
What it and its children say goes to one pipe, a line at a time.
"""

import subprocess
import sys
from typing import Final

#: Seconds for whatever takes as long as it takes on a busy machine. A child that hangs is killed.
PATIENCE: Final = 120

#: `fork(act)` has a child do it, which is let go by `go()` and ends as a program does; `over()`
#: waits for it. `told` says what calls that are Closed say, and which are not; `opens` what
#: descriptors are of.
BEGINNING: Final = f"""
import gc, os, signal, sys, threading
import mako
from tests.client import procedures as p

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def fork(act):
    global ready, held, child
    ready, held = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm({PATIENCE})
        os.close(held)
        os.read(ready, 1)
        act()
        sys.exit(0)
    os.close(ready)

def go():
    os.close(held)

def over():
    say("child", os.waitpid(child, 0)[1])

def told(calls):
    lines = set()
    for call in calls:
        try:
            call()
            say("returned", call.__code__.co_names)
        except mako.Closed as error:
            lines.add(str(error))
    return lines

def opens(what):
    links = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            links.add(os.readlink("/proc/self/fd/" + name))
        except FileNotFoundError:  # It was of the list.
            pass
    return {{link for link in links if what in link}}

def opened(path, **options):
    return mako.open(path, memory="32MiB", sessions=8, **options)
"""


def said(program: str, *arguments: object) -> list[str]:
    """The lines that a program says, and its children; it ends by itself, or is killed."""
    command = [sys.executable, "-c", BEGINNING + program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=4 * PATIENCE, check=False)
    assert not done.stderr, done.stderr.decode()
    return done.stdout.decode().splitlines()
