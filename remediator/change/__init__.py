"""One change of one function: its delta, its update, its result."""
