"""The equations: pure functions in NumPy and float64, one module per key."""
