"""Sees: accounts, opt-outs, credentials, the sweep, the functions frame, the risk engine."""
