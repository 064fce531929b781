"""Writes months of a legacy AWS Cost and Usage Report (CUR) that tell the story the shipped allocators use.

This package makes the synthetic organisation (`accounts`, `services`), its usage, commitments and fees, and the files and
manifest as AWS delivers them (`columns`, `lines`, `writer`). Reading a report and allocation rules belong elsewhere.

The organisation is one payer with a platform (EKS) account, product teams, a data platform and a sandbox.
A month has, besides its usage lines:

- enterprise support on the payer (a tiered share of the month's usage) with its tax, and tax on the EC2 usage
  of each account;
- Reserved Instances and Savings Plans that the payer owns and the product teams use. For each reservation,
  Σ effective cost used + unused = RI fee + amortised upfront fee; for each plan, Σ effective cost used +
  unused = recurring fee. Each line that a plan covers has its negation;
- a programme credit, the enterprise discount of each account and a bundled discount;
- in the first month a yearly marketplace fee, the reservations' upfront fees and a domain renewal that no
  shipped allocator takes; in the last month a refund.

How it is made: DuckDB draws all values from hashes of (position, purpose, seed), so the same arguments give the same
rows, and streams them to the files. A resource is billed for a day's worth of consecutive hours, so hourly lines fold
into daily ones about as in a real report; a quarter of the resources is replaced every month. Costs are whole numbers of
10⁻¹⁰ USD (quantity times rate) until they are written, so the sums above are exact.

Known drawbacks: rows depend on DuckDB's hash function, which a new DuckDB may change; below about 20,000
lines a covered line stands for several instance hours; of the prices only the order of magnitude is real.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from octo_pipeline.lake.instances import shared_connection
from octo_pipeline.model.errors import OctoError
from octo_pipeline.vendors.aws.sample.commitments import create_commitments
from octo_pipeline.vendors.aws.sample.draws import create_macros
from octo_pipeline.vendors.aws.sample.services import create_services
from octo_pipeline.vendors.aws.sample.settings import Format, SampleSettings
from octo_pipeline.vendors.aws.sample.writer import write_month


def write_cur(
    folder: Path,
    *,
    months: Sequence[str],
    accounts: int = 12,
    lines: int = 20_000,
    seed: int = 7,
    format: Format = "parquet",
    files: int = 1,
) -> list[Path]:
    """Write sample reports, laid out as AWS does with OVERWRITE_REPORT, and their manifests.

    A month goes to ``<folder>/aws/cur/octo-sample/YYYYMMDD-YYYYMMDD/``. Its manifest is removed first and
    written last, so a killed run leaves no delivery. The same arguments give the same assemblyId and in each
    file the same rows; their order may change if several threads write (some 3 million lines and more).

    Args:
        folder: The root of the tree; created if missing.
        months: The months as YYYY-MM. The earliest has the yearly and upfront fees, the latest the refund.
        accounts: The number of accounts including the payer; at least 3.
        lines: Usage lines per month (Usage, DiscountedUsage and SavingsPlanCoveredUsage together), not counting
            negations, fees, taxes and credits.
        seed: Another seed gives another organisation of the same shape.
        format: ``parquet`` (snappy, Athena column names) or ``csv.gz`` (``lineItem/UnblendedCost`` headers).
        files: The number of data files per month.

    Returns:
        Every file written, by month: the data files in the manifest's order, then the manifest.

    Raises:
        OctoError: an argument is out of range, or the folder cannot be written.
    """
    settings = SampleSettings.checked(months, accounts, lines, seed, format, files)
    written: list[Path] = []
    with shared_connection({}) as con:
        create_macros(con, settings.seed)
        create_services(con)
        create_commitments(con, settings)
        for month in sorted(months):
            try:
                written += write_month(con, settings, month, folder)
            except (OSError, duckdb.IOException) as error:
                raise OctoError(
                    f"The sample of {month} cannot be written to {folder}: {error}", code="sample-not-writable"
                ) from error
    return written
