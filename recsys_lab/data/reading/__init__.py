"""A file, folder, address or frame -> `RawTables`: lazy tables of interactions, items and users under our column
names, or an error that names row and column. Knows words only.
"""
