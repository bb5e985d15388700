"""Fair tuning: the same search budget for everything that a study compares. Trials look at the validation part only."""
