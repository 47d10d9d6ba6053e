export { OdinFeed } from "./feed.js";
export { SubscriptionError } from "./subscription-error.js";
