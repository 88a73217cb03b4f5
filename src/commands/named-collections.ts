// Vector collections as keys of Redis: what DEL, UNLINK, EXISTS, TOUCH and TYPE must know of them. KEYS, SCAN and DBSIZE do not list them (VLIST does), and reads of strings and hashes do
// not see them.
// Cost: nothing while a server has no collections; else a decoding of each key that the keyspace has not.

import type { VectorService } from "#vectors/vector-service";

export interface NamedCollections {
  /** The collection of that key; undefined when it is none. */
  nameOf(key: Uint8Array): string | undefined;
  /** False when it was gone already. Throws for one that is read only. */
  drop(name: string): Promise<boolean>;
}

/** Over all collections of a server. */
export function namedCollections(vectors: Pick<VectorService, "shapeOf" | "drop">): NamedCollections {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  return {
    nameOf(key) {
      let name: string;
      try {
        name = decoder.decode(key);
      } catch {
        return undefined;
      }
      return vectors.shapeOf(name) === undefined ? undefined : name;
    },
    drop: (name) => vectors.drop(name),
  };
}
