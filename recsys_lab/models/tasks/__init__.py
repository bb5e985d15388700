"""What is predicted, one file each: targets, loss, and what evaluation is given. Knows the ground floor; no encoder, no
data, and losses only by name.
"""
