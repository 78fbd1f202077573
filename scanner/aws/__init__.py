"""Calls to AWS as any account of the organization: signed, paced, retried."""
