"""`octo proofs`: what is proved before a month is published, and before something leaves the lake."""

import typer

from octo_pipeline.cli.output import Output, OutputOption, print_rows


def proofs(output: OutputOption = Output.table) -> None:
    """List what is proved of each table before a month of it is published, and of exports before they are written.

    A month that fails a proof is not published, and the month that is published stays as it is. Of an export that fails one,
    no file appears.
    """
    from octo_pipeline.outputs.proofs import PROOFS
    from octo_pipeline.tables.graph import order

    proved = {table.name: table.proofs for table in order() if table.proofs} | dict(PROOFS)
    if output is not Output.table:
        rows = [(name, proof.name, proof.claim) for name, claims in proved.items() for proof in claims]
        print_rows("", ("table", "proof", "claim"), rows, output)
        return
    # A list, because a table would cut the claims.
    for name, claims in proved.items():
        typer.secho(name, bold=True)
        for proof in claims:
            typer.echo(f"  {proof.name:16} {proof.claim}")
