// The command sequence of a connection: first the resumes, then the requests of the application.

import { unsubscribe } from "./commands.js";
import { filterNames, namesOf } from "./names.js";
import { SubscriptionError } from "./subscription-error.js";
import { newGroup, stepText } from "./subscription-set.js";

/** @import { Names, Rejection, Subscription } from "../types/index.d.ts" */
/** @import { OffsetTracker } from "./offset-tracker.js" */
/** @import { Step, SubscriptionSet } from "./subscription-set.js" */

/**
 * A subscribe or unsubscribe of the application; `resolve` or `reject` is called with the answer.
 * @typedef {{ kind: "subscribe" | "unsubscribe", subscription: Subscription,
 *   resolve: (answer: any) => void, reject: (error: Error) => void }} Request
 */

const NOT_SUBSCRIBED = "NOT_SUBSCRIBED";

/**
 * The queue of a feed's commands. Each command waits for the answer to the previous command,
 * because the server's error for a command above the rate limit does not name the command. A
 * request stays queued until its answer, so a new connection sends an unanswered request again.
 */
export class CommandQueue {
  #set;
  /** @type {Request[]} */
  #requests = [];
  /** @type {Step[]} */
  #plan = [];
  /** The id of the last command. */
  #id = 0;

  // The command in flight: a step, or names to unsubscribe; and its requests.
  /** @type {Step | null} */
  #step = null;
  /** @type {{ names: Names, rejected: Rejection[] } | null} */
  #ending = null;
  /** @type {Request[]} */
  #inFlight = [];

  /** @param {SubscriptionSet} set */
  constructor(set) {
    this.#set = set;
  }

  /**
   * Queues a request.
   * @param {Request} request
   */
  add(request) {
    this.#requests.push(request);
  }

  /** True if a command is in flight. */
  get awaitsResponse() {
    return this.#step !== null || this.#ending !== null;
  }

  /** True if an unsubscribe is in flight. */
  get awaitsEnd() {
    return this.#ending !== null;
  }

