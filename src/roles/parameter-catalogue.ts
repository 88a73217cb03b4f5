// The models of the parameter server, wired: catalogue in the registry of the data folder, quotas of the configuration, usage read from the tables' own memory.

import type { Registry } from "#backbone/registry";
import { ModelCatalogue } from "#params/catalogue/model-catalogue";
import { ParameterModels } from "#params/catalogue/parameter-models";
import { systemClock } from "#platform/system-clock";
import { processId } from "#platform/system-process";
import { systemRandom } from "#platform/system-random";
import type { ParametersConfig } from "#wire/parameter-config";
import { openDataFolder, requireDataFolder } from "./data-folder.ts";
import type { Parameters } from "./parameters.ts";

export interface ParameterCatalogueOptions {
  readonly registry: Registry;
  readonly parameters: Parameters;
  readonly config: ParametersConfig;
  readonly warn: (message: string) => void;
}

/** Opens it; `close` the catalogue before the registry. Throws `conflict` when the configuration lacks a table that a model uses, `corrupt`. */
export async function openParameterModels({ registry, parameters, config, warn }: ParameterCatalogueOptions): Promise<ParameterModels> {
  const declared = config.tables ?? {};
  const catalogue = await ModelCatalogue.open({
    registry,
    clock: systemClock,
    random: systemRandom,
    node: `server-${processId}`,
    isDeclared: (table) => Object.hasOwn(declared, table),
    onAlarm: ({ message }) => warn(`models of the parameter server: ${message}`),
  });
  try {
    const models = new ParameterModels({
      catalogue,
      control: parameters,
      monotonicMs: () => systemClock.monotonicMs(),
      usageOf(table) {
        let [rows, bytes] = [0, 0];
        for (const shard of parameters.served.find(table)?.reader.shards ?? []) {
          rows += shard.live;
          bytes += shard.heldBytes;
        }
        return { rows, bytes };
      },
      models: config.models ?? {},
    });
    for (const said of await models.declareModels()) warn(said);
    return models;
  } catch (thrown) {
    await catalogue.close();
    throw thrown;
  }
}

/** Runs one step on the models of a data folder, whose server may be running. It holds no version, so nobody waits for it. Throws `not-found` for a folder that is none, and makes nothing there. */
export async function withModels<T>(dataFolder: string, step: (catalogue: ModelCatalogue) => Promise<T>): Promise<T> {
  await requireDataFolder(dataFolder);
  const folder = await openDataFolder(dataFolder, "none");
  try {
    const catalogue = await ModelCatalogue.open({
      registry: folder.registry,
      clock: systemClock,
      random: systemRandom,
      node: `command-${processId}`,
      holds: false,
    });
    try {
      return await step(catalogue);
    } finally {
      await catalogue.close();
    }
  } finally {
    await folder.close();
  }
}
