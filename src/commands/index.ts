// All commands on the keyspace: what a server's command table is made of, beside the families of connection, server and access.

import type { CommandSpec } from "#wire/resp-command";
import type { DataParts } from "./data-command.ts";
import { dumpCommands } from "./dump.ts";
import { fieldExpiryCommands } from "./field-expiry.ts";
import { hashCommands } from "./hashes.ts";
import { keyCommands } from "./keys.ts";
import { besideCollections } from "./named-collections.ts";
import { stringCommands } from "./strings.ts";
import { transactionCommands } from "./transactions.ts";

/** Strings, hashes with the expiry of their fields, keys, values as bytes, transactions: each family is one list. */
export function keyspaceCommands(parts: DataParts): CommandSpec[][] {
  const { collections } = parts;
  const families = [
    stringCommands(parts),
    hashCommands(parts),
    fieldExpiryCommands(parts),
    keyCommands(parts),
    dumpCommands(parts),
    transactionCommands(parts),
  ];
  return collections === undefined ? families : families.map((family) => family.map((spec) => besideCollections(spec, collections)));
}
