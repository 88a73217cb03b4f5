// Reads a configuration file: `.json`, or `.ts`/`.js`/`.mjs` with a default export. What it names replaces the default of the same name; pipelines and
// event types are merged by name, so that a file may add one.

import { MillraceError } from "#base/errors";
import { checkConfig, defaultConfig, type GatewayConfig, shopConfig } from "#gateway/index";
import { systemFiles } from "#platform/system-files";
import { absolutePath, importDefault } from "#platform/system-process";

export const presets = { feed: defaultConfig, shop: shopConfig } as const;
export type PresetName = keyof typeof presets;

/** The effective configuration. Throws `invalid` for a file that is missing, cannot be read or says something impossible. */
export async function readConfig(path: string | undefined, preset: PresetName): Promise<GatewayConfig> {
  const base = presets[preset];
  if (path === undefined) return base;
  const full = absolutePath(path);
  const bytes = await systemFiles.readFile(full);
  if (bytes === undefined) throw new MillraceError("invalid", `no configuration file ${path}`, { todo: "name an existing .json, .ts or .js file" });
  let given: unknown;
  try {
    given = full.endsWith(".json") ? JSON.parse(new TextDecoder().decode(bytes)) : await importDefault(full);
  } catch (cause) {
    throw new MillraceError("invalid", `cannot read the configuration ${path}: ${(cause as Error).message}`, { cause, todo: "correct the file" });
  }
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new MillraceError("invalid", `the configuration ${path} is no object`, { todo: "export an object as default" });
  }
  const named = given as Partial<GatewayConfig>;
  return checkConfig({
    ...base,
    ...named,
    eventTypes: { ...base.eventTypes, ...named.eventTypes },
    pipelines: { ...base.pipelines, ...named.pipelines },
    limits: { ...base.limits, ...named.limits },
  });
}
