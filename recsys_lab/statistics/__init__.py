"""Values of two systems -> difference, interval, p-value: the one rule. numpy and scipy only."""
