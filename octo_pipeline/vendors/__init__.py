"""Where bills come from: one folder per vendor, and what all vendors share (landing, downloads, data files)."""
