// `millrace samples` and `millrace train`: what was joined, and what a model makes of it, in a few lines.

import { MillraceError } from "#base/errors";
import type { ModelConfig } from "#gateway/index";
import { absolutePath, onStopSignal, printLine } from "#platform/system-process";
import { trainOffline, writeSamples } from "#roles/train-offline";
import { type PresetName, readConfig } from "./config-file.ts";

interface ConfigOptions {
  readonly config?: string;
  readonly preset: PresetName;
}

async function modelConfig({ config, preset }: ConfigOptions): Promise<ModelConfig> {
  const { model } = (await readConfig(config, preset)).gateway;
  if (model !== undefined) return model;
  throw new MillraceError("invalid", "the configuration has no section model", { todo: "name a configuration that has one (--config), or the preset feed" });
}

function stopSignal(): AbortSignal {
  const stopping = new AbortController();
  onStopSignal((signal) => stopping.abort(new MillraceError("unavailable", `stopped by ${signal}`, { todo: "start the command again" })));
  return stopping.signal;
}

/** Writes the joined samples of a data folder to a file. */
export async function samples(dataFolder: string, options: ConfigOptions & { readonly out: string }): Promise<void> {
  const config = await modelConfig(options);
  const { samples: count, counts, openAnswers } = await writeSamples(absolutePath(dataFolder), config, absolutePath(options.out), stopSignal());
  printLine(`${count} samples of ${counts.answers} answers in ${options.out}: ${counts.positives} positives, ${counts.negatives} negatives`);
  const left = counts.answersWithoutFeatures + counts.answersUnreadable;
  printLine(`left out: ${counts.negativesLeftOut} negatives by the rate, ${left} answers without usable features, ${openAnswers} whose window is open`);
  printLine(`actions: ${counts.late} late, ${counts.repeated} repeated, ${counts.unjoined} of no known answer`);
}

/** Trains a model from sample files or a data folder and writes its checkpoint. */
export async function train(inputs: readonly string[], options: ConfigOptions & { readonly out: string }): Promise<void> {
  const config = await modelConfig(options);
  const result = await trainOffline(inputs.map(absolutePath), config, absolutePath(options.out), stopSignal());
  const { quality, rows, unreadable, stopped, checkpointBytes } = result;
  const text = (value: number | undefined, digits: number): string => (value === undefined ? "-" : value.toFixed(digits));
  printLine(`${quality.samples} samples, ${quality.positives} positives, each predicted before it was learned:`);
  printLine(`  model     log loss ${text(quality.logLoss, 4)}  AUC ${text(quality.auc, 4)}  calibration ${text(quality.calibration, 3)}`);
  printLine(
    `  counting  log loss ${text(quality.countingLogLoss, 4)}  AUC ${text(quality.countingAuc, 4)}  calibration ${text(quality.countingCalibration, 3)}`,
  );
  if (unreadable > 0) printLine(`${unreadable} samples were of another extractor or could not be read`);
  if (stopped !== "") printLine(`training was stopped: ${stopped}`);
  printLine(`${rows} parameter rows, a checkpoint of ${checkpointBytes} bytes in ${options.out}`);
}
