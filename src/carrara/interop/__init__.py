"""Weights and configurations of other libraries, read and written. No other library is imported."""
