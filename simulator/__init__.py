"""AWS Lambda's control plane in memory, strict, with what the product asks beside it; for tests and benchmarks alone.

    core         accounts, functions, policies, throttling, owners' operations, hooks for faults, a record of every write
    lambda_api   Lambda's operations; limits: what they refuse; state: what they keep
    organization, observability   Organizations, STS, regions; tags and metrics
    caller       a front without a wire, called as the product's Aws is
    http, wire   a front over HTTP for the real client; it finds operations in botocore's model of a service

It imports nothing of the product, and the product nothing of it: it judges from outside. Its time is a clock that is
given. What it answers follows AWS's API reference and quotas; where those are silent, LocalStack's messages, which its
snapshot tests compare with AWS. tests/functional/simulator/contract.py has what AWS does, case by case, and runs it
against the core, moto and (tests/e2e/test_contract.py) ministack. The two are laxer than AWS:

    both        more than five layers; two versions of a layer; another account's layer without a grant; more than 4 KB of
                environment; reserved and malformed names of variables; any runtime and timeout; an update during an update
                or while the function is Pending; tags renew no RevisionId; routing to $LATEST; State in ListFunctions
    moto        no RevisionId, so none is checked (the demo adds both); updates are Successful at once; versions can be
                updated, and deleted while an alias names them; aliases are updated whatever their RevisionId is
    ministack   an alias may name a version that does not exist

The tables MOTO and MINISTACK in those tests name the place in the emulator's source of each; a test fails once an
emulator is no longer laxer there.

Not simulated: invocation, event sources, provisioned concurrency (always none), resource policies of functions, IAM
policies but denials, the contents of code and layers (their sizes are given), GetFunction's own rate of 100 a second.
"""
