"""The demo: a whole organization in this process (moto), swept and protected by the very code that serves AWS."""

from auto_defender.demo.run import run_demo

__all__ = ["run_demo"]
