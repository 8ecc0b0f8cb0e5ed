// Start a run with fetch (Node 18 or newer, or a browser) and print its events. After a cut it goes on.
const url = process.env.HOLDFAST_URL ?? 'http://localhost:8000';
const headers = { 'X-API-Key': process.env.HOLDFAST_KEY ?? '', 'Content-Type': 'application/json' };

// The events of one connection, until it ends or is lost.
async function* events(response) {
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let buffer = '';
  while (true) {
    let piece;
    try {
      piece = await reader.read();
    } catch {
      return; // the connection was lost, the run was not
    }
    if (piece.done) return;
    buffer += decoder.decode(piece.value, { stream: true });
    const lines = buffer.split('\n');
    buffer = lines.pop(); // half a line waits for its rest
    for (const line of lines) {
      if (line.startsWith('data: ')) yield JSON.parse(line.slice(6));
    }
  }
}

async function* stream(payload) {
  const runId = crypto.randomUUID();
  let after = -1;
  let response = await fetch(`${url}/invoke/stream?run_id=${runId}`, {
    method: 'POST',
    headers,
    body: JSON.stringify(payload),
  });
  while (true) {
    for await (const event of events(response)) {
      if (event.type === 'gap') continue;
      yield event;
      after = event.sequence;
      if (['complete', 'error', 'cancelled'].includes(event.type)) return;
    }
    response = await fetch(`${url}/runs/${runId}/events?from_sequence=${after + 1}`, { headers });
  }
}

for await (const event of stream({ query: process.argv[2] ?? 'explain quantum computing' })) {
  console.log(JSON.stringify(event));
}
