// Every number of the demo world in one place; docs/design/demo-world.md explains them and says what they were calibrated to.
// Invariant: later measurements quote these numbers. A change is a change of the world: bump `worldVersion`, renew the golden checksum and the document.

/** Part of the golden checksum. */
export const worldVersion = 1;

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;

export const worldParameters = {
  // --- size (defaults of createWorld) ---
  rooms: 3_000,
  viewers: 2_000,
  topics: 48,
  dimensions: 16,

  // --- click model: every term adds to the logit ---
  bias: -4.8,
  /** Times the inner product of two unit vectors. */
  tasteWeight: 5.5,
  /** Standard deviation of a streamer's quality, and of one session around it. */
  streamerQualitySd: 0.35,
  sessionQualitySd: 0.15,
  /** Off when the room speaks no language of the viewer. */
  languageMismatch: 1.5,
  /** Off times ln(1 + position). */
  positionSlope: 0.25,
  /** Each topic's tide: amplitude, and the range of its period. */
  tideAmplitude: 0.3,
  tidePeriodMinMs: 20 * minuteMs,
  tidePeriodMaxMs: 120 * minuteMs,
  /** Each category has an hour of the day (UTC) at which it is liked most. */
  dayAmplitude: 0.3,
  /** On a room that just opened or just changed its topic, decaying. */
  freshBonus: 0.4,
  freshDecayMs: 15 * minuteMs,

  // --- vectors ---
  /** topic = unit(share * category + rest * own direction) */
  topicCategoryShare: 0.7,
  /** room = unit(share * topic + rest * the streamer's own direction) */
  roomTopicShare: 0.9,
  /** taste = unit(sum of weight * topic over the interests + walk) */
  interestWeights: [1, 0.5, 0.25],
  /** Chance that a further interest comes from the first one's category. */
  interestSameCategory: 0.4,
  /** Topic of rank r (0 first) has weight (r + 1)^-exponent among streamers and viewers. */
  topicExponent: 0.3,

  // --- drift of tastes ---
  driftStepMs: 5 * minuteMs,
  /** The walk reverts to zero with this time constant, and has this standard deviation of its length (not of a component). */
  walkReturnMs: 3 * hourMs,
  walkSd: 0.4,
  /** Mean time between two jumps of one viewer; a jump replaces one interest, chosen evenly, by a new topic. */
  jumpMeanMs: 3 * hourMs,

  // --- life of a room ---
  liveMeanMs: 90 * minuteMs,
  pauseMeanMs: 45 * minuteMs,
  topicMeanMs: 30 * minuteMs,
  /** Chance that a streamer who closes never comes back; a new one takes the place. */
  retireChance: 0.05,
  /** Chance that a topic comes from the streamer's home category. */
  homeCategoryChance: 0.8,
  /** The shown number of watchers is renewed this often. */
  watchersEveryMs: 5 * minuteMs,
  watchersLogMean: 3.2,
  watchersPerQuality: 1.6,
  watchersLogNoise: 0.5,

  // --- languages: shares of rooms and of viewers' first language; chance of a second one ---
  languageShares: [0.5, 0.2, 0.2, 0.1],
  secondLanguageChance: 0.25,

  // --- what follows a click ---
  clickDelayMeanMs: 4_000,
  likeBias: -2.2,
  likeTaste: 2.0,
  likeDelayMeanMs: 10_000,
  watchLogMeanS: 3.0,
  watchTaste: 1.5,
  watchLogSd: 0.8,
  watchMaxS: 600,

  // --- arrivals ---
  /** Standard deviation of the logarithm of a viewer's activity. */
  activityLogSd: 1,
  /** Chance that the next page view continues one of the open sessions. */
  sessionContinues: 0.75,
  sessionsOpenMax: 200,
} as const;
