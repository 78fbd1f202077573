"""The inventory: the sweep of all units, and the frames that it fills."""
