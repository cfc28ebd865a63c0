"""`python -m benchmarks.loop kind count slots`: the bare loop, measured from within."""

from __future__ import annotations

import asyncio
import json
import sys
from time import monotonic, process_time

from benchmarks.jobs import bare_loop

if __name__ == "__main__":
    kind, count, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    began, used = monotonic(), process_time()
    asyncio.run(bare_loop(kind, count, slots))
    seconds, cpu = monotonic() - began, process_time() - used
    print(json.dumps({"seconds": seconds, "cpu": cpu, "running": min(count, slots)}))
