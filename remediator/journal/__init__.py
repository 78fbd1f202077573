"""The journals of runs, written and read back; what may be removed by them; rebuilding and upgrading the state."""
