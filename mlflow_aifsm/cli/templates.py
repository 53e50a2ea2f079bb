"""``templates``: every field of both documents, as it is defined; the form and the schema to start one's own from."""

from __future__ import annotations

from pathlib import Path

import click

DEFAULT_FORM = Path("company.docx")
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("templates", short_help="List every field of both logs.")
@click.option("--log", type=click.Choice(["conversion", "optimization"]), help="Only this document.")
@click.option("--json", "as_json", is_flag=True, help="The templates as JSON.")
@click.option("--schema", is_flag=True, help="The JSON Schema of record.json and of JSON reports instead.")
@click.option("--export", type=click.Choice(["docx"]), help="Write the form of this package, to make one's own of it.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help=f"File of --export. [default: {DEFAULT_FORM}]"
)
def templates_command(log: str | None, as_json: bool, schema: bool, export: str | None, output: Path | None) -> None:
    """List the fields of both logs: key, label, where a run holds it, what fills it, and the weakest state that answers it.

    Rows marked … are open rows: the template invites them, and they are not counted.

    \b
    Examples:
      mlflow-aifsm templates
      mlflow-aifsm templates --log optimization --json
      mlflow-aifsm templates --export docx -o company.docx
    """
    if output is not None and export is None:
        raise click.UsageError("-o names the file of --export docx.")
    if export is not None:
        from mlflow_aifsm.rendering import exported_form

        click.echo(exported_form(output or DEFAULT_FORM))
    elif schema:
        from mlflow_aifsm.report.json import as_text
        from mlflow_aifsm.report.schema import schema as published

        click.echo(as_text(published()))
    else:
        _listed(log, as_json=as_json)


def _listed(log: str | None, *, as_json: bool) -> None:
    from mlflow_aifsm.codec import unstructure
    from mlflow_aifsm.report.json import as_text
    from mlflow_aifsm.report.listing import listing
    from mlflow_aifsm.template import LOGS, load

    templates = [load(name) for name in ([log] if log else LOGS)]
    if as_json:
        click.echo(as_text([unstructure(template) for template in templates]))
        return
    for template in templates:
        listing(template)
