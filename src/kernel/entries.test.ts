// The contract of the engine's kernels for every variant that runs here.

import { test } from "node:test";
import { entriesContract } from "./entries.contract.ts";
import { kernelVariants, loadVariant } from "./kernels.ts";

for (const variant of kernelVariants) {
  const loaded = loadVariant(variant);
  if (typeof loaded === "string") test(`${variant}: contract of entries`, { skip: loaded }, () => {});
  else entriesContract(variant);
}
