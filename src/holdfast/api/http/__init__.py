"""
What all APIs share of HTTP.

    protocol ─► door ─► Litestar ─► handler of an API ─► Reply or EventStream
    limits      owner, Host, Origin, key, request id     one strict JSON reader, one query reader

`routing` says how an API gives itself to the server; `call` is what its handlers hold.
"""
