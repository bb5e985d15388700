"""Pages and tables made of plain data: run folders and audits."""
