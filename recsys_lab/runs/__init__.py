"""A run folder: written, read, opened again, compared, verified. Notebooks use it; the command line is thin over it."""
