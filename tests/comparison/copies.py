"""Many runs from one: rows of MLflow's own tables are copied under new ids, because logging thousands takes an hour."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from uuid import UUID

METRICS = dict.fromkeys(("metrics", "latest_metrics"), "key, value, timestamp, step, is_nan")
COPIED = {"params": "key, value", **METRICS}
METHODS = ("max_abs", "min_max", "percentile", "entropy", "mse")


def copies(database: Path, run_id: str, count: int, seed: int = 0) -> list[str]:
    """Copies a run ``count`` times, params, metrics and tags as MLflow's store keeps them; returns the new ids.

    Accuracy, size and speedup differ between copies, in the metrics and in the tag of the log's numbers alike, and so does the
    calibration; runs begin a second apart.
    """
    random = Random(seed)
    made = [UUID(int=random.getrandbits(128)).hex for _ in range(count)]
    with closing(sqlite3.connect(database)) as base, base:
        base.row_factory = sqlite3.Row
        (run,) = base.execute("select * from runs where run_uuid = ?", (run_id,))
        tags = {row["key"]: row["value"] for row in base.execute("select * from tags where run_uuid = ?", (run_id,))}
        for place, copy in enumerate(made):
            named = {**run, "run_uuid": copy, "name": f"run {place}", "start_time": run["start_time"] + 1000 * (place + 1)}
            base.execute(f"insert into runs ({', '.join(named)}) values ({', '.join('?' * len(named))})", (*named.values(),))
            for table, columns in COPIED.items():
                base.execute(
                    f"insert into {table} ({columns}, run_uuid) select {columns}, ? from {table} where run_uuid = ?",
                    (copy, run_id),
                )
            changed = _changed(tags, place, copy, random)
            base.executemany(
                "insert into tags (key, value, run_uuid) values (?, ?, ?)", [(*pair, copy) for pair in changed.items()]
            )
            method = METHODS[place % len(METHODS)]
            base.execute("update params set value = ? where key = 'aifsm.calibration.method' and run_uuid = ?", (method, copy))
            told = json.loads(changed["aifsm.optimization.numbers"])
            pairs = [(value, f"aifsm.{name}", copy) for name, value in told.items()]
            for table in METRICS:
                base.executemany(f"update {table} set value = ? where key = ? and run_uuid = ? and step = 1", pairs)
    return made


def _changed(tags: dict[str, str], place: int, run_id: str, random: Random) -> dict[str, str]:
    numbers = json.loads(tags["aifsm.optimization.numbers"])
    quality = round(0.7 + 0.3 * random.random(), 4)
    numbers |= {"accuracy": quality, "size": float(random.randrange(10_000, 20_000)), "speedup": 0.5 + 2 * random.random()}
    own = {"log_id": f"digits_1-MO-{run_id[:8]}", "output_sha256": f"{place:064x}", "numbers": json.dumps(numbers)}
    return {**tags, "mlflow.runName": f"run {place}", **{f"aifsm.optimization.{name}": text for name, text in own.items()}}
