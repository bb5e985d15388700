"""What encoders are built from: a batch -> event vectors (embedding), layers over them, hidden states -> scores
(scoring). Knows contracts, ops and words.
"""
