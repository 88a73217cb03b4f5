// The face of the demo: the world, the yardsticks of its answers, and the audience that plays it.

export { audienceDefaults, type AudienceOptions, demoWorldOptions, newAudience, type RunningAudience, startAudience } from "./audience.ts";
export type { AudienceNews, AudienceReport, AudienceSecond, ClickRates } from "./audience-report.ts";
export type { BreakingNews } from "./breaking.ts";
export { createWorld, type NewsOptions, type PageView, type World, type WorldOptions } from "./world.ts";
export { Yardstick } from "./yardstick.ts";
export { liveThrough } from "./history.ts";
