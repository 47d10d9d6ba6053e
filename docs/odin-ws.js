// Follows an odin-ws server, and comes back to where it was: client-js.md says how to use it.

// After these another connection would end the same way: protocol.md, Closes.
const FINAL = new Set([1000, 1002, 1003, 1007, 1009, 4401, 4403]);

// What may stand in a subprotocol: the browser's own error would show the token.
const checked = (token) => {
  if (typeof token === "string" && /^[\w.~+-]+$/.test(token)) return token;
  throw new TypeError("token: letters, digits and -._~+ are allowed");
};

export class OdinFeed {
  onmessage = (message) => {}; // a record: {seq, ts, channel, pos, data, replay?, skipped?}
  onnotice = (notice) => {}; // all else that happens, by its `type`
  duplicates = 0; // messages that had come before; they were dropped
  #token; #offered; #tokenEnd; #tokenTimer; #life = 0; // the last: of connections, and attempts
  #options; #socket; #timer; #topics; #seq; #advice; #snapshot; #tries = 0;

  // Milliseconds: backoff, the first and the longest wait; silence, when to ask for a sign of life.
  constructor(url, subscription, { positions = {}, ...options } = {}) {
    this.positions = structuredClone(positions); // {topic: {partition: offset}}
    this.#options = { url, subscription, backoff: [200, 15_000], silence: 10_000, ...options };
    this.#connect();
  }

  close() {
    this.#life++;
    clearTimeout(this.#timer);
    clearTimeout(this.#tokenTimer);
    if (!this.#socket) return;
    Object.assign(this.#socket, { onopen: null, onmessage: null, onclose: null, onerror: null });
    this.#socket.close(); // its end may take a while, and concerns nobody
  }

  get #renews() {
    return typeof this.#options.token === "function";
  }

  #connect() {
    [this.#socket, this.#topics, this.#seq, this.#advice] = [null, null, 0, null];
    const { token } = this.#options;
    if (!this.#renews) return this.#open(token && checked(token));
    const open = (one) => { try { this.#open(one); } catch (e) { this.#leave(1000, `${e}`); } };
    this.#fetch(open, (why) => this.#leave(1006, `no token: ${why}`));
    this.#listen(true);
  }

  #open(token) {
    [this.#token, this.#tokenEnd] = [token, 0];
    const protocols = token ? ["odin.v1", `bearer.${token}`] : [];
    const socket = (this.#socket = new WebSocket(this.#options.url, protocols));
    this.#listen(true);
    socket.onopen = () => this.#ask();
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = socket.onerror = ({ code = 1006, reason }) => this.#leave(code, reason);
  }

  async #fetch(use, fail) {
    const life = this.#life;
    const ask = async () => checked(await this.#options.token());
    const next = await ask().then((token) => () => use(token), (why) => () => fail(why));
    if (life === this.#life) next();
  }

  // At a random moment in half of what is left: where it fails there is time for another attempt.
  #renew() {
    clearTimeout(this.#tokenTimer);
    const left = this.#tokenEnd - Date.now();
    if (!this.#renews || !(left > 2000)) return;
    const use = (token) => {
      if (token === this.#token) return this.#renew(); // it would end at the same time
      this.#offered = token; // and may be offered again, until it is taken
      this.#socket.send(JSON.stringify({ type: "auth", data: { token } }));
    };
    const ask = () => this.#fetch(use, () => this.#renew());
    this.#tokenTimer = setTimeout(ask, Math.max(1000, (Math.random() * left) / 2));
  }

  #leave(code, reason = "the connection failed") {
    this.close();
    const [first, longest] = this.#options.backoff;
    const jittered = Math.random() * Math.min(longest, first * 2 ** this.#tries++);
    const isFinal = FINAL.has(code) && !(code === 4401 && this.#renews);
    const retry_ms = isFinal ? null : (this.#advice ?? jittered);
    if (retry_ms !== null) this.#timer = setTimeout(() => this.#connect(), retry_ms);
    this.onnotice({ type: "disconnected", code, reason, retry_ms });
  }

  #listen(wasAsked = false) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (wasAsked) return this.#leave(1006, "nothing was heard for too long");
      this.#socket.send('{"type":"heartbeat"}');
      this.#listen(true);
    }, this.#options.silence);
  }

  #ask() {
    const { snapshot, since_ms, ...names } = this.#options.subscription;
    const isFirst = Object.keys(this.positions).length === 0;
    const from = isFirst ? { snapshot, since_ms, positions: true } : { positions: this.positions };
    this.#snapshot = isFirst && snapshot;
    const command = { type: isFirst ? "subscribe" : "resume", data: { ...names, ...from } };
    this.#socket.send(JSON.stringify(command));
    this.#listen();
  }

  #receive(item) {
    this.#listen();
    if (item.type === "message") return this.#take(item);
    for (const [topic, partitions] of Object.entries(item.positions ?? {}))
      this.positions[topic] = { ...this.positions[topic], ...partitions };
    if (item.type === "pong") return void (this.#tries = 0);
    if (!this.#topics && (item.subscribed || item.type === "error")) return this.#begin(item);
    if (item.type === "auth") this.#tokenEnd = Date.now() + item.expires_in_ms;
    if (item.type === "auth_ack") [this.#token, this.#tokenEnd] = [this.#offered, 0];
    const isRefused = item.type === "auth_error" || item.code === "RATE_LIMIT_EXCEEDED";
    if (item.type === "auth" || isRefused) this.#renew(); // where its end was told
    if (item.type === "reconnect") this.#advice = item.data.after_ms;
    if (item.type === "replay_incomplete" || item.reason === "unknown_position") this.#lose(item);
    this.onnotice(item);
  }

  #begin(answer) {
    const error = !answer.subscribed?.length && (answer.rejected?.[0] ?? answer);
    if (error) return this.#leave(error.retry ? 1013 : 1000, `${error.code}: ${error.message}`);
    this.#topics = answer.categories;
    this.#lose(answer);
    this.onnotice(answer);
  }

  #take(message) {
    const { seq, skipped = 0, channel, pos, replay } = message;
    if (seq !== this.#seq + 1 + skipped) return this.#leave(4000, `gap before message ${seq}`);
    [this.#seq, this.#tries] = [seq, 0];
    const kept = (this.positions[this.#topics[channel.split(".").at(-1)]] ??= {});
    const [partition, offset] = pos.split("-").map(Number); // exact up to 2^53
    if (offset <= kept[partition] && !(replay && this.#snapshot)) return void this.duplicates++;
    kept[partition] = Math.max(offset, kept[partition] ?? -1);
    this.onmessage(message);
  }

  #lose({ lost, reason }) {
    const isNew = reason === "unknown_position"; // made anew: its offsets begin at 0 again
    for (const topic in lost) {
      const kept = this.positions[topic] ?? {}; // nothing is kept of what is not followed
      for (const p in lost[topic]) kept[p] = Math.max(lost[topic][p][1], isNew ? -1 : kept[p]);
    }
  }
}
