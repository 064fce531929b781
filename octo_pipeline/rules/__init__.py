"""What finance writes: allocators, cost groups, exchange rates and formulas, read and validated."""
