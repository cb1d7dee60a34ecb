"""Slots of Dagster's concurrency pools taken and given back in two or three statements, where nobody else wants one.

The rows are those that Dagster's own storage writes: whoever reads them by that finds what he expects. Statements are
built once: SQLAlchemy takes longer to build one anew than SQLite to carry it out.
"""

# Imported where Dagster opens an event log, which is SQLAlchemy whatever the class.
import sqlalchemy as sa  # noqa: TID253
from dagster._core.storage.event_log.schema import ConcurrencySlotsTable, PendingStepsTable

_SLOT, _STEP = ConcurrencySlotsTable.c, PendingStepsTable.c
_POOL: sa.BindParameter[str] = sa.bindparam("pool")
_RUN: sa.BindParameter[str] = sa.bindparam("run")
_KEY: sa.BindParameter[str] = sa.bindparam("step")
_FREE = sa.select(_SLOT.id).where(_SLOT.concurrency_key == _POOL, _SLOT.step_key.is_(None), _SLOT.deleted.is_(False))
_TAKE = (
    ConcurrencySlotsTable.update()
    .values(run_id=_RUN, step_key=_KEY)
    .where(_SLOT.id == _FREE.limit(1).scalar_subquery(), ~sa.exists().where(_STEP.concurrency_key == _POOL))
)
_NOTE = PendingStepsTable.insert().values(
    concurrency_key=_POOL,
    run_id=_RUN,
    step_key=_KEY,
    priority=sa.bindparam("priority"),
    assigned_timestamp=sa.func.now(),
)
_GIVE_BACK = (
    ConcurrencySlotsTable.update()
    .values(run_id=None, step_key=None)
    .where(_SLOT.run_id == _RUN, _SLOT.step_key == _KEY, _SLOT.deleted.is_(False))
)
_MINE = PendingStepsTable.alias("mine")
_MY_POOL = sa.select(_MINE.c.concurrency_key).where(
    _MINE.c.run_id == _RUN, _MINE.c.step_key == _KEY, _MINE.c.assigned_timestamp.is_not(None)
)
_NEXT = (
    sa.select(_STEP.id)
    .where(_STEP.assigned_timestamp.is_(None), _STEP.concurrency_key.in_(_MY_POOL))
    .order_by(_STEP.priority.desc(), _STEP.create_timestamp.asc())
    .limit(1)
)
_ASSIGN = PendingStepsTable.update().values(assigned_timestamp=sa.func.now()).where(_STEP.id == _NEXT.scalar_subquery())
_FORGET = PendingStepsTable.delete().where(_STEP.run_id == _RUN, _STEP.step_key == _KEY)


def take_slot(connection: sa.Connection, pool: str, run_id: str, step_key: str, priority: int) -> bool:
    """Take a free slot of a pool of which nobody holds a slot, and for which nobody waits.

    Must be the first of its transaction to write: from then on nobody else can.

    Returns: whether it was taken; nothing has changed if not.
    """
    mine = {"pool": pool, "run": run_id, "step": step_key}
    if not connection.execute(_TAKE, mine).rowcount:
        return False
    connection.execute(_NOTE, mine | {"priority": priority})
    return True


def give_back_slot(connection: sa.Connection, run_id: str, step_key: str) -> bool:
    """Free a step's slot and assign it to the next that waits, which claims it when it next asks.

    Returns: whether it had one. It has none to give back of a pool that was made smaller meanwhile.
    """
    mine = {"run": run_id, "step": step_key}
    if not connection.execute(_GIVE_BACK, mine).rowcount:
        return False
    connection.execute(_ASSIGN, mine)
    connection.execute(_FORGET, mine)
    return True
