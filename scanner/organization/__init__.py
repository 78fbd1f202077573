"""The organization: its accounts, their regions, their opt-outs."""
