"""What the peers share: their arguments, their event lines, and their end.

A peer prints one JSON object a line on stdout; the first is {"event": "ready"}. It ends when its stdin ends, so that it never
outlives the test that started it.
"""

import argparse
import contextlib
import json
import sys
import threading

_printing = threading.Lock()


def arguments(description, default_port):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, default=default_port)
    return parser


def emit(event, **fields):
    """Prints one event; `fields` are what it carries."""
    line = json.dumps({"event": event, **fields})
    with _printing, contextlib.suppress(BrokenPipeError):  # whoever listened may be gone already
        print(line, flush=True)


def wait_for_the_end():
    """Blocks until stdin is closed."""
    while sys.stdin.buffer.read(4096):
        pass
