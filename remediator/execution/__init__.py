"""Executes changes: apply, rollback, recovery, preflight."""
