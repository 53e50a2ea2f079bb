"""``report``: the logs of a run, of a chain or of an experiment as documents."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mlflow_aifsm.cli.logs import LOG

if TYPE_CHECKING:
    from mlflow_aifsm.record import Evidence

FORMAT = click.option("--format", "format_", default="html", show_default=True, help="html, pdf, docx, md or json.")
OUTPUT = click.option("-o", "--output", help="File or folder to write; - for standard output. [default: <log id>.<format>]")
TEMPLATE = click.option(
    "--template", default="", help="A DOCX form of your own; 'templates --export docx' writes one to start from."
)
CHAIN = click.option("--chain", is_flag=True, help="One document of all logs that led to TARGET, in their order.")
EXPERIMENT = click.option(
    "--experiment", help="All logs of the experiment of this name, with an index.html; -o names the folder."
)
STRICT = click.option("--strict", is_flag=True, help="Exit with 3, 4 or 5 where something is open.")


@click.command("report", short_help="Render logs as HTML, PDF, DOCX, Markdown or JSON.")
@click.argument("target", required=False)
@EXPERIMENT
@LOG
@FORMAT
@TEMPLATE
@CHAIN
@OUTPUT
@STRICT
def report_command(
    target: str | None,
    experiment: str | None,
    log: str | None,
    format_: str,
    template: str,
    chain: bool,
    output: str | None,
    strict: bool,
) -> None:
    """Render the logs of TARGET, conversion before optimization.

    A table with more rows than a report shows is written beside it as CSV. PDF and DOCX need an extra each: pip install
    'mlflow-aifsm[pdf,docx]'.

    \b
    Examples:
      mlflow-aifsm report 0a1b2c3d…
      mlflow-aifsm report 0a1b2c3d… --format pdf -o reports/
      mlflow-aifsm report models:/digits-frozen/1 --format md -o -
      mlflow-aifsm report models:/digits-int8/2 --chain --format docx --template company.docx
      mlflow-aifsm report --experiment digits --format pdf -o reports/
      mlflow-aifsm report 0a1b2c3d… --log optimization -o log.html --strict
    """
    if (target is None) == (experiment is None):
        raise click.UsageError("Name a TARGET, or --experiment NAME.")
    if experiment is not None and (chain or log or output in (None, "-")):
        raise click.UsageError("--experiment needs a folder, -o DIR, and goes with neither --chain nor --log.")
    logs = _experiment(experiment, format_, template, str(output)) if experiment else ()
    logs = logs or _target(str(target), log, format_, template, output, chain=chain)
    if strict:
        from mlflow_aifsm import audit

        sys.exit(audit.exit_code(logs))


def _experiment(name: str, form: str, template: str, folder: str) -> tuple[Evidence, ...]:
    from mlflow_aifsm.rendering import rendered_experiment, settled

    logs, index = rendered_experiment(name, folder, form, settled(form, template))
    click.echo(index)
    return logs


def _target(target: str, log: str | None, form: str, template: str, output: str | None, *, chain: bool) -> tuple[Evidence, ...]:
    from mlflow_aifsm import audit
    from mlflow_aifsm.rendering import chained, dossier, rendered, settled, streamed

    chosen = settled(form, template)
    logs = audit.read(target, log)
    logs = chained(logs) if chain else logs
    if output == "-":
        sys.stdout.buffer.write(streamed(logs, form, chosen, chain=chain))
        return logs
    for path in (dossier if chain else rendered)(logs, form, output, chosen):
        click.echo(path)
    return logs
