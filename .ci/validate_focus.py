"""Runs focus-validator on a FOCUS 1.2 file, and fails if a rule fails that is not a known fault of its model.

The validator ends with 0 whatever fails, so its report is read. It opens a file relative to where it is started.
"""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

# Rules that cannot hold: docs/focus-export.md says why. What groups them fails with them.
KNOWN_FAULTS = {
    "CapacityReservationStatus-C-000-C", "CapacityReservationStatus-C-002-C", "CapacityReservationStatus-C-004-C",
    "CommitmentDiscountStatus-C-000-C", "CommitmentDiscountStatus-C-002-C", "CommitmentDiscountStatus-C-004-C",
    "EffectiveCost-C-000-M", "EffectiveCost-C-005-C",
    "InvoiceId-C-000-O", "InvoiceId-C-003-C", "InvoiceId-C-004-C", "InvoiceId-C-005-C",
    "CostAndUsage-D-000-M", "CostAndUsage-D-002-M",
}  # fmt: skip


def main(file: Path) -> str | None:
    """What is wrong; None if nothing is."""
    program = Path(sys.executable).with_name("focus-validator")
    words = ["--validate-version", "1.2", "--focus-dataset", "CostAndUsage", "--applicability-criteria", "ALL"]
    done = subprocess.run(
        [program, "--data-file", file.absolute(), *words, "--block-download", "--output-type", "console"],
        cwd=sysconfig.get_path("purelib"),
        capture_output=True,
        text=True,
        check=True,
    )
    summary = re.search(r"^Total: .*", done.stdout, re.MULTILINE)
    if summary is None:
        return f"The report has no summary:\n{done.stdout[-2000:]}"
    print(summary[0])
    failed = set(re.findall(r"^❌ (\S+):", done.stdout, re.MULTILINE))
    print(f"Known faults of the model: {', '.join(sorted(failed & KNOWN_FAULTS))}")
    new = sorted(failed - KNOWN_FAULTS)
    return f"Rules that fail: {', '.join(new)}" if new else None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
