// What applications see. tests/types holds it against the sources.

/** The offset of the last record, by topic and partition; -1 stands before the first one. */
export type Positions = Record<string, Record<string, number>>;

/** The id of each topic; a topic that was deleted and created again has another one. */
export type Ids = Record<string, string>;

/** The first and the last offset that cannot be had, by topic and partition. */
export type Lost = Record<string, Record<string, [first: number, last: number]>>;

/** At least one channel, topic or bundle. */
export interface Names {
  readonly channels?: readonly string[];
  readonly topics?: readonly string[];
  readonly bundles?: readonly string[];
  /** Narrows topics and bundles to these tokens. */
  readonly tokens?: readonly string[];
}

/** What to follow: the fields of `subscribe`. */
export interface Subscription extends Names {
  /** "latest": while the client is behind it gets only the newest message of each channel. */
  readonly delivery?: "all" | "latest";
  /** At most so many messages per second of each channel, always the newest: 0.1 to 20. */
  readonly max_rate?: number;
  /** Only records whose value meets it. */
  readonly where?: Filter;
  /** A feed without positions begins with the last message of each channel. */
  readonly snapshot?: boolean;
  /** A feed without positions begins with the records of this time (epoch ms) or later. */
  readonly since_ms?: number;
  /** Whether messages of one write come in one frame. Default: "batch". */
  readonly frames?: "single" | "batch";
}

/** A number with more digits than a double has is written as a string. */
export type Constant = number | string | boolean | null;

/** A condition on the JSON fields of a record's value. */
export type Filter =
  | { readonly and: readonly Filter[] }
  | { readonly or: readonly Filter[] }
  | { readonly not: Filter }
  | {
      /** The names on the way to the field, joined by dots. */
      readonly field: string;
      readonly eq?: Constant;
      readonly ne?: Constant;
      readonly lt?: number | string;
      readonly lte?: number | string;
      readonly gt?: number | string;
      readonly gte?: number | string;
      readonly in?: readonly Constant[];
      readonly prefix?: string;
      readonly exists?: boolean;
    };

/** A Kafka record. */
export interface Message<Data = unknown> {
  type: "message";
  /** Counts the messages of one connection from 1. */
  seq: number;
  /** The record's Kafka timestamp, epoch ms. */
  ts: number;
  /** `{token}.{category}`. */
  channel: string;
  /** `{partition}-{offset}`. */
  pos: string;
  /** The record's value. */
  data: Data;
  /** The record was published before the client asked. */
  replay?: true;
  /** How many numbers before this one the server left out. */
  skipped?: number;
  /** An older record of the partition is held back by `max_rate`. */
  ahead?: true;
  /** The record headers that the server passes on. */
  headers?: Record<string, string | { base64: string } | null>;
}

export interface Rejection {
  name: string;
  code: string;
  message: string;
}

export type LossReason =
  | "recreated"
  | "unknown_position"
  | "truncated"
  | "expired"
  | "no_position"
  | "too_many"
  | (string & {});

interface Ack {
  subscribed: string[];
  rejected?: Rejection[];
  count: number;
  positions?: Positions;
  categories?: Record<string, string>;
  partitions?: Record<string, number[]>;
  ids?: Ids;
  replayed?: number | null;
  lost?: Lost;
  reason?: LossReason;
}

/** A new subscription is live. */
export interface SubscriptionAck extends Ack {
  type: "subscription_ack";
}

/** A resumed subscription is live; unless it is `recovered`, `lost` is missing. */
export interface ResumeAck extends Ack {
  type: "resume_ack";
  recovered: boolean;
}

export interface ReplayComplete {
  type: "replay_complete";
  count: number;
  positions?: Positions;
  ids?: Ids;
}

export interface ReplayIncomplete {
  type: "replay_incomplete";
  count: number;
  lost: Lost;
  reason: LossReason;
}

/** The server is without Kafka, or has it again; `topics`: only these. */
export interface FeedStatus {
  type: "feed";
  status: "stalled" | "live";
  since: number;
  topics?: string[];
}

/** Records are lost, a topic was created again, or a partition truncated. */
export interface FeedLost {
  type: "feed";
  status: "lost";
  lost: Lost;
  reason: LossReason;
  positions?: Positions;
  ids?: Ids;
}

/** Everything up to there has come. */
export interface PositionsNotice {
  type: "positions";
  positions: Positions;
  ids?: Ids;
}

