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
  keysMax: 16_384,
  /** Of one pull or push, rows x dim: what the serving loop copies in about a millisecond. */
  numbersMax: 1 << 20,
  followMax: 16,
  workerBytesMax: 128,
} as const;
