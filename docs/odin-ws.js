// Follows an odin-ws server, and comes back to where it was: client-js.md says how to use it.

// After these another connection would end the same way: protocol.md, Closes.
const FINAL = new Set([1000, 1002, 1003, 1007, 1009, 1010, 4401, 4403]);
const BAD_COMMANDS = "too many bad messages"; // one of the reasons of 1008
// The server is dissatisfied with this client: waits grow, however long the connection has held.
const FAILURES = new Set([1008, 4403]);

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
  #options; #socket; #timer; #topics; #seq; #advice; #snapshot; #snapshotDue; #toCome; #since;
  #tries = 0; #advised = false; // since a connection has last held for the longest wait

  // Milliseconds: backoff, the first and the longest wait; silence, when to ask for a sign of life.
  constructor(url, subscription, { positions = {}, ids = {}, ...options } = {}) {
    this.positions = structuredClone(positions); // {topic: {partition: offset}}
    this.ids = { ...ids }; // {topic: id}: another one is another topic, whose offsets begin at 0
    this.#snapshotDue = subscription.snapshot && Object.keys(positions).length === 0;
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

  // When the server asks for it, else at a random moment in half of what is left: where it fails
  // there is time for another attempt.
  #renew(retry_ms) {
    clearTimeout(this.#tokenTimer);
    const left = this.#tokenEnd - Date.now();
    if (!this.#renews || !(left > 2000)) return;
    const use = (token) => {
      if (token === this.#token) return this.#renew(); // it would end at the same time
      this.#offered = token; // and may be offered again, until it is taken
      this.#socket.send(JSON.stringify({ type: "auth", data: { token } }));
    };
    const ask = () => this.#fetch(use, () => this.#renew());
    const wait = retry_ms < left ? retry_ms : (Math.random() * left) / 2;
    this.#tokenTimer = setTimeout(ask, Math.max(1000, wait));
  }

  #leave(code, reason = "the connection failed") {
    this.close();
    const [first, longest] = this.#options.backoff;
    const held = this.#topics ? performance.now() - this.#since : 0;
    if (held >= longest && !FAILURES.has(code)) [this.#tries, this.#advised] = [0, false];
    const jittered = Math.random() * Math.min(longest, first * 2 ** this.#tries++);
    const isBad = FINAL.has(code) || (code === 1008 && reason.startsWith(BAD_COMMANDS));
    const isFinal = isBad && !(code === 4401 && this.#renews);
    // Advice is for those that are sent away once; given again it is the least of the back-off.
    const wait = this.#advised ? Math.max(this.#advice, jittered) : (this.#advice ?? jittered);
    if (this.#advice !== null) this.#advised = true;
    const retry_ms = isFinal ? null : wait;
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
    this.#snapshot = this.#snapshotDue; // again where it was cut off
    const ids = Object.keys(this.ids).length ? this.ids : undefined;
    const from = isFirst
      ? { snapshot, since_ms, positions: true }
      : { positions: this.positions, ids, snapshot: this.#snapshot || undefined };
    const data = { ...names, frames: "batch", ...from };
    const command = { type: isFirst ? "subscribe" : "resume", data };
    this.#socket.send(JSON.stringify(command));
    this.#listen();
  }

  #receive(item) {
    this.#listen();
    if (item.type === "message") return this.#take(item);
    if (item.type === "batch") return this.#takeAll(item);
    this.#follow(item);
    if (item.type === "replay_complete") this.#snapshotDue = false;
    if (item.type === "pong") return;
    if (!this.#topics && (item.subscribed || item.type === "error")) return this.#begin(item);
    if (item.type === "auth") this.#tokenEnd = Date.now() + item.expires_in_ms;
    if (item.type === "auth_ack") [this.#token, this.#tokenEnd] = [this.#offered, 0];
    const isRefused = item.type === "auth_error" || item.code === "RATE_LIMIT_EXCEEDED";
    const retry_ms = isRefused ? (item.data ?? item).retry_ms : undefined;
    if (item.type === "auth" || isRefused) this.#renew(retry_ms); // where its end was told
    if (item.type === "reconnect") this.#advice = item.data.after_ms;
    if (item.type === "replay_incomplete") this.#lose(item);
    this.onnotice(item);
  }

  #follow({ type, ids = {}, positions = {} }) {
    const followed = new Set(Object.values(this.#topics ?? {}));
    const isFeed = type === "feed"; // to all: of topics that are not followed, and amid a replay
    const concerns = (topic) => !isFeed || followed.has(topic);
    for (const topic of Object.keys(ids).filter(concerns)) {
      if (ids[topic] !== (this.ids[topic] ?? ids[topic])) this.positions[topic] = {};
      this.ids[topic] = ids[topic];
    }
    for (const topic of Object.keys(positions).filter(concerns)) {
      const kept = (this.positions[topic] ??= {});
      for (const [p, offset] of Object.entries(positions[topic]))
        kept[p] = isFeed ? Math.min(offset, kept[p] ?? offset) : offset;
    }
  }

  #begin(answer) {
    const error = !answer.subscribed?.length && (answer.rejected?.[0] ?? answer);
    if (error?.retry_ms) this.#advice = error.retry_ms;
    if (error) return this.#leave(error.retry ? 1013 : 1000, `${error.code}: ${error.message}`);
    [this.#topics, this.#toCome] = [answer.categories, answer.replayed];
    this.#since = performance.now();
    if (this.#toCome === 0) this.#snapshotDue = false;
    this.#lose(answer);
    this.onnotice(answer);
  }

  #takeAll({ seq, skipped, replay, messages }) {
    const socket = this.#socket;
    for (const [number, body] of messages.entries()) {
      const marks = { ...(number || !skipped ? {} : { skipped }), ...(replay && { replay }) };
      // As with single frames, what onmessage throws stops no other message.
      try { this.#take({ seq: seq + number, ...marks, type: "message", ...body }); }
      catch (error) { queueMicrotask(() => { throw error; }); }
      if (this.#socket !== socket || !socket.onmessage) return; // it was left or closed
    }
  }

  #take(message) {
    const { seq, skipped = 0, channel, pos, replay } = message;
    if (seq !== this.#seq + 1 + skipped) return this.#leave(4000, `gap before message ${seq}`);
    this.#seq = seq;
    if (replay && this.#toCome && !--this.#toCome) this.#snapshotDue = false;
    const kept = (this.positions[this.#topics[channel.split(".").at(-1)]] ??= {});
    const [partition, offset] = pos.split("-").map(Number); // exact up to 2^53
    if (offset <= kept[partition] && !(replay && this.#snapshot)) return void this.duplicates++;
    kept[partition] = Math.max(offset, kept[partition] ?? -1);
    this.onmessage(message);
  }

  // Behind what is lost it goes on, unless the answer says where.
  #lose({ lost, positions }) {
    for (const topic in lost) {
      const [kept, said] = [(this.positions[topic] ??= {}), positions?.[topic] ?? {}];
      for (const [p, [, last]] of Object.entries(lost[topic]))
        kept[p] = said[p] ?? (positions ? last : Math.max(last, kept[p] ?? -1));
    }
  }
}
