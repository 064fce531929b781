"""What memory a month takes that is larger than what DuckDB was told to use: it spills, and Python holds no table."""

import pytest

from benchmarks.growing import peak_memory

pytestmark = pytest.mark.slow


def test_a_month_of_millions_of_lines_stays_near_the_memory_limit(tmp_path):
    # Regression: a second model after one that had spilled failed on setting the folder it spills to.
    # Interpreter and the engine's code are 0.2 GiB of it (0.50 seen), what the allocator keeps of threads that wait for a
    # busy machine up to 0.3 GiB more; the lines in Python would be more than 1.5 GiB.
    assert peak_memory(tmp_path, lines=2_000_000, limit="300MB") < 1.0
