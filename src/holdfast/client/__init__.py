"""
Clients of a Holdfast server. `holdfast.client.workflow` is the one for runs whose tools are executed by the caller.

What stands here directly decides without I/O: `sse`, `backoff`, `following`.
Nothing below knows the server: the wire is all that both share.
"""
