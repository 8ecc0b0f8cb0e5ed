// In a page: follow a run with EventSource. `eventsUrl` is `events_url` of POST /runs/{id}/stream-token; with its cookie,
// `/runs/{id}/events` will do. After a cut the browser comes back by itself, behind the last event that it had.
function followRun(eventsUrl, show) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(eventsUrl);
    const end = (settle, value) => {
      source.close();
      settle(value);
    };
    source.addEventListener('token', (event) => show(JSON.parse(event.data)));
    source.addEventListener('complete', (event) => end(resolve, JSON.parse(event.data)));
    source.addEventListener('cancelled', (event) => end(resolve, JSON.parse(event.data)));
    source.addEventListener('error', (event) => {
      if (event.data) end(reject, new Error(JSON.parse(event.data).error)); // the run failed
      // The connection was lost: the browser comes back, unless it was refused, as with a token whose time is over.
      else if (source.readyState === EventSource.CLOSED) end(reject, new Error('the stream was refused'));
    });
  });
}
