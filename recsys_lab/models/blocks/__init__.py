"""What encoders are built from: event embedding, layers, scorers."""
