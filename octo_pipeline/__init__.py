"""octo-pipeline: cloud cost allocation whose every amount is conserved."""
