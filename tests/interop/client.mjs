// A client with Node's own WebSocket, or with `ws` where its module is named; see serving.py.

const [url, command, connections, texts, module] = process.argv.slice(2);
const Socket = module ? (await import(module)).WebSocket : WebSocket;

const subscribed = [];
const ended = [];
const sockets = Array.from({ length: Number(connections) }, () => {
  const socket = new Socket(url);
  const found = [];
  let answered;
  subscribed.push(new Promise((resolve) => (answered = resolve)));
  ended.push(
    new Promise((resolve, reject) => {
      socket.onopen = () => socket.send(command);
      socket.onerror = socket.onclose = (event) => reject(new Error(event.reason ?? event.message));
      socket.onmessage = ({ data }) => {
        if (JSON.parse(data).type === "subscription_ack") return answered();
        found.push(data);
        if (found.length === Number(texts)) resolve(found);
      };
    }),
  );
  return socket;
});
await Promise.all(subscribed);
console.log("ready");
const all = await Promise.all(ended);
for (const socket of sockets) socket.onclose = null;
const extensions = JSON.stringify(sockets[0].extensions);
console.log(JSON.stringify({ extensions, texts: all }));
for (const socket of sockets) socket.close();
