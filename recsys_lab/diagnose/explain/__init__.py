"""Why an item stands in a list: what each event, and each field, of one history adds to its score; and whether such an
explanation is faithful to the model. Any encoder, through its `EventEmbedding` and its scorer.
"""
