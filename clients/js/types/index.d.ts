// The public types. test/types checks them against the sources.

/** The offset of the last record, by topic and partition; -1 is before the first record. */
export type Positions = Record<string, Record<string, number>>;

/** The id of each topic; a topic that was deleted and created again has a new id. */
export type Ids = Record<string, string>;

/** The first and the last lost offset, by topic and partition. */
export type Lost = Record<string, Record<string, [first: number, last: number]>>;

/** The names of a command: at least one channel, topic or bundle. */
export interface Names {
  readonly channels?: readonly string[];
  readonly topics?: readonly string[];
  readonly bundles?: readonly string[];
  /** Limits topics and bundles to these tokens. */
  readonly tokens?: readonly string[];
}

/** Names and options: the fields of `subscribe`. */
export interface Subscription extends Names {
  /** With "latest" a slow client gets only the newest message of each channel. Default: "all". */
  readonly delivery?: "all" | "latest";
  /** The most messages per second of each channel, always the newest: 0.1 to 20. */
  readonly max_rate?: number;
  /** The server sends only records whose value meets this filter. */
  readonly where?: Filter;
  /** A feed without positions begins with the last message of each channel. */
  readonly snapshot?: boolean;
  /** A feed without positions begins with the records of this time (epoch ms) or later. */
  readonly since_ms?: number;
  /** With "batch" the messages of one write come in one frame. Default: "batch". */
  readonly frames?: "single" | "batch";
}

/** A constant of a filter. Numbers with more digits than a double are written as strings. */
export type Constant = number | string | boolean | null;

/** A condition on the JSON fields of a record's value. */
export type Filter =
  | { readonly and: readonly Filter[] }
  | { readonly or: readonly Filter[] }
  | { readonly not: Filter }
  | {
      /** The path of the field in the value, joined by dots. */
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
  /** The record was published before the subscription was live. */
  replay?: true;
  /** The messages replaced by newer ones between the previous message and this message. */
  skipped?: number;
  /** The server holds back an older record of the partition for `max_rate`. */
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
  | "unavailable"
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

/** A resumed subscription is live. If `recovered` is false, records are lost: see `lost`. */
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

/** The server has lost or regained Kafka, for all topics or only for `topics`. */
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

/** All records up to these positions have come. */
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

/** Names were unsubscribed; `forced`: by the server, because a new token does not grant them. */
export interface UnsubscriptionAck {
  type: "unsubscription_ack";
  unsubscribed: string[];
  rejected?: Rejection[];
  count: number;
  forced?: true;
}

/** The server is about to close the connection, and advises when to reconnect. */
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

/** A connection, or an attempt to connect, has ended. If `retry_ms` is null, the feed has ended. */
export interface Disconnected {
  type: "disconnected";
  code: number;
  reason: string;
  retry_ms: number | null;
}

/**
 * An argument of `onnotice`. Newer servers may send other types: a `switch` over `type` needs a
 * default that ignores them.
 */
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
  /** The positions to resume from: the `positions` of an earlier feed. */
  readonly positions?: Positions;
  /** The `ids` of the same feed. */
  readonly ids?: Ids;
  /** A JWT, or a function that returns one for each connection and before a token expires. */
  readonly token?: string | (() => string | Promise<string>);
  /** Upper bounds of the first and of every wait before a reconnect, ms. Default: [200, 15000]. */
  readonly backoff?: readonly [first: number, longest: number];
  /** The time without a frame before the client sends a heartbeat, ms. Default: 10000. */
  readonly silence?: number;
  /**
   * Server-Sent Events after three WebSockets in a row without a frame: `true` for `/sse` beside
   * `/ws`, the URL of the streams, or `false` for none. Default: true.
   */
  readonly fallback?: boolean | string | URL;
  /** "sse": only Server-Sent Events, no WebSocket. Default: a WebSocket, and then `fallback`. */
  readonly transport?: "sse";
  /** The `fetch` for Server-Sent Events. Default: the global `fetch`. */
  readonly fetch?: typeof globalThis.fetch;
  /** The WebSocket class. Default: the global `WebSocket`. */
  readonly WebSocket?: new (url: string | URL, protocols?: string[]) => WebSocket;
}

/** A client of an odin-ws server that reconnects, and resumes behind the last record. */
export class OdinFeed<Data = unknown> {
  constructor(
    url: string | URL,
    subscriptions: Subscription | readonly Subscription[],
    options?: FeedOptions,
  );
  /** Called with each message. */
  onmessage: (message: Message<Data>) => void;
  /** Called with each ack, server message and disconnect; `type` tells which. */
  onnotice: (notice: Notice) => void;
  /** The offset of the last record that `onmessage` got, by topic and partition. */
  get positions(): Positions;
  /** The ids of the topics of `positions`. */
  get ids(): Ids;
  /** The current subscriptions, for a later feed with `positions` and `ids`. */
  get subscriptions(): readonly Subscription[];
  /**
   * Subscribes to more; resolves with the server's answer, whose `rejected` has the rejected names.
   * The options of a name that is subscribed already are replaced. Rejects with a SubscriptionError
   * if the server rejects every name.
   */
  subscribe(subscription: Subscription): Promise<SubscriptionAck>;
  /**
   * Unsubscribes from names as subscribed; resolves with the server's answer. Rejects with a
   * SubscriptionError if no name is subscribed.
   */
  unsubscribe(names: Names): Promise<UnsubscriptionAck>;
  /** The transport of the current connection, or of the last connection. */
  get transport(): "websocket" | "sse";
  /** The number of messages dropped because the client had received them before. */
  get duplicates(): number;
  /** Ends the feed. No callback is called after that. */
  close(): void;
}

/** The rejection of a subscribe or unsubscribe. */
export class SubscriptionError extends Error {
  constructor(code: string, message: string, rejected?: Rejection[]);
  /** An error code of docs/protocol.md, or "CLOSED" if the feed has ended. */
  readonly code: string;
  /** The rejected names. */
  readonly rejected: Rejection[];
}
