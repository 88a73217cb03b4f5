// Bounds of tables, their rows and what is read of them at once. Apart from the schemas of the configuration (table-config.ts): those bring a library of some 370 modules, which a process that only
// reads rows or imports a file must not load.

export const tableLimits = {
  tablesMax: 1_000,
  /** A vector counts as one column. One byte of a row names a column's cell group, 255 is kept. */
  columnsMax: 255,
  /** Elements of one vector column. */
  lengthMax: 8_192,
  /** All columns of fixed width together. */
  fixedBytesMax: 65_536,
  /** A row as it is stored, strings included. */
  rowBytesMax: 512 << 10,
  keyBytesMax: 4_000,
  /** Keys of one read; see docs/tables.md. */
  readKeysMax: 10_000,
  /** Rows of one write. */
  writeRowsMax: 10_000,
  /** Rows of one page of a scan. */
  scanRowsMax: 10_000,
  /** One answer, in memory and on the wire. */
  blockBytesMax: 256 << 20,
  shardsMax: 1_024,
} as const;
