"""Changes: plan, apply, journal, rollback, guards."""
