// One import by the role, in a process of its own: what `millrace import` does, without its terminal. Gets one message with the options, sends back the result.
// Compiled code is kept from run to run, as bin/millrace.js does before it loads anything.

import { enableCompileCache } from "node:module";
import type { ImportTableOptions } from "#roles/importer";
import { childMain } from "../load/child.ts";

enableCompileCache();
childMain(async (options: ImportTableOptions) => (await import("#roles/importer")).importTable(options));
