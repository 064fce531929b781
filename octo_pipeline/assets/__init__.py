"""Software-defined assets, thin: read inputs, call the tables, say what happened."""
