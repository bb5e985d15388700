"""Studies: what several run folders say together. Reads run folders, never models."""
