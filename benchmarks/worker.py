"""One library in a process of its own: builds works, shows what they compute, and times blocks of calls on request.

Started by `run.py`, which writes one JSON object a line: {"do": "build" | "values" | "block" | "memory", "work": name}.
"""

from __future__ import annotations

import importlib
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from works import WORKS

LEAST_CALLS = 3


def block(call: Any, seconds: float) -> float:
    """The median time of a call, over calls for some time."""
    times = []
    end = time.perf_counter() + seconds
    while len(times) < LEAST_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def resident() -> int:
    """Bytes of this process in memory now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Serve requests until the input ends."""
    library = importlib.import_module(f"peers.{sys.argv[1]}")
    built: dict[str, Any] = {}
    replies = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no reply
    for line in sys.stdin:
        request = json.loads(line)
        name = request["work"]
        reply: Any = None
        if request["do"] == "build":
            build = getattr(library, WORKS[name].kind if WORKS[name].kind != "growth" else "step", None)
            made = build(WORKS[name]) if build else None
            if made is not None:
                built[name] = made
            reply = made is not None
        elif request["do"] == "values":  # before anything is timed: a step changes what the next computes
            values = {key: np.asarray(a, np.float64) for key, a in built[name].values().items()}
            np.savez(request["to"], **values)
        elif request["do"] == "block":
            reply = block(built[name].call, request["seconds"])
        elif request["do"] == "memory":
            before = resident()
            for _ in range(request["steps"]):
                built[name].call()
            reply = resident() - before
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
