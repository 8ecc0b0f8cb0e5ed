"""
Clients of a Holdfast server, for Python. They come back by themselves when a connection breaks or the server restarts.

    from holdfast.client import AsyncRunsClient, Token

    async with AsyncRunsClient("http://127.0.0.1:8000", "…") as client:
        async with client.stream({"message": "Hello!"}) as events:
            async for event in events:
                if isinstance(event, Token):
                    print(event.content, end="")

`RunsClient` is the same without `await`. `holdfast.client.workflow` is the client of runs whose tools are executed by
the caller. Nothing here knows the server: the wire is all that both share.
"""
