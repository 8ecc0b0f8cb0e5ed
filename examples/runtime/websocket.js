// In a page: follow a run over a WebSocket; answer it and cancel it with `say`. After a cut it goes on behind the last
// event. `first` is what lets the page in, {type: 'auth', api_key: …}; with `?token=` in the URL there is none.
function followRun(url, first, show, from = 0) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url);
    const say = (message) => socket.send(JSON.stringify(message));
    socket.onopen = () => first && say(first);
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === 'hello') say({ type: 'subscribe', from_sequence: from });
      if (message.sequence === undefined) return; // ack, pong, heartbeat …
      from = message.sequence + 1;
      show(message, say);
    };
    socket.onclose = ({ code, reason }) => {
      if (code === 1000) resolve(from); // the run is finished
      // A refusal stays one; whoever was too slow may come back.
      else if (code >= 4400 && code !== 4408) reject(new Error(`${code} ${reason}`));
      else setTimeout(() => followRun(url, first, show, from).then(resolve, reject), 500 + Math.random() * 1000);
    };
  });
}
