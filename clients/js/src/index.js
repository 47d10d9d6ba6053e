export { OdinFeed } from "./feed.js";
