// The commands of a client, one after the other: what resumes, then what the application asks for.

import { unsubscribe } from "./commands.js";
import { filterNames, namesOf } from "./names.js";
import { SubscriptionError } from "./subscription-error.js";
import { newGroup, stepText } from "./subscription-set.js";

/** @import { Names, Rejection, Subscription } from "../types/index.d.ts" */
/** @import { OffsetTracker } from "./offset-tracker.js" */
/** @import { Step, SubscriptionSet } from "./subscription-set.js" */

/**
 * What the application asks for, until it is answered.
 * @typedef {{ kind: "subscribe" | "unsubscribe", subscription: Subscription,
 *   resolve: (answer: any) => void, reject: (error: Error) => void }} Request
 */

const NOT_SUBSCRIBED = "NOT_SUBSCRIBED";

/**
 * Each command waits for the answer to the one before: the server's answer to a command above the
 * rate limit does not say which command it was. A request stays until it is answered, so a new
 * connection sends it again.
 */
export class CommandQueue {
  #set;
  /** @type {Request[]} */
  #requests = [];
  /** @type {Step[]} */
  #plan = [];
  /** The id of the last command. */
  #id = 0;

  // In flight: a step, or the end of some names; and whose request it is.
  /** @type {Step | null} */
  #step = null;
  /** @type {{ names: Names, rejected: Rejection[] } | null} */
  #ending = null;
  /** @type {Request[]} */
  #answering = [];

  /** @param {SubscriptionSet} set */
  constructor(set) {
    this.#set = set;
  }

  /** @param {Request} request */
  add(request) {
    this.#requests.push(request);
  }

  get awaitsAnswer() {
    return this.#step !== null || this.#ending !== null;
  }

  get awaitsEnd() {
    return this.#ending !== null;
  }

