"""Windows over the prepared events, and the batches that are gathered from them."""
