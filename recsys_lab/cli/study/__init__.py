"""`recsys-lab study`: one file per subcommand."""
