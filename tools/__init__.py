"""Commands for the people who develop Auto-Defender; nothing here is installed or runs in AWS."""
