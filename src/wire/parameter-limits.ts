// Bounds of parameter tables and of what is pulled and pushed at once. Apart from the schemas of the configuration (parameter-config.ts), which bring a library that a client must not load.

export const parameterLimits = {
  tablesMax: 256,
  modelsMax: 256,
  /** Tables of one model. */
  modelTablesMax: 64,
  dimMax: 1_024,
  memoryMbMax: 1_048_576,
  shardsMax: 256,
  /** Of one pull or push. */
  keysMax: 8_192,
  /** Of one pull or push, rows x dim: what the serving loop copies in about a millisecond. */
  numbersMax: 1 << 18,
  followMax: 16,
  /** Name of a worker whose pushes are counted once. */
  workerBytesMax: 128,
  /** Sequence numbers of a worker and table that are remembered, back from the largest; and workers, the latest. */
  pushWindow: 1_024,
  pushWorkersMax: 4_096,
} as const;
