"""Flower's options, as the module that Flower reads them from.

An option on the command line wins over these, these over a FLOWER_* variable.
"""

from orchestrator.flower_task import format_task  # noqa: F401

# Flower's pages ask for no login unless one is set, so only this machine may look.
address = "127.0.0.1"

# The name is `agent.<agent>`; prompts never reach a message. Columns that repeat others
# would push the last ones out of sight: args are the id, and a task is received when it
# has a slot to start in.
tasks_columns = "name,uuid,state,result,received,runtime,worker"
natural_time = True

# Flower keeps tasks in memory; the record of truth is the task store, which
# `celeriac tasks` reads, so a screenful of history is enough and nothing is saved.
max_tasks = 5_000

# A worker that was scaled away leaves the list after a minute without heartbeats.
purge_offline_workers = 60

# Agents run for minutes, and Flower's own buckets end at ten seconds. Seconds.
task_runtime_metric_buckets = [
    0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
    float("inf"),
]  # fmt: skip
