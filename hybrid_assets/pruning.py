"""What nobody needs any more goes, once a day: see `resources.stores.prune`."""

from typing import Any

import dagster as dg

from resources.bindings.plants import Plants, failures


def prune_job() -> dg.JobDefinition:
    """The job that prunes the tables of every plant."""

    @dg.op(description="Removes replaced files of all tables that nobody has been able to read for a week.")
    def prune_tables(context: dg.OpExecutionContext, plants: Plants) -> None:
        from resources.pruning import prune_tables as prune
        from resources.stores.opened import NOTHING
        from resources.stores.prune import Pruned

        gone, kept, troubles = NOTHING, NOTHING, dict[str, str]()
        tables: dict[str, Any] = {}
        with failures():
            for name, told in prune(plants.plant(site) for site in plants.catalog.sites):
                if isinstance(told, Pruned):
                    removed = told.data.plus(told.log)
                    gone, kept = gone.plus(removed), kept.plus(told.kept)
                    tables[name] = {"files": removed.files, "bytes": removed.bytes, "since_version": told.since}
                else:
                    troubles[name] = told
        context.add_output_metadata(
            {"files": gone.files, "bytes": gone.bytes, "bytes_kept": kept.bytes, "tables": tables}
        )
        if troubles:
            raise dg.Failure(f"{len(troubles)} tables could not be pruned.", metadata={"tables": troubles})

    @dg.job(name="prune", description="Removes what of tables nobody needs any more.")
    def prune() -> None:
        prune_tables()

    return prune
