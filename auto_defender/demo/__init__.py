"""The demo: an organization simulated in this process by moto, swept and protected by the same code as in AWS."""

from auto_defender.demo.run import run_demo

__all__ = ["run_demo"]
