// The section `storage` of the configuration: how much memory the store and the tables of a node may take, and from where imports over HTTP may read.

import Type, { type Static } from "typebox";

export const StorageConfig = Type.Object(
  {
    /** All memtables, run files and imported versions in memory, MiB. During a switch two versions of a table are there. */
    memoryMiB: Type.Optional(Type.Integer({ minimum: 64, maximum: 1_048_576, description: "default: half of the machine's memory, at most 16 GiB" })),
    /** Folders of this machine from which an import over HTTP may read. Default: none; the command `millrace import` reads what its user may. */
    importFolders: Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 4_096 }), { maxItems: 64 })),
  },
  { additionalProperties: false },
);
export type StorageConfig = Static<typeof StorageConfig>;
