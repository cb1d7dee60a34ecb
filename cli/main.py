"""`hybrid`: run plants, replay data sets, evaluate, and look after an installation."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from stamina import instrumentation

from backbone.errors import HybridError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="AI in plants on Dagster: from telemetry to maintenance advisories.",
)
replay_app = typer.Typer(no_args_is_help=True, help="Replay a public data set as a plant of its own.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure accuracy on a public data set.")
app.add_typer(replay_app, name="replay")
app.add_typer(evaluate_app, name="evaluate")
lineage_app = typer.Typer(no_args_is_help=True, help="What runs have done, told as OpenLineage events.")
app.add_typer(lineage_app, name="lineage")
gateway_app = typer.Typer(
    invoke_without_command=True, help="The plant-floor process: takes readings in, keeps them, answers."
)
app.add_typer(gateway_app, name="gateway")
chaos_app = typer.Typer(
    invoke_without_command=True, help="Rehearse failures; exits with 1 where something did not hold."
)
app.add_typer(chaos_app, name="chaos")
contracts_app = typer.Typer(no_args_is_help=True, help="What every data product promises, and whether that may change.")
app.add_typer(contracts_app, name="contracts")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Seed = Annotated[int, typer.Option(min=0, help="What the faults are drawn from.")]
Scenario = Annotated[Path | None, typer.Option(help="A scenario's TOML file, in place of drawn faults.")]
Keep = Annotated[Path | None, typer.Option(help="Keep what the rehearsed plant stored in this new folder.")]
Directory = Annotated[Path, typer.Argument(help="Folder with NASA's text files (train_, test_ and RUL_).")]
Subset = Annotated[str, typer.Option(help="FD001, FD002, FD003 or FD004.")]


def _day(flag: str, text: str) -> Any:
    return typer.Option(flag, formats=["%Y-%m-%d"], help=text)


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Port of the UI on 127.0.0.1.")] = 3000,
) -> None:
    """Start the UI, the daemon and the plants; Ctrl-C ends them all."""
    from cli.up import run_services

    raise typer.Exit(run_services(port))


@app.command()
def run(
    site: Annotated[str, typer.Option(help="The plant to serve.")],
    from_: Annotated[datetime | None, _day("--from", "First day to serve (again); default: whatever is due.")] = None,
    to: Annotated[datetime | None, _day("--to", "Last day to take up and serve; default: the last due.")] = None,
    train: Annotated[bool, typer.Option("--train", help="Train first, as the nightly schedule would.")] = False,
    checks: Annotated[bool, typer.Option(help="Judge the windows that were written, as the sensor would.")] = True,
    json: Json = False,
) -> None:
    """Take up what is due and serve its windows, without a UI; for cron and scripts."""
    from cli.run import run_site

    days = from_.date() if from_ else None, to.date() if to else None
    run_site(site, *days, train=train, as_json=json, checks=checks)


@gateway_app.callback()
def gateway(
    context: typer.Context,
    site: Annotated[str | None, typer.Option(help="The plant.")] = None,
) -> None:
    """Run a plant's gateway until Ctrl-C, without a subcommand."""
    if context.invoked_subcommand is not None:
        return
    if site is None:
        raise typer.BadParameter("Name the plant with --site.")
    from gateway.main import run_gateway

    run_gateway(site)


@gateway_app.command("status")
def gateway_status(site: Annotated[str, typer.Option(help="The plant.")], json: Json = False) -> None:
    """Print how a plant's gateway is: what came, what became of it, who answered."""
    from cli.gateway import status

    status(site, as_json=json)


@replay_app.command("cmapss")
def replay_cmapss(
    directory: Directory,
    site: Annotated[str, typer.Option(help="Name of the plant; its site file is written if there is none.")],
    subset: Subset = "FD001",
    json: Json = False,
) -> None:
    """Replay NASA's C-MAPSS turbofan data through the whole graph, one cycle a day."""
    from cli.replay import replay

    replay(directory, subset, site, as_json=json)


@evaluate_app.command("cmapss")
def evaluate_cmapss(directory: Directory, subset: Subset = "FD001", seed: int = 0, json: Json = False) -> None:
    """Train on the train file, score the last cycle of every test unit through the exported ONNX."""
    from cli.evaluate import cmapss

    cmapss(directory, subset, seed, as_json=json)


@evaluate_app.command("azure-pdm")
def evaluate_azure_pdm(
    directory: Annotated[Path, typer.Argument(help="Folder with Microsoft's PdM_*.csv files.")],
    seed: int = 0,
    json: Json = False,
) -> None:
    """Learn from January to August who fails within 48 and 96 hours, judge September to December."""
    from cli.evaluate import azure_pdm

    azure_pdm(directory, seed, as_json=json)


