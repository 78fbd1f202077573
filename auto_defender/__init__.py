"""The application: command line, configuration, the jobs, AWS Lambda entry points, the demo."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("auto-defender")
except PackageNotFoundError:  # the Lambda zip holds the code without its installed metadata
    __version__ = "0+unpackaged"
