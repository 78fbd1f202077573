"""The parts of a run that jobs share: from the sweep to the announcements."""
