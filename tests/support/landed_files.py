"""Deliveries of small files, landed without a source."""

from pathlib import Path

from octo_pipeline.vendors.downloads import SourceFile
from octo_pipeline.vendors.landing import Landed, land
from tests.support.reports import NOW, PAYER, source_file

FILE_DATA = b"some data"


def land_files(root: Path, *files: SourceFile, **changes) -> Landed:
    """Land the files (one CSV file if there are none) as an AWS payer's delivery; `changes` are arguments of `land`."""
    arguments = {
        "vendor": "aws",
        "account": PAYER,
        "month": "2024-01",
        "version": "v1",
        "format": "csv",
        "report": "octo",
        "source": "a bucket",
        "fetched_at": NOW,
    }
    return land(root, files=files or [source_file("a.csv", FILE_DATA)], **(arguments | changes))
