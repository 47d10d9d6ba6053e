// A session without a network: what it does, and at which time.
import { Session } from "../src/session.js";

export const TRADES = { channels: ["*.trade"] };
export const ACK = { subscribed: ["*.trade"], count: 1, categories: { trade: "odin.trades" } };

export class Driver {
  now = 0;

  constructor(subscription = TRADES, options = {}) {
    this.session = new Session(subscription, { random: () => 1, ...options });
  }

  // What the session does when this happens to it; commands are parsed.
  do(event, ...given) {
    return this.take(this.session[event](...given, this.now) ?? []);
  }

  take(actions) {
    return [...actions].map((action) =>
      action.do === "send" ? { do: "send", command: JSON.parse(action.text) } : action,
    );
  }

  receive(item) {
    return this.do("received", JSON.stringify(item));
  }

  // The positions of each message at the moment it is handed on.
  places(item) {
    const places = [];
    for (const action of this.session.received(JSON.stringify(item), this.now))
      if (action.do === "message")
        places.push([action.message.pos, structuredClone(this.session.set.positions)]);
    return places;
  }

  // Go on to the deadline.
  wait() {
    this.now = this.session.deadline;
    return this.do("expire");
  }

  // Connect and subscribe; returns the command.
  begin(ack = {}) {
    this.do("start");
    return this.join(ack);
  }

  // The WebSocket opens, and the command is answered; returns the command.
  join(ack = {}) {
    const [{ command }] = this.do("opened");
    const type = command.type === "resume" ? "resume_ack" : "subscription_ack";
    this.receive({ type, ...ACK, ...ack });
    return command;
  }

  static message(seq, pos, more = {}) {
    return { type: "message", seq, ts: seq, channel: "BTC.trade", pos, data: {}, ...more };
  }
}
