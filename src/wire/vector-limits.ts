// Bounds of what the configuration says of vector collections, and of the bytes of their commands. Apart from the schemas (vector-config.ts), which bring a library that a client must
// not load. Bounds of one call: vectorLimits of src/vectors/vector-service.ts.

export const vectorConfigLimits = {
  collectionsMax: 1_000,
  dimsMax: 4_096,
  nameCharactersMax: 256,
  memoryMbMax: 1_048_576,
  versionsMax: 16,
  tasksMax: 1_000,
} as const;

/** Collections that show what another part of the server holds; they are read only (docs/vectors.md). */
export const shownCollections = {
  /** Factors of the learned model's items, by cosine. */
  items: "model:items",
  /** The same with the item's own part of the logit behind, by inner product: the query is a user's vector. */
  scores: "model:scores",
  /** Vectors of users, worked out when they are asked for; not searched. */
  users: "model:users",
} as const;
/** No configured collection and none that a command makes begins so. */
export const reservedCollectionPrefix = "model:";