  /**
   * Whether an error is the answer to the command in flight; above the rate limit it has no id.
   * @param {{ id?: unknown }} error
   */
  isAnswer({ id = this.#id }) {
    return this.awaitsAnswer && id === this.#id;
  }

  // ---- a new connection

  /** What is to be unsubscribed is not resumed. */
  begin() {
    [this.#step, this.#ending, this.#answering, this.#id] = [null, null, [], 0];
    while (this.#requests[0]?.kind === "unsubscribe") this.#endAtOnce(this.#requests[0]);
    this.#plan = this.#set.plan();
  }

  /** The same for a stream: one request has everything that is asked for. */
  beginStream() {
    [this.#step, this.#ending, this.#answering, this.#id] = [null, null, [], 0];
    this.#plan = [];
    for (const request of [...this.#requests]) {
      if (request.kind === "unsubscribe") this.#endAtOnce(request);
      else this.#addToStream(request);
    }
    const step = this.#set.planStream();
    if (step) this.#plan.push(step);
  }

  /** @param {Request} request */
  #endAtOnce(request) {
    const ending = this.#known(request);
    if (ending === null) return;
    this.#set.end(ending.names);
    this.#set.forgetOthers();
    const { rejected } = ending;
    const unsubscribed = namesOf(ending.names);
    const count = this.#set.subscriptions.flatMap(namesOf).length;
    this.#remove(request).resolve({ type: "unsubscription_ack", unsubscribed, rejected, count });
  }

  /** @param {Request} request */
  #addToStream(request) {
    const { subscription } = request;
    const why = !this.#set.hasSameOptions(subscription)
      ? "over Server-Sent Events all subscriptions have the same max_rate, where and tokens"
      : subscription.since_ms !== undefined && this.#set.subscriptions.length
        ? "over Server-Sent Events only the first subscription can begin at a time"
        : namesOf(subscription).some((name) => name.includes(","))
          ? "over Server-Sent Events a name cannot have a comma"
          : null;
    if (why !== null) {
      this.#remove(request).reject(new SubscriptionError("NOT_AVAILABLE", why));
      return;
    }
    this.#set.add(newGroup(subscription, false));
    this.#answering.push(request);
  }

  // ---- commands

  /**
   * The next command, if none is in flight. The server carries out what begins something after a
   * replay; what ends something, at once.
   * @param {boolean} isReplaying
   */
  next(isReplaying) {
    if (this.awaitsAnswer) return null;
    if (this.#plan.length) {
      if (isReplaying) return null;
      this.#step = this.#plan.shift() ?? null;
    } else if (!this.#takeRequest(isReplaying)) return null;
    this.#id++;
    return this.text();
  }

  /** The command in flight. */
  text() {
    if (this.#step !== null) return stepText(this.#step, this.#id);
    return unsubscribe(this.#id, this.#ending?.names ?? {});
  }

  /** @param {boolean} isReplaying */
  #takeRequest(isReplaying) {
    /** @type {Set<string>} */
    const held = new Set();
    for (const request of [...this.#requests]) {
      const { kind, subscription } = request;
      if (kind === "subscribe") {
        if (!isReplaying) {
          const group = newGroup(subscription, false);
          const withSnapshot = group.snapshotDue;
          this.#step = { groups: [group], subscription, tracker: null, withSnapshot };
          this.#answering = [request];
          return true;
        }
        for (const name of namesOf(subscription)) held.add(name);
      } else if (!namesOf(subscription).some((name) => held.has(name))) {
        this.#ending = this.#known(request);
        if (this.#ending === null) continue;
        this.#answering = [request];
        return true;
      }
    }
    return false;
  }

  /**
   * What of it is subscribed; without anything the request is rejected.
   * @param {Request} request
   * @returns {{ names: Names, rejected: Rejection[] } | null}
   */
  #known(request) {
    const asked = request.subscription;
    const unknown = namesOf(this.#set.unknown(asked) ?? {});
    const message = "not subscribed under this name";
    const rejected = unknown.map((name) => ({ name, code: NOT_SUBSCRIBED, message }));
    const names = filterNames(asked, (name) => !unknown.includes(name));
    if (names !== null) return { names, rejected };
    this.#remove(request).reject(new SubscriptionError(NOT_SUBSCRIBED, message, rejected));
    return null;
  }

  // ---- answers

  /**
   * The step in flight has taken effect. Returns it, and the positions that its replay moves if it
   * runs beside live messages.
   * @param {any} ack
   * @param {boolean} isStream
   * @returns {{ step: Step, behind: OffsetTracker | null }}
   */
  accepted(ack, isStream) {
    const step = /** @type {Step} */ (this.#step);
    const requests = this.#answering;
    [this.#step, this.#answering] = [null, []];
    const set = this.#set;
    /** @type {OffsetTracker | null} */
    let behind = step.tracker === set.tracker ? null : step.tracker;
    if (step.tracker === null && ack.replayed !== undefined && set.hasOthers(step.groups))
      behind = set.tracker.fresh();
    const topics = Object.values(ack.categories ?? {});
    for (const group of step.groups) Object.assign(group, { begun: true, behind, topics });
    /** @type {string[]} */
    const accepted = ack.subscribed;
    for (const request of requests) {
      const rejected = namesOf(request.subscription).filter((name) => !accepted.includes(name));
      const group = step.groups[0];
      if (!isStream && group) {
        group.subscription = filterNames(request.subscription, (name) => accepted.includes(name)) ?? group.subscription;
        set.add(group);
      } else if (rejected.length) {
        const names = filterNames(request.subscription, (name) => rejected.includes(name));
        if (names !== null) set.end(names);
      }
      this.#answer(request, ack, rejected);
    }
    return { step, behind };
  }

  /**
   * @param {Request} request
   * @param {any} ack
   * @param {string[]} rejected
   */
  #answer(request, ack, rejected) {
    const own = namesOf(request.subscription);
    /** @type {Rejection[]} */
    const why = (ack.rejected ?? []).filter((/** @type {Rejection} */ { name }) => own.includes(name));
    const subscribed = own.filter((name) => !rejected.includes(name));
    const { resolve, reject } = this.#remove(request);
    if (subscribed.length) resolve({ ...ack, type: "subscription_ack", subscribed, rejected: why });
    else reject(new SubscriptionError(why[0]?.code ?? "", "the server rejected every name", why));
  }

  /**
   * The names in flight have ended.
   * @param {any} ack
   */
  unsubscribed(ack) {
    const ending = this.#ending;
    const [request] = this.#answering;
    [this.#ending, this.#answering] = [null, []];
    if (ending === null || request === undefined) return;
    // Also what the server has ended before, because a token did not grant it.
    this.#set.end(ending.names);
    this.#set.forgetOthers();
    const rejected = [...(ack.rejected ?? []), ...ending.rejected];
    const { resolve, reject } = this.#remove(request);
    if (ack.unsubscribed.length) resolve({ ...ack, rejected });
    else reject(new SubscriptionError(NOT_SUBSCRIBED, "the server rejected every name", rejected));
  }

  /**
   * What is in flight was rejected: whoever asked for it is told. Returns false if nothing else is
   * followed, and the feed has to end.
   * @param {SubscriptionError} error
   */
  rejected(error) {
    const [step, requests] = [this.#step, this.#answering];
    [this.#step, this.#ending, this.#answering] = [null, null, []];
    for (const request of requests) this.#remove(request).reject(error);
    if (requests.length || step === null) return true;
    this.#set.leave(step.tracker);
    return step.groups.length < this.#set.subscriptions.length;
  }

  /**
   * The feed has ended.
   * @param {SubscriptionError} error
   */
  close(error) {
    for (const { reject } of this.#requests.splice(0)) reject(error);
  }

  /** @param {Request} request */
  #remove(request) {
    this.#requests = this.#requests.filter((one) => one !== request);
    return request;
  }
}
