// One import by the role, in a process of its own: what `millrace import` does, without its terminal. Gets one message with the options, sends back the result.

import { importTable, type ImportTableOptions } from "#roles/importer";
import { childMain } from "../load/child.ts";

childMain((options: ImportTableOptions) => importTable(options));
