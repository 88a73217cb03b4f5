// Bounds of what the configuration says of vector collections, and of the bytes of their commands. Apart from the schemas (vector-config.ts), which bring a library that a client must
// not load. Bounds of one call: vectorLimits of src/vectors/vector-service.ts, whose numbers a client reads here.

export const vectorConfigLimits = {
  collectionsMax: 1_000,
  dimsMax: 4_096,
  nameCharactersMax: 256,
  memoryMbMax: 1_048_576,
  versionsMax: 16,
  tasksMax: 1_000,
} as const;

/** Of one call of a client: what it cuts its batches by. */
export const vectorCallLimits = {
  /** Queries of a search, and answers of a batch together. */
  queriesMax: 1_024,
  answersMax: 1_000_000,
  countMax: 10_000,
  /** Rows of a write, and its numbers together: what the serving loop copies in about a millisecond. */
  rowsMax: 10_000,
  numbersMax: 1 << 20,
} as const;

/** Collections that show what another part of the server holds; they are read only (docs/vectors.md). */
export const liveItemsCollection = "model:items";
/** No configured collection and none that a command makes begins so. */
export const reservedCollectionPrefix = "model:";
