"""Fast paths, each beside its plain form: chunked cross-entropy, ranks, top lists, row-sparse optimisers."""
