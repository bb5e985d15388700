"""How planned runs are executed: each as its own process, claimed by one worker, its output kept beside its results."""
