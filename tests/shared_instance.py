"""One instance of Dagster, in memory, for all tests of a process that look at the results of their own runs only.

Each that is made anew takes its tables through all migrations there ever were.
"""

from functools import cache

import dagster as dg


@cache
def shared_instance() -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral()
