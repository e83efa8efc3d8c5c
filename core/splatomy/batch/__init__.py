"""Many cases, mapped over this machine or over a Ray cluster.

Each case is a job of the job protocol in a process of its own, so that what happens to one touches no
other. The batch's folder::

    OUT/runs/NAME/       the run folder of each case
    OUT/jobs/NAME.json   its job file, written when it is begun
    OUT/logs/NAME.log    what its processes said on standard error
    OUT/results.csv      one row a case; results.html the same with distributions and outliers
    OUT/batch.json       marks the folder

What is finished, begun or new is read from the run folders alone: started again after any crash, a batch
skips the finished runs and goes on with the begun ones.
"""

from splatomy.batch.cases import Case, read_cases
from splatomy.batch.cluster import RayEngine
from splatomy.batch.driving import Batch, BatchRequest
from splatomy.batch.engine import Engine
from splatomy.batch.local import LocalEngine
from splatomy.batch.table import Table
from splatomy.batch.working import newest_progress

__all__ = [
    "Batch",
    "BatchRequest",
    "Case",
    "Engine",
    "LocalEngine",
    "RayEngine",
    "Table",
    "newest_progress",
    "read_cases",
]
