// Drives a session without a network, with a clock set by the test.
import { Session } from "../src/session.js";

export const TRADES = { channels: ["*.trade"] };
export const ACK = { subscribed: ["*.trade"], count: 1, categories: { trade: "odin.trades" } };

export class Driver {
  now = 0;

  constructor(subscription = TRADES, options = {}) {
    this.session = new Session(subscription, { random: () => 1, ...options });
  }

  // Calls a method of the session; returns its actions with parsed commands.
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

  // Receives `item`; returns pos and the session's positions at the delivery of each message.
  places(item) {
    const places = [];
    for (const action of this.session.received(JSON.stringify(item), this.now))
      if (action.do === "message")
        places.push([action.message.pos, structuredClone(this.session.set.positions)]);
    return places;
  }

  // Advances the clock to the deadline; returns the actions.
  wait() {
    this.now = this.session.deadline;
    return this.do("expire");
  }

  // Starts the session, connects and subscribes; returns the command.
  begin(ack = {}) {
    this.do("start");
    return this.join(ack);
  }

  // Opens the WebSocket, and answers the command; returns the command.
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
