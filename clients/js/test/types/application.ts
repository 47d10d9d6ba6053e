// A strict TypeScript application of the package; compiled, not run.
import { OdinFeed, SubscriptionError, type Message, type Notice, type Subscription } from "odin-ws-client";
import { OdinFeed as Bundled } from "odin-ws-client/bundle";
import { OdinFeed as Source } from "../../src/feed.js";

interface Trade {
  type: string;
  data: { price: string };
}

const filtered: Subscription = {
  channels: ["*.trade"],
  max_rate: 2,
  where: { and: [{ field: "data.amount", gte: 1000 }, { not: { field: "data.note", exists: true } }] },
};
const subscription: Subscription = { channels: ["*.trade"] as const, delivery: "latest" };
const feed = new OdinFeed<Trade>("wss://localhost/ws", subscription, {
  positions: { "odin.trades": { "0": 4 } },
  token: async () => "token",
  backoff: [100, 1000],
});

new OdinFeed("wss://localhost/ws", filtered, { transport: "sse" }).close();

new OdinFeed("wss://localhost/ws", [subscription, filtered]).close();
const more = feed.subscribe({ channels: ["ETH.trade"], snapshot: true }).then(
  ({ subscribed, rejected = [] }) => [...subscribed, ...rejected.map(({ name }) => name)],
  (error: unknown) => (error instanceof SubscriptionError ? error.rejected.map(({ code }) => code) : []),
);
feed.unsubscribe({ channels: ["ETH.trade"] }).then(({ unsubscribed }) => unsubscribed.length);

const prices = new Map<string, string>();
feed.onmessage = ({ channel, data }: Message<Trade>) => prices.set(channel, data.data.price);
feed.onnotice = (notice: Notice): string | number | undefined => {
  switch (notice.type) {
    case "disconnected":
      return notice.retry_ms ?? notice.reason;
    case "resume_ack":
      return notice.recovered ? notice.count : notice.lost?.["odin.trades"]?.["0"]?.[1];
    case "feed":
      return notice.status === "lost" ? notice.reason : notice.since;
    case "replay_incomplete":
      return notice.reason === "expired" ? 1 : 2;
    default:
      return undefined;
  }
};
const stored: string = JSON.stringify({ positions: feed.positions, ids: feed.ids });
feed.close();

// @ts-expect-error -- options belong to subscribe
feed.unsubscribe({ channels: ["ETH.trade"], max_rate: 2 });
// @ts-expect-error -- positions are read-only
feed.positions = {};
// @ts-expect-error -- a misspelt field
new OdinFeed("ws://localhost/ws", { chanels: ["*.trade"] });
// @ts-expect-error -- names are a list
new OdinFeed("ws://localhost/ws", { channels: "*.trade" });
// @ts-expect-error -- backoff is a pair: the first and the longest wait
new OdinFeed("ws://localhost/ws", subscription, { backoff: 100 });
// @ts-expect-error -- data is unknown without a type argument
new OdinFeed("ws://localhost/ws", subscription).onmessage = ({ data }) => data.price;

// The declared class matches the class of the sources, and has all of its members.
const declared: typeof OdinFeed = Source;
const members = {} as Record<keyof OdinFeed, 0> satisfies Record<keyof Source, 0>;
export { Bundled, declared, members, more, stored };