export interface AuthExpiring {
  type: "auth";
  status: "expiring";
  expires_in_ms: number;
}

export interface AuthAck {
  type: "auth_ack";
  data: { exp: number };
}

export interface AuthError {
  type: "auth_error";
  data: { code: string; message: string; retry_ms?: number };
}

/** These names were unsubscribed; `forced`: a new token does not grant them. */
export interface UnsubscriptionAck {
  type: "unsubscription_ack";
  unsubscribed: string[];
  rejected?: Rejection[];
  count: number;
  forced?: true;
}

/** The server is about to close the connection, and says when to come back. */
export interface ReconnectAdvice {
  type: "reconnect";
  data: { after_ms: number; reason: string };
}

export interface ServerError {
  type: "error";
  code: string;
  message: string;
  retry: boolean;
  retry_ms?: number;
}

/** A connection has ended, or did not come about. Without `retry_ms` the feed has ended. */
export interface Disconnected {
  type: "disconnected";
  code: number;
  reason: string;
  retry_ms: number | null;
}

/** Newer servers may send others: a `switch` over `type` needs a default that ignores them. */
export type Notice =
  | SubscriptionAck
  | ResumeAck
  | ReplayComplete
  | ReplayIncomplete
  | FeedStatus
  | FeedLost
  | PositionsNotice
  | AuthExpiring
  | AuthAck
  | AuthError
  | UnsubscriptionAck
  | ReconnectAdvice
  | ServerError
  | Disconnected;

export interface FeedOptions {
  /** Where to go on: the `positions` of an earlier feed. */
  readonly positions?: Positions;
  /** The `ids` of that feed. */
  readonly ids?: Ids;
  /** A token, or a function that is called for each connection and before a token expires. */
  readonly token?: string | (() => string | Promise<string>);
  /** The first and the longest wait before a new connection, ms. Default: [200, 15000]. */
  readonly backoff?: readonly [first: number, longest: number];
  /** After so long without a frame the server is asked for one, ms. Default: 10000. */
  readonly silence?: number;
  /**
   * Server-Sent Events after three WebSockets in a row that brought nothing: `true` for `/sse`
   * beside `/ws`, or where they are, or `false` for none. Default: true.
   */
  readonly fallback?: boolean | string | URL;
  /** "sse": only Server-Sent Events, no WebSocket. Default: a WebSocket, and then `fallback`. */
  readonly transport?: "sse";
  /** What to fetch them with. Default: the global one. */
  readonly fetch?: typeof globalThis.fetch;
  /** What to connect with, where there is no global one. */
  readonly WebSocket?: new (url: string | URL, protocols?: string[]) => WebSocket;
}

/** Follows an odin-ws server, and resumes after every break where it was. */
export class OdinFeed<Data = unknown> {
  constructor(
    url: string | URL,
    subscriptions: Subscription | readonly Subscription[],
    options?: FeedOptions,
  );
  /** Called with each message. */
  onmessage: (message: Message<Data>) => void;
  /** Called with everything else that happens, by its `type`. */
  onnotice: (notice: Notice) => void;
  /** The offset of the last record that `onmessage` got, by topic and partition. */
  get positions(): Positions;
  /** The ids of the topics of `positions`. */
  get ids(): Ids;
  /** What is followed at the moment: for a later feed, with `positions` and `ids`. */
  get subscriptions(): readonly Subscription[];
  /**
   * Follow more. If a name is followed already, its options are replaced. A SubscriptionError if
   * the server rejects every name; names that it rejects among others are in `rejected`.
   */
  subscribe(subscription: Subscription): Promise<SubscriptionAck>;
  /** Follow less, by the names that were subscribed. A SubscriptionError if none of them is. */
  unsubscribe(names: Names): Promise<UnsubscriptionAck>;
  /** What carries the current connection, or carried the last one. */
  get transport(): "websocket" | "sse";
  /** How many messages were dropped because they had come before. */
  get duplicates(): number;
  /** End it. Nothing is called after that. */
  close(): void;
}

/** Why a subscribe or unsubscribe had no effect. */
export class SubscriptionError extends Error {
  constructor(code: string, message: string, rejected?: Rejection[]);
  /** As in docs/protocol.md, or "CLOSED" if the feed has ended. */
  readonly code: string;
  readonly rejected: Rejection[];
}