@evaluate_app.command("skab")
def evaluate_skab(
    directory: Annotated[Path, typer.Argument(help="SKAB's data folder, or one in it; sub-folders are read too.")],
    json: Json = False,
) -> None:
    """Learn what is normal from the first 400 readings of each experiment, look for anomalies in the others."""
    from cli.evaluate import skab

    skab(directory, as_json=json)


@app.command()
def place(
    asset: Annotated[str, typer.Argument(help="Such as pump/trained_model, or a workload, such as training.")],
    site: Annotated[str, typer.Option(help="The plant.")],
    json: Json = False,
) -> None:
    """Explain where an asset's work would run now, and why nowhere else."""
    from cli.place import explain

    explain(asset, site, as_json=json)


@contracts_app.command("check")
def check_contracts(
    against: Annotated[
        str | None, typer.Option(help="A git revision, or a folder with the contracts as they were.")
    ] = None,
    json: Json = False,
) -> None:
    """Check every contract and what changed; exits with 1 where one is wrong, or zones could not read each other."""
    from cli.contracts import check

    raise typer.Exit(check(against, as_json=json))


@contracts_app.command("docs")
def document_contracts(
    output: Annotated[Path | None, typer.Option(help="The file to write; default: print it.")] = None,
) -> None:
    """What every data product promises, as a Markdown page."""
    from cli.contracts import docs

    docs(output)


_Target = Annotated[str | None, typer.Option("--target", help="Default: every target.")]
_Location = Annotated[str | None, typer.Option("--location", help="Default: every location.")]
_Workload = Annotated[str | None, typer.Option("--workload", help="Or one of its alternatives; default: all work.")]


@app.command()
def block(
    site: Annotated[str, typer.Option(help="The plant.")],
    target: _Target = None,
    location: _Location = None,
    workload: _Workload = None,
    for_: Annotated[str | None, typer.Option("--for", help="Such as 45m, 2h or 1h30m.")] = None,
    reason: Annotated[str | None, typer.Option(help="Stands in every placement meanwhile.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Only tell what is left alone now.")] = False,
    json: Json = False,
) -> None:
    """Leave a target, a location or a workload alone for a while, such as during announced maintenance."""
    from cli import block as blocks

    if list_:
        blocks.list_blocks(site, as_json=json)
    else:
        blocks.block(site, target, location, workload, lasts=for_, reason=reason, as_json=json)


@app.command()
def unblock(
    site: Annotated[str, typer.Option(help="The plant.")],
    target: _Target = None,
    location: _Location = None,
    workload: _Workload = None,
    json: Json = False,
) -> None:
    """End a block before its time, whether it was announced or made by a failure."""
    from cli.block import unblock as end

    end(site, target, location, workload, as_json=json)


@app.command()
def cost(
    site: Annotated[str, typer.Option(help="The plant.")],
    from_: Annotated[datetime | None, _day("--from", "First day; default: thirty days back.")] = None,
    to: Annotated[datetime | None, _day("--to", "Last day; default: today.")] = None,
    json: Json = False,
) -> None:
    """What work has cost, beside all of it in the cloud or on premises, and what outages degraded."""
    from cli.cost import report_cost

    report_cost(site, from_.date() if from_ else None, to.date() if to else None, as_json=json)


@lineage_app.command("relay")
def lineage_relay(
    follow: Annotated[bool, typer.Option("--follow", help="Go on until interrupted.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Give what was set aside another try.")] = False,
    json: Json = False,
) -> None:
    """Read what runs have done and deliver it; exits with 1 where events are left that could not be delivered."""
    from cli.lineage import relay

    raise typer.Exit(relay(follow=follow, again=again, as_json=json))


@lineage_app.command("status")
def lineage_status(json: Json = False) -> None:
    """Tell what is pending, delivered and set aside; exits with 1 where something has to be done."""
    from cli.lineage import status

    raise typer.Exit(status(as_json=json))


@app.command()
def trace(
    advisory: Annotated[str, typer.Argument(metavar="ID", help="SITE/CLASS/EQUIPMENT/DAY, or with /eN an attempt's.")],
    readings: Annotated[
        bool, typer.Option("--readings/--no-readings", help="Read the machine's rows in the plant's store, too.")
    ] = True,
    json: Json = False,
) -> None:
    """Explain why an advisory exists, down to the sensor readings."""
    from cli.trace import explain

    explain(advisory, readings=readings, as_json=json)


