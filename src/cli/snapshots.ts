// `millrace snapshots ...`: versions of everything built offline in a data folder, whose server may be running.

import { type Command, InvalidArgumentError, Option } from "commander";
import { absolutePath, printLine, setExitCode } from "#platform/system-process";
import { servedWaitMsMax, withSnapshots } from "#roles/snapshots";
import { servedText } from "#snapshot/serving-wait";
import { type ControlAnswer, overviewLines, parseSnapshotId, type SnapshotControl, type SnapshotId } from "#snapshot/snapshot-control";
import { refusedExitCode } from "./exit-codes.ts";

interface DataOption {
  readonly data: string;
}

/** Adds the commands. */
export function snapshotCommands(program: Command): void {
  const snapshots = program.command("snapshots").description("lists versions of tables, makes one live, rolls back, removes old ones");
  const data = (): Option => new Option("-d, --data <folder>", "data folder").env("MILLRACE_DATA").default("./data");
  snapshots
    .command("list")
    .description("versions, which one is live, and who serves them")
    .argument("[snapshot]", "one of them, as table/items")
    .addOption(data())
    .addOption(new Option("--json", "one JSON object"))
    .action(async (name: string | undefined, options: DataOption & { readonly json?: boolean }) => {
      const found = await withSnapshots(absolutePath(options.data), (control) => control.list(name === undefined ? {} : parseSnapshotId(name)));
      if (options.json === true) printLine(JSON.stringify(found));
      else if (found.length === 0) printLine("nothing was built yet: `millrace import` makes a version of a table");
      else for (const one of found) for (const line of overviewLines(one)) printLine(line);
    });
  snapshots
    .command("live")
    .description("makes a version the live one")
    .argument("<snapshot>", "as table/items")
    .argument("<version>", "a version, or the beginning of one")
    .addOption(data())
    .addOption(new Option("--refused-too", "also one that its checks refused"))
    .action(async (name: string, version: string, options: DataOption & { readonly refusedToo?: boolean }) => {
      const { refusedToo = false } = options;
      await goTo(name, options, (control, id) => control.live(id, version, { refusedToo }));
    });
  snapshots
    .command("rollback")
    .description("goes back to the version before, or to a named one")
    .argument("<snapshot>", "as table/items")
    .argument("[version]")
    .addOption(data())
    .action(async (name: string, version: string | undefined, options: DataOption) => {
      await goTo(name, options, (control, id) => control.rollback(id, version));
    });
  snapshots
    .command("retire")
    .description("removes old versions that nobody uses")
    .argument("<snapshot>", "as table/items")
    .addOption(data())
    .addOption(new Option("--keep <number>", "versions that stay").argParser(positive))
    .action(async (name: string, options: DataOption & { readonly keep?: number }) => {
      const { removed = [] } = await withSnapshots(absolutePath(options.data), (control) => control.retire(parseSnapshotId(name), options.keep));
      printLine(removed.length === 0 ? `${name}: nothing to remove` : `${name}: removed ${removed.join(", ")}`);
    });
}

/** Moves the head, and says so once those who follow have followed. */
async function goTo(name: string, { data }: DataOption, move: (control: SnapshotControl, id: SnapshotId) => Promise<ControlAnswer>): Promise<void> {
  const id = parseSnapshotId(name);
  await withSnapshots(absolutePath(data), async (control) => {
    const { live } = await move(control, id);
    const served = live === null ? undefined : await control.untilServed(id, live, servedWaitMsMax);
    printLine(`${name}: ${String(live)} ${served === undefined ? "is live" : servedText(served)}`);
    if (served !== undefined && served.refused.length > 0) setExitCode(refusedExitCode);
  });
}

function positive(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 1_000) throw new InvalidArgumentError("give a whole number from 1 to 1000");
  return value;
}
