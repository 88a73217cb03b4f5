// Reads a configuration file: `.json`, or `.ts`/`.js`/`.mjs` with a default export. What it names replaces the default of the same name; pipelines and
// event types are merged by name, so that a file may add one, and so are the fields of the model. `"model": null` is a server without one.

import { MillraceError } from "#base/errors";
import { checkConfig, defaultConfig, type GatewayConfig, type ModelConfig, shopConfig } from "#gateway/index";
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
  const named = given as Partial<Omit<GatewayConfig, "model">> & { readonly model?: Partial<ModelConfig> | null };
  if (named.model === null) return checkConfig(withoutModel(merged(base, { ...named, model: undefined })));
  return checkConfig(merged(base, named));
}

function merged(base: GatewayConfig, named: Partial<Omit<GatewayConfig, "model">> & { readonly model?: Partial<ModelConfig> | null | undefined }): object {
  const { model: ofBase, ...rest } = base;
  const { model: ofFile, ...file } = named;
  const model = ofBase === undefined && (ofFile === undefined || ofFile === null) ? {} : { model: mergedModel(ofBase, ofFile ?? {}) };
  return {
    ...rest,
    ...file,
    ...model,
    eventTypes: { ...base.eventTypes, ...named.eventTypes },
    pipelines: { ...base.pipelines, ...named.pipelines },
    limits: { ...base.limits, ...named.limits },
  };
}

/** Groups of numbers merge too: who changes a window need not know the other settings of samples. */
function mergedModel(base: ModelConfig | undefined, file: Partial<ModelConfig>): object {
  const groups = (["samples", "rate", "l2"] as const).map((name) => [name, { ...base?.[name], ...file[name] }]);
  return { ...base, ...file, ...Object.fromEntries(groups) };
}

/** Nothing is ranked or found by a model. */
function withoutModel(config: object): object {
  const { model: _, pipelines, ...rest } = config as GatewayConfig;
  const plain = Object.entries(pipelines).map(([name, { model: _rank, quota, ...pipeline }]) => [name, { ...pipeline, quota: { ...quota, vectors: 0 } }]);
  return { ...rest, pipelines: Object.fromEntries(plain) };
}
