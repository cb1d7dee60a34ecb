"""The composition root: every class that some plant has, its assets, checks, jobs, sensors and schedules."""

import gc
import os
import sys
import warnings

import dagster as dg

# Dagster stays for as long as the process does. Python's collector would look at all of it again while the definitions
# are made, and at every full collection after that: 7 % of the time it takes to load them.
gc.freeze()

import maintenance.questions
from backbone import plugins
from hybrid_assets.assets.advisories import advisory_assets
from hybrid_assets.assets.dead_letters import dead_letter_assets
from hybrid_assets.assets.features import feature_assets
from hybrid_assets.assets.ingestion import ingestion_assets
from hybrid_assets.assets.scoring import scoring_assets
from hybrid_assets.assets.training import training_assets
from hybrid_assets.fleet import Fleet
from hybrid_assets.pruning import prune_job
from maintenance.equipment_class import equipment_class_from_contract, is_equipment_class
from quality.dead_letters import dead_letters_check
from quality.document_checks import document_checks
from quality.reconciliation_check import reconciliation_check
from quality.serving import serving_check
from quality.window_checks import checks_by_product, window_checks
from resources.bindings.plants import Plants
from resources.bindings.warm_runs import WARM_RUNS, start_runs_warm
from resources.home import Home
from resources.lineage.configuration import check_destination
from sensors.dead_letters import dead_letters_sensor
from sensors.fallback import fallback_sensor
from sensors.jobs import dead_letters_job, fleet_jobs
from sensors.landing import landing_sensor
from sensors.lineage import lineage_sensor
from sensors.orphans import orphans_sensor
from sensors.quality import quality_sensor
from sensors.recovery import recovery_sensor
from sensors.schedules import prune_schedule, scoring_schedule, training_schedule


def build_definitions(home: Home, plants: Plants | None = None) -> dg.Definitions:
    """Everything this installation has, from its contracts and site files.

    Args:
        plants: whose catalog and plants to use; None: those of the home.

    A class without a plant has no assets: there would be no partition to materialize.

    Raises:
        ConfigurationError: a contract, a site file or openlineage.yml is wrong; names the file and the place.
    """
    check_destination(home.root)
    plants = plants or Plants(home=str(home.root))
    catalog = plants.catalog
    fleets = [
        Fleet(equipment_class_from_contract(contract), tuple(catalog.with_class(name)), catalog.contracts)
        for name, contract in catalog.contracts.items()
        if is_equipment_class(contract) and catalog.with_class(name)
    ]
    parts = [_fleet_definitions(fleet) for fleet in fleets]
    parts += [_gateway_definitions(fleet) for fleet in fleets if fleet.sites_with_gateway]
    pruning = prune_job()
    return dg.Definitions.merge(
        dg.Definitions(
            resources={"plants": plants},
            jobs=[pruning],
            sensors=[lineage_sensor()],
            schedules=[prune_schedule(pruning)],
            executor=dg.in_process_executor,
        ),
        *parts,
    )


def _fleet_definitions(fleet: Fleet) -> dg.Definitions:
    checks = checks_by_product(fleet.name, fleet.held_contracts)
    jobs = fleet_jobs(fleet.name, checks.get("dead_letters", ()))
    return dg.Definitions(
        assets=[
            *ingestion_assets(fleet),
            *feature_assets(fleet),
            *training_assets(fleet),
            *scoring_assets(fleet),
            *advisory_assets(fleet),
        ],
        asset_checks=[
            reconciliation_check(fleet.name, fleet.sites),
            serving_check(fleet.name, fleet.sites),
            *document_checks(fleet.name, fleet.contracts, fleet.plants),
            window_checks(
                fleet.name, fleet.held_contracts, fleet.sites, fleet.windows, cap=fleet.equipment_class.rul.cap
            ),
        ],
        jobs=list(jobs.values()),
        sensors=[
            landing_sensor(fleet.name, fleet.sites, jobs),
            fallback_sensor(fleet.name, fleet.sites, jobs),
            recovery_sensor(fleet.name, fleet.sites, jobs),
            orphans_sensor(fleet.name, fleet.sites),
            quality_sensor(fleet.name, fleet.sites, jobs, checks),
        ],
        schedules=[
            scoring_schedule(fleet.name, fleet.sites, jobs),
            training_schedule(fleet.name, fleet.sites, jobs),
        ],
    )


def _gateway_definitions(fleet: Fleet) -> dg.Definitions:
    """What a class has besides where gateways take its readings in."""
    job = dead_letters_job(fleet.name)
    return dg.Definitions(
        assets=dead_letter_assets(fleet),
        asset_checks=[dead_letters_check(fleet.name, fleet.plants_with_gateway)],
        jobs=[job],
        sensors=[dead_letters_sensor(fleet.name, fleet.sites_with_gateway, job)],
    )


WORK = (
    "backbone.lineage.secrets",
    "hybrid_assets.advisories",
    "hybrid_assets.dead_letters",
    "hybrid_assets.features",
    "hybrid_assets.ingestion",
    "hybrid_assets.scoring",
    "hybrid_assets.training",
    "maintenance.compiled_kernels",
    *(f"maintenance.questions.{name}.of_class" for name in plugins.names(maintenance.questions)),
    "quality.documents",
    "quality.evaluations",
    "resources.stores.documents",
)
"""What the steps and checks of a run import when they do their work."""


def _home() -> Home:
    home = Home.from_environment()
    os.environ.setdefault("DAGSTER_HOME", str(home.dagster))
    return home


# Multi-partitions and single-run backfills are marked beta, Pipes' readers preview; a pin holds them to what was
# tested, and their warnings would fill every log.
for category in (dg.BetaWarning, dg.PreviewWarning):
    warnings.filterwarnings("ignore", category=category)
defs = build_definitions(_home())
if os.environ.get(WARM_RUNS):
    # All of ours that is imported by now, but for this module: what it builds is a home's, and each run's own.
    ours = {"backbone", "hybrid_assets", "maintenance", "quality", "resources", "sensors"}
    here = sorted(name for name in sys.modules if name.partition(".")[0] in ours and name != __name__)
    start_runs_warm([*here, *WORK])
