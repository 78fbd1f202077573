"""AWS Lambda's control plane in memory, strict, with what the product asks beside it; for tests and benchmarks alone.

    core         accounts, functions, policies, throttling, owners' operations, hooks for faults, a record of every write
    lambda_api   Lambda's operations; limits: what they refuse; state: what they keep
    organization, observability   Organizations, STS, regions; tags and metrics
    caller       a front without a wire, called as the product's Aws is
    http, wire   a front over HTTP for the real client; it finds operations in botocore's model of a service

It imports nothing of the product, and the product nothing of it: it judges from outside. Its time is a clock that is
given. What it answers follows AWS's API reference and quotas; where those are silent, LocalStack's messages, which its
snapshot tests compare with AWS. tests/functional/simulator/contract.py has the cases that it is held against, and
runs them against the emulators that the demo and the end-to-end tests use. Those are laxer than AWS where the lists
MOTO and MINISTACK there say so, each with the place in the emulator's source; the suite fails once one no longer is.

Not simulated: invocation, event sources, provisioned concurrency (always none), resource policies of functions, IAM
policies but denials, the contents of code and layers (their sizes are given), GetFunction's own rate of 100 a second.
"""
