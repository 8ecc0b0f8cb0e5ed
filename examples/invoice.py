"""
Read an invoice, ask a person, and pay once: steps, a question with a default, and a restart after a crash.

    holdfast serve examples/invoice.py
    curl -N localhost:8000/invoke/stream?run_id=i-1 -H "X-API-Key: $KEY" \
        -H 'Content-Type: application/json' -d '{"number": "A-17", "cents": 123400}'
    holdfast runs answer i-1 yes
"""

from typing import Any

from holdfast import Context, NotRetryable, agent

THREE_DAYS = 3 * 86_400


async def read(number: str, cents: int) -> dict[str, Any]:
    """A real one would fetch a document here."""
    if cents <= 0:
        raise NotRetryable(f"invoice {number} has nothing to pay")
    return {"number": number, "amount": f"{cents / 100:,.2f} EUR"}


async def pay(number: str, amount: str) -> str:
    """A real one would call a bank here, and name the payment by the invoice's number."""
    return f"payment of {amount} for {number}"


@agent("invoice", restart="always")
async def invoice(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Pay an invoice if a person says so."""
    document = await context.step("read", read, input["number"], input["cents"], attempts=3)
    await context.progress(0.3, "read")
    await context.token(f"Invoice {document['number']} is about {document['amount']}. ")
    answer = await context.ask(f"Pay {document['amount']}?", choices=["yes", "no"], expires_in=THREE_DAYS, default="no")
    if answer == "no":
        await context.token("It is not paid.")
        return {"paid": False}
    receipt = await context.step("pay", pay, document["number"], document["amount"], at_most_once=True)
    await context.token("It is paid.")
    return {"paid": True, "receipt": receipt}
