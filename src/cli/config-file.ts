// Reads a configuration file: `.json`, or `.ts`/`.js`/`.mjs` with a default export. What it names replaces the default of the same name; pipelines and
// event types are merged by name, so that a file may add one, and so are the fields of the model. `"model": null` is a server without one.
// Sections of their own: `tables` and `feast` (docs/tables.md), `access` (docs/access.md), `storage`, `parameters` (docs/parameters.md),
// `vectors` (docs/vectors.md).

import { MillraceError } from "#base/errors";
import { checkConfig, defaultConfig, type GatewayConfig, type ModelConfig, shopConfig } from "#gateway/index";
import { schemaCheck } from "#gateway/schema-check";
import { systemFiles } from "#platform/system-files";
import { absolutePath, importDefault } from "#platform/system-process";
import type { ServerConfig } from "#roles/server";
import { checkAccessConfig } from "#wire/access-config";
import { checkParameters, ParametersConfig } from "#wire/parameter-config";
import { StorageConfig } from "#wire/storage-config";
import { FeastConfig, TablesConfig } from "#wire/table-config";
import { checkVectors, VectorsConfig } from "#wire/vector-config";
import { checkDeclaredTasks } from "#wire/vector-task-fit";

export const presets = { feed: defaultConfig, shop: shopConfig } as const;
export type PresetName = keyof typeof presets;

/** Sections that are not the gateway's. */
const sections: ReadonlySet<string> = new Set(["tables", "feast", "access", "storage", "parameters", "vectors"]);

type GatewayFile = Partial<Omit<GatewayConfig, "model">> & { readonly model?: Partial<ModelConfig> | null | undefined };

/** The effective configuration. Throws `invalid` for a file that is missing, cannot be read or says something impossible. */
export async function readConfig(path: string | undefined, preset: PresetName): Promise<ServerConfig> {
  const base = presets[preset];
  if (path === undefined) return { gateway: base, tables: {}, feast: {}, access: undefined, storage: {} };
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
  const todo = (page: string): string => `correct that field in ${path}, ${page} says what may stand there`;
  const { tables = {}, feast = {}, access, storage = {}, parameters, vectors } = given as Readonly<Record<string, unknown>>;
  const named = Object.fromEntries(Object.entries(given).filter(([name]) => !sections.has(name))) as GatewayFile;
  const merging = merged(base, named.model === null ? { ...named, model: undefined } : named);
  const gateway = checkConfig(named.model === null ? withoutModel(merging) : merging);
  if ((parameters as ParametersConfig | undefined)?.sync?.model === true && gateway.model === undefined) {
    throw new MillraceError("invalid", "parameters.sync.model is true, and this server has no model", {
      todo: `give ${path} the section model of the server that is followed, or take parameters.sync.model out`,
    });
  }
  const checkedTables = schemaCheck(TablesConfig).required(tables, "the configuration's tables", todo("docs/tables.md"));
  const checkedParameters =
    parameters === undefined
      ? undefined
      : checkParameters(schemaCheck(ParametersConfig).required(parameters, "the configuration's parameters", todo("docs/parameters.md")));
  const checkedVectors =
    vectors === undefined ? undefined : checkVectors(schemaCheck(VectorsConfig).required(vectors, "the configuration's vectors", todo("docs/vectors.md")));
  if (checkedVectors !== undefined) checkDeclaredTasks(checkedVectors, checkedTables, checkedParameters);
  return {
    gateway,
    tables: checkedTables,
    feast: schemaCheck(FeastConfig).required(feast, "the configuration's feast", todo("docs/tables.md")),
    access: access === undefined ? undefined : checkAccessConfig(access),
    storage: schemaCheck(StorageConfig).required(
      storage,
      "the configuration's storage",
      `correct that field in ${path}, it may have ${Object.keys(StorageConfig.properties).join(" and ")}`,
    ),
    ...(checkedParameters === undefined ? {} : { parameters: checkedParameters }),
    ...(checkedVectors === undefined ? {} : { vectors: checkedVectors }),
  };
}

function merged(base: GatewayConfig, named: GatewayFile): object {
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
