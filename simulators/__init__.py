"""One decision model per file; each ends in `SIMULATOR`."""
