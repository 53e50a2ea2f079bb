"""``templates``: every field of both documents, as it is defined."""

from __future__ import annotations

import click


@click.command("templates")
@click.option("--log", type=click.Choice(["conversion", "optimization"]), help="Only this document.")
@click.option("--json", "as_json", is_flag=True, help="The templates as JSON.")
def templates_command(log: str | None, as_json: bool) -> None:
    """List the fields of both logs: key, label, where a run holds it, what fills it, and the weakest state that answers it.

    Rows marked … are open rows: the template invites them, and they are not counted.

    \b
    Examples:
      mlflow-aifsm templates
      mlflow-aifsm templates --log optimization --json
    """
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
