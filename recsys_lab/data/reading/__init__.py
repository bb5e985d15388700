"""A file becomes checked tables: formats, columns, times, downloads."""
