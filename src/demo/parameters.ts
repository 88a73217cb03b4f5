// Every number of the demo world in one place; docs/design/demo-world.md explains them and says what they were calibrated to.
// Invariant: later measurements quote these numbers. A change is a change of the world: bump `worldVersion`, renew the golden checksum and the document.

/** Part of the golden checksum. */
export const worldVersion = 2;

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

  // --- life of a room: within the hours of its streamer it is open, pauses, opens again ---
  liveMeanMs: 90 * minuteMs,
  pauseMeanMs: 15 * minuteMs,
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

  // --- days: where on the globe people live, and their hours ---
  /** Hours ahead of UTC in which each language is spoken, as [from, to) ranges. Together they cover 24 hours once and in proportion to `languageShares`:
   * somewhere it is evening at any moment, so about as many rooms are open at every hour, of other streamers. */
  languageZones: [
    [
      [-12, -6],
      [1.2, 7.2],
    ],
    [[-6, -1.2]],
    [[7.2, 12]],
    [[-1.2, 1.2]],
  ],
  /** Streamers who are open round the clock, every day, Monday to Friday, on weekends. The last two are equal, so that no day has fewer rooms. */
  planShares: [0.1, 0.56, 0.17, 0.17],
  /** The middle of a streamer's hours, local time, and its standard deviation between streamers. */
  planMiddleHour: 19,
  planMiddleSdHours: 3,
  /** How long the hours are, evenly between these. */
  planHoursMin: 5,
  planHoursMax: 13,
  /** From day to day: the begin varies evenly by so much to both sides, the length by this share of it. */
  planBeginSpreadMs: 25 * minuteMs,
  planLengthSpread: 0.2,

  // --- breaking news ---
  newsFirstMinMs: 4 * minuteMs,
  newsFirstMaxMs: 7 * minuteMs,
  newsGapMinMs: 75 * minuteMs,
  newsGapMaxMs: 165 * minuteMs,
  /** Interest rises linearly, then decays; after `newsEndsMs` it is gone. */
  newsRiseMs: 1 * minuteMs,
  newsDecayMs: 10 * minuteMs,
  newsEndsMs: 45 * minuteMs,
  /** Share of the viewers whom it interests, and by how many logits: evenly between these, times the heat (0..1) of the moment. */
  newsReach: 0.6,
  newsLogitMin: 2,
  newsLogitMax: 4.5,
  /** Share of the open rooms that switch to it, and the mean time until they do. */
  newsRoomShare: 0.12,
  newsJoinMeanMs: 75_000,
  newsJoinMaxMs: 6 * minuteMs,
  /** Logarithm of the factor by which a room of the topic has more watchers at full heat. */
  newsWatchersLog: 1.2,

  // --- what follows a click ---
  clickDelayMeanMs: 4_000,
  likeBias: -2.2,
  likeTaste: 2.0,
  likeDelayMeanMs: 10_000,
  watchLogMeanS: 3.0,
  watchTaste: 1.5,
  watchLogSd: 0.8,
  watchMaxS: 600,

  // --- visits ---
  /** Standard deviation of the logarithm of a viewer's activity (how often sessions begin). */
  activityLogSd: 1,
  /** Hour of a viewer's day at which sessions are most frequent, local time, its spread between viewers, and how much more frequent:
   * weight exp(contrast * cos(angle)); 1.2 is eleven times the rate of the quietest hour. */
  visitPeakHour: 20,
  visitPeakSdHours: 2.5,
  visitContrast: 1.2,
  /** Mean page views of a session over all viewers; the spread of the logarithm between viewers; at most. */
  visitViews: 4,
  visitViewsLogSd: 0.3,
  visitViewsMax: 30,
  /** Between two page views: at least, plus an exponential time. */
  visitGapMinMs: 2_000,
  visitGapMeanMs: 8_000,

  // --- late looks and late messages ---
  /** Chance that a list is looked at only a while after it was served, the mean of that time and its maximum. */
  lateLookChance: 0.03,
  lateLookMeanMs: 60_000,
  lateLookMaxMs: 5 * minuteMs,
  /** Chance that an event reaches the server late (a phone without a net), the mean and the maximum. */
  lateEventChance: 0.02,
  lateEventMeanMs: 20_000,
  lateEventMaxMs: 2 * minuteMs,
} as const;
