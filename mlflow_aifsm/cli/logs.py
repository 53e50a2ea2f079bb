"""``check`` and ``declare``: a log looked at again, and filled in by a person."""

from __future__ import annotations

import sys

import click

TARGET = click.argument("target")
LOG = click.option("--log", type=click.Choice(["conversion", "optimization"]), help="Only this log, where the target has both.")


@click.command("check", short_help="Say what is open in a log, and whether all digests hold.")
@click.argument("target", required=False)
@LOG
@click.option("--reproduce", is_flag=True, help="Convert again in a new process, and compare bytes and canonical digest.")
@click.option("--config", "settings", is_flag=True, help="Show the settings in force instead, and where each came from.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def check_command(target: str | None, log: str | None, reproduce: bool, settings: bool, as_json: bool) -> None:
    """Say what is unanswered in the logs of TARGET, which findings are open, and whether all digests still hold.

    The record, its artifacts, the delivered file, params and tags are read anew and compared with each other. Where TARGET is
    a folder, a models:/ URI or a file, it is the file there that is compared with the record.

    \b
    Exit codes: 0 all well · 3 fields unanswered · 4 open findings or a failed verification
                5 integrity broken

    \b
    Examples:
      mlflow-aifsm check 0a1b2c3d…
      mlflow-aifsm check models:/digits-int8/2 --json
      mlflow-aifsm check 0a1b2c3d… --log conversion --reproduce
      mlflow-aifsm check deployed/model.onnx
      mlflow-aifsm check --config
    """
    if settings or target is None:
        _settings(target or log or reproduce, as_json=as_json, wanted=settings)
        return
    from mlflow_aifsm import audit
    from mlflow_aifsm.report.checklist import checklist, checklist_data
    from mlflow_aifsm.report.json import as_text

    logs = audit.read(target, log)
    if reproduce:
        from mlflow_aifsm.operations.reproduction import with_reproduction

        logs = tuple(map(with_reproduction, logs))
    click.echo(as_text([checklist_data(evidence) for evidence in logs]) if as_json else "\n\n".join(map(checklist, logs)))
    sys.exit(audit.exit_code(logs))


def _settings(more: object, *, as_json: bool, wanted: bool) -> None:
    if not wanted:
        raise click.UsageError("Missing argument 'TARGET'.")
    if more:
        raise click.UsageError("--config shows the settings in force: leave TARGET, --log and --reproduce out.")
    from mlflow_aifsm.cli.settings import shown

    shown(as_json=as_json)


@click.command("declare", short_help="Fill fields that a person must fill.")
@TARGET
@click.argument("values", metavar="KEY=VALUE...", nargs=-1, required=True)
@click.option("--by", required=True, help="The person who stands for the value.")
@LOG
def declare_command(target: str, values: tuple[str, ...], by: str, log: str | None) -> None:
    """Fill fields of TARGET's log that a person must fill. KEY may be the last parts of the field's key.

    The record is not rewritten: a declaration is put beside it, with name and time, and laid over it when the log is read. What
    the file can tell is not replaced; a contradiction becomes a finding.

    \b
    Examples:
      mlflow-aifsm declare 0a1b2c3d… aifsm.conversion.responsible='A. Ito' --by 'A. Ito'
      mlflow-aifsm declare models:/digits-frozen/1 data_sets='digits 1.0, training half' --by 'A. Ito'
      mlflow-aifsm declare models:/digits/3 verified='https://example.org/report-17' --by 'A. Ito'
    """
    from mlflow_aifsm.review import VERIFIED, declare_all

    pairs = [value.partition("=") for value in values]
    if wrong := [key for key, separator, _ in pairs if not separator]:
        raise click.UsageError(f"'{wrong[0]}' has no value: write KEY=VALUE, as in responsible='A. Ito'")
    said = {key: value for key, _, value in pairs}
    declared = declare_all(target, [(key, value) for key, _, value in pairs], by, log)
    if model := declared.verified:
        click.echo(f"{model.uri}: declared verified by {by}, evidence {said[VERIFIED]}, sha256 {model.sha256}")
    for evidence in declared.logs:
        click.echo(f"{evidence.record.log_id}: {evidence.status}")
        click.echo(f"  {evidence.record.state_line}")
