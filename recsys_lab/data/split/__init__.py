"""Which events train and which are predicted: pure functions -> target positions."""
