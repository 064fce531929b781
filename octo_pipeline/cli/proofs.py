"""`octo proofs`: what is proved of each table before a month of it is published."""

import typer

from octo_pipeline.cli.output import Output, OutputOption, print_rows


def proofs(output: OutputOption = Output.table) -> None:
    """List what is proved of each table before a month of it is published.

    A month that fails a proof is not published, and the month that is published stays as it is.
    """
    from octo_pipeline.tables.graph import order

    if output is not Output.table:
        rows = [(table.name, proof.name, proof.claim) for table in order() for proof in table.proofs]
        print_rows("", ("table", "proof", "claim"), rows, output)
        return
    # A list, because a table would cut the claims.
    for table in order():
        if table.proofs:
            typer.secho(table.name, bold=True)
        for proof in table.proofs:
            typer.echo(f"  {proof.name:16} {proof.claim}")
