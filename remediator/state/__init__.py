"""What runs have learnt: state files, each a fold over the lines of journals."""
