"""A prepared set in shards of whole users, by a hash of the user: read through memory maps, or from a store (s3://, gs://)
through a local cache of bounded size. Knows prepare, reading and words.
"""
