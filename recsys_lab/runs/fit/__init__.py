"""A fit, a test, a prediction from settings: parsed, checked, run, and told in lines."""
