"""What a finished run rests on: the order of events, calibration, slices."""
