"""`doctor`: what would stop a run, before it runs. Every finding says what to do; nothing is changed."""

from auto_defender.doctor.examination import examine

__all__ = ["examine"]
