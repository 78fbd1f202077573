"""What decides whether a change may be made now: waves, health, guards, the lock."""