  /**
   * Returns whether an error answers the command in flight; a rate limit error has no id.
   * @param {{ id?: unknown }} error
   */
  isResponse({ id = this.#id }) {
    return this.awaitsResponse && id === this.#id;
  }

  // ---- a new connection

  /** Plans a new connection; answers pending unsubscribes, whose names are not resumed. */
  begin() {
    [this.#step, this.#ending, this.#inFlight, this.#id] = [null, null, [], 0];
    while (this.#requests[0]?.kind === "unsubscribe") this.#endAtOnce(this.#requests[0]);
    this.#plan = this.#set.plan();
  }

  /** Plans a new stream: one HTTP request for all subscriptions, with those still requested. */
  beginStream() {
    [this.#step, this.#ending, this.#inFlight, this.#id] = [null, null, [], 0];
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
    const reason = !this.#set.hasSameOptions(subscription)
      ? "over Server-Sent Events all subscriptions have the same max_rate, where and tokens"
      : subscription.since_ms !== undefined && this.#set.subscriptions.length
        ? "over Server-Sent Events only the first subscription can begin at a time"
        : namesOf(subscription).some((name) => name.includes(","))
          ? "over Server-Sent Events a name cannot have a comma"
          : null;
    if (reason !== null) {
      this.#remove(request).reject(new SubscriptionError("NOT_AVAILABLE", reason));
      return;
    }
    this.#set.add(newGroup(subscription, false));
    this.#inFlight.push(request);
  }

  // ---- commands

  /**
   * Returns the next command; null if a command is in flight or none is pending. During a replay
   * the server defers subscribe and resume, so only an unsubscribe is returned.
   * @param {boolean} isReplaying
   */
  next(isReplaying) {
    if (this.awaitsResponse) return null;
    if (this.#plan.length) {
      if (isReplaying) return null;
      this.#step = this.#plan.shift() ?? null;
    } else if (!this.#takeRequest(isReplaying)) return null;
    this.#id++;
    return this.text();
  }

  /** Returns the text of the command in flight. */
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
          this.#inFlight = [request];
          return true;
        }
        for (const name of namesOf(subscription)) held.add(name);
      } else if (!namesOf(subscription).some((name) => held.has(name))) {
        this.#ending = this.#known(request);
        if (this.#ending === null) continue;
        this.#inFlight = [request];
        return true;
      }
    }
    return false;
  }

  /**
   * Returns the subscribed names of a request; rejects a request without any, and returns null.
   * @param {Request} request
   * @returns {{ names: Names, rejected: Rejection[] } | null}
   */
  #known(request) {
    const given = request.subscription;
    const unknown = namesOf(this.#set.unknown(given) ?? {});
    const message = "not subscribed under this name";
    const rejected = unknown.map((name) => ({ name, code: NOT_SUBSCRIBED, message }));
    const names = filterNames(given, (name) => !unknown.includes(name));
    if (names !== null) return { names, rejected };
    this.#remove(request).reject(new SubscriptionError(NOT_SUBSCRIBED, message, rejected));
    return null;
  }

  // ---- answers

  /**
   * Completes the step in flight, which has taken effect. Returns the step, and the tracker that
   * its replay advances if the replay runs beside live messages.
   * @param {any} ack
   * @param {boolean} isStream
   * @returns {{ step: Step, behind: OffsetTracker | null }}
   */
  accepted(ack, isStream) {
    const step = /** @type {Step} */ (this.#step);
    const requests = this.#inFlight;
    [this.#step, this.#inFlight] = [null, []];
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
      this.#settle(request, ack, rejected);
    }
    return { step, behind };
  }

  /**
   * @param {Request} request
   * @param {any} ack
   * @param {string[]} rejected
   */
  #settle(request, ack, rejected) {
    const own = namesOf(request.subscription);
    /** @type {Rejection[]} */
    const rejections = (ack.rejected ?? []).filter((/** @type {Rejection} */ { name }) => own.includes(name));
    const subscribed = own.filter((name) => !rejected.includes(name));
    const { resolve, reject } = this.#remove(request);
    if (subscribed.length) resolve({ ...ack, type: "subscription_ack", subscribed, rejected: rejections });
    else reject(new SubscriptionError(rejections[0]?.code ?? "", "the server rejected every name", rejections));
  }

  /**
   * Completes the unsubscribe in flight.
   * @param {any} ack
   */
  unsubscribed(ack) {
    const ending = this.#ending;
    const [request] = this.#inFlight;
    [this.#ending, this.#inFlight] = [null, []];
    if (ending === null || request === undefined) return;
    // Includes names that the server has ended before, because a new token did not grant them.
    this.#set.end(ending.names);
    this.#set.forgetOthers();
    const rejected = [...(ack.rejected ?? []), ...ending.rejected];
    const { resolve, reject } = this.#remove(request);
    if (ack.unsubscribed.length) resolve({ ...ack, rejected });
    else reject(new SubscriptionError(NOT_SUBSCRIBED, "the server rejected every name", rejected));
  }

  /**
   * Rejects the requests of the command in flight. Returns false if a resume of all subscriptions
   * was rejected, so the feed has to end.
   * @param {SubscriptionError} error
   */
  rejected(error) {
    const [step, requests] = [this.#step, this.#inFlight];
    [this.#step, this.#ending, this.#inFlight] = [null, null, []];
    for (const request of requests) this.#remove(request).reject(error);
    if (requests.length || step === null) return true;
    this.#set.leave(step.tracker);
    return step.groups.length < this.#set.subscriptions.length;
  }

  /**
   * Rejects all requests, because the feed has ended.
   * @param {SubscriptionError} error
   */
  close(error) {
    for (const { reject } of this.#requests.splice(0)) reject(error);
  }

  /** @param {Request} request */
  #remove(request) {
    this.#requests = this.#requests.filter((queued) => queued !== request);
    return request;
  }
}