@app.command()
def impact(
    equipment: Annotated[str, typer.Argument(help="Such as pump-03.")],
    sensor: Annotated[str, typer.Argument(help="A column of its telemetry, such as vibration.")],
    from_: Annotated[datetime, _day("--from", "First day on which the sensor was bad.")],
    to: Annotated[datetime, _day("--to", "Last day on which it was.")],
    site: Annotated[str | None, typer.Option(help="The plant; needed where two have such a machine.")] = None,
    json: Json = False,
) -> None:
    """Tell which features, models and open advisories a bad sensor touched."""
    from cli.impact import explain

    explain(equipment, sensor, from_.date(), to.date(), site, as_json=json)


@app.command()
def doctor(json: Json = False) -> None:
    """Check this installation and its plants; exits with 1 where something has to be done."""
    from cli.doctor import examine

    raise typer.Exit(examine(as_json=json))


@app.command()
def reconcile(site: Annotated[str, typer.Option(help="The plant.")], json: Json = False) -> None:
    """Whether all that a site's gateways acknowledged is somewhere, once, by id; exits with 1 where it is not."""
    from cli.reconcile import reconcile as tell

    raise typer.Exit(tell(site, as_json=json))


@app.command()
def prune(
    site: Annotated[str | None, typer.Option(help="The plant; all without.")] = None,
    older_than: Annotated[str, typer.Option(help="What was replaced this long ago goes: 12h, 7d.")] = "7d",
    damaged: Annotated[bool, typer.Option("--damaged", help="Also damaged parts of gateways' spools.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    json: Json = False,
) -> None:
    """Remove what of tables was replaced long ago; their versions since then stay readable."""
    from cli.prune import prune as prune_plants

    raise typer.Exit(prune_plants(site, older_than, damaged=damaged, dry_run=dry_run, as_json=json))


@chaos_app.callback()
def chaos(
    context: typer.Context,
    site: Annotated[str, typer.Option(help="The plant whose configuration is rehearsed.")] = "riverside",
    seed: Seed = 7,
    faults: Annotated[int, typer.Option(min=1, max=100_000, help="How many are drawn.")] = 100,
    scenario: Scenario = None,
    keep: Keep = None,
    json: Json = False,
) -> None:
    """Rehearse failures on a plant's own configuration: whether an answer is missing, or given twice."""
    if context.invoked_subcommand is not None:
        return
    from cli.chaos import rehearse_site

    code = rehearse_site(site, seed=seed, faults=faults, scenario=scenario, keep=keep, as_json=json)
    raise typer.Exit(code)


@chaos_app.command("gateway")
def chaos_gateway(
    seed: Seed = 7,
    faults: Annotated[int, typer.Option(min=1, max=100_000, help="How many are drawn.")] = 50,
    only: Annotated[list[str] | None, typer.Option(help="Draw this kind; may be given again for another.")] = None,
    scenario: Scenario = None,
    keep: Keep = None,
    json: Json = False,
) -> None:
    """Kill a real gateway and its porter between their durable steps, and more; look for every reading by its id."""
    from cli.floor_chaos import rehearse_gateway

    code = rehearse_gateway(seed=seed, faults=faults, only=only or [], scenario=scenario, keep=keep, as_json=json)
    raise typer.Exit(code)


@chaos_app.command("outage")
def chaos_outage(
    hours: Annotated[float, typer.Option(min=0.1, max=1000, help="Of the plant's time.")] = 24.0,
    machines: Annotated[int, typer.Option(min=1, max=200)] = 16,
    every_s: Annotated[float, typer.Option(min=0.1, help="Between two readings of a machine.")] = 30.0,
    per_s: Annotated[float, typer.Option(min=1, help="Readings a second of real time.")] = 800.0,
    drain_per_s: Annotated[float, typer.Option(min=1, help="Readings a second that may land.")] = 5000.0,
    keep: Keep = None,
    json: Json = False,
) -> None:
    """Take away the store that readings land in, for a day in a minute; then let what has gathered land."""
    from cli.floor_chaos import rehearse_store_gone

    asked = {"hours": hours, "machines": machines, "every_s": every_s, "per_s": per_s, "drain_per_s": drain_per_s}
    raise typer.Exit(rehearse_store_gone(asked, keep=keep, as_json=json))


def main() -> None:
    """Entry point: our errors are one line and exit code 2, not a traceback."""
    # Beside structlog, which Dagster brings, it would print what it tries again among what programs read.
    instrumentation.set_on_retry_hooks([instrumentation.LoggingOnRetryHook])
    try:
        app()
    except HybridError as error:
        typer.secho(f"{type(error).__name__}: {error}", err=True, fg="red" if sys.stderr.isatty() else None)
        raise SystemExit(2) from error
