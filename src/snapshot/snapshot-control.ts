// What an operator does with snapshots of every kind: look, put live, roll back, retire. `millrace snapshots` and the HTTP routes call this and nothing else.
// Why its own face: the stores of roles know one kind each; an operator names any. All answers are plain JSON.
// Cost: `list` reads every manifest it has not seen (one blob a version). Concurrency: as SnapshotStore.
// Limits: `controlLimits`; those of the store.

import { MillraceError, toMillraceError } from "#base/errors";
import { type Head, servable } from "./head.ts";
import { bytesOf } from "./manifest.ts";
import { type ServedBy, untilServed } from "./serving-wait.ts";
import { type FollowerRecord, SnapshotStore, type SnapshotStoreOptions, type VersionInfo, type VersionState } from "./snapshot-store.ts";
import { checkSnapshotName, isKind, versionTimeMs } from "./version.ts";

export const controlLimits = { kindsMax: 100, snapshotsMax: 1_000 } as const;

export type SnapshotControlOptions = Omit<SnapshotStoreOptions, "kind">;

export interface SnapshotId {
  readonly kind: string;
  readonly name: string;
}

export interface VersionOverview {
  readonly version: string;
  readonly state: VersionState;
  /** When its build began. */
  readonly begunAtMs: number;
  /** When it was published; absent while it is built. */
  readonly publishedAtMs?: number;
  readonly files?: number;
  readonly bytes?: number;
  readonly rows?: number;
  readonly statistics?: Readonly<Record<string, number>>;
  /** Why its checks refused it. */
  readonly reasons?: readonly string[];
  /** Why its manifest cannot be read. */
  readonly fault?: string;
  /** Nodes that have it loaded or load it. */
  readonly usedBy: readonly string[];
}

export interface SnapshotOverview extends SnapshotId {
  readonly live: string | null;
  readonly liveSinceMs: number | null;
  /** What is live and what may be rolled back to, best first. */
  readonly servable: readonly string[];
  readonly versions: readonly VersionOverview[];
  readonly followers: readonly FollowerRecord[];
  /** Why this snapshot cannot be shown. */
  readonly fault?: string;
}

/** What an operator's step did. */
export interface ControlAnswer extends SnapshotId {
  readonly live: string | null;
  /** Versions removed by `retire`. */
  readonly removed?: readonly string[];
}

/** `table/items` -> its kind and name. Throws `invalid`. */
export function parseSnapshotId(text: string): SnapshotId {
  const [kind = "", name = "", ...more] = text.split("/");
  checkSnapshotName(more.length === 0 ? kind : text, name);
  return { kind, name };
}

export class SnapshotControl {
  readonly #options: SnapshotControlOptions;
  readonly #stores = new Map<string, SnapshotStore>();

  constructor(options: SnapshotControlOptions) {
    this.#options = options;
  }

  /** Kinds of which anything is published or being built. */
  async kinds(): Promise<string[]> {
    const entries = await this.#options.registry.list("snapshots/");
    return [...new Set(entries.map(({ key }) => key.split("/")[1]!))].filter(isKind).slice(0, controlLimits.kindsMax);
  }

  /** Everything there is, or one kind, or one snapshot (an unknown one is `not-found`). One that cannot be read shows its fault and hides no other. */
  async list(only: Partial<SnapshotId> = {}): Promise<SnapshotOverview[]> {
    const overviews: SnapshotOverview[] = [];
    for (const kind of only.kind === undefined ? await this.kinds() : [only.kind]) {
      const names = await this.#store(kind).names();
      for (const name of names) {
        if (only.name !== undefined && name !== only.name) continue;
        if (overviews.length >= controlLimits.snapshotsMax) return overviews;
        overviews.push(await this.#overview(kind, name));
      }
    }
    if (overviews.length === 0 && only.name !== undefined) {
      throw new MillraceError("not-found", `there is no snapshot ${only.kind ?? "*"}/${only.name}`, { todo: "list them all" });
    }
    return overviews;
  }

  /** Puts a version live by hand: a staged one, one rolled back from, a backup; a refused one only with `refusedToo`. `version`: whole, or a beginning that only one
   * version has. */
  async live({ kind, name }: SnapshotId, version: string, options: { readonly refusedToo?: boolean } = {}): Promise<ControlAnswer> {
    const store = this.#store(kind);
    return answerOf(await store.goLive(name, await this.#resolve(store, name, version), options));
  }

  /** Serves the version before the live one again, or the named one of those before it. */
  async rollback({ kind, name }: SnapshotId, version?: string): Promise<ControlAnswer> {
    const store = this.#store(kind);
    return answerOf(await store.rollback(name, version === undefined ? undefined : await this.#resolve(store, name, version)));
  }

  /** As untilServed: after `live` or `rollback`, until those who follow serve what is live. */
  async untilServed({ kind, name }: SnapshotId, version: string, waitMsMax: number): Promise<ServedBy> {
    return untilServed(this.#store(kind), name, version, { clock: this.#options.clock, waitMsMax });
  }

  /** Removes all but the `keep` latest versions (default: as the store keeps by itself) that nobody uses, and what killed builders left. */
  async retire({ kind, name }: SnapshotId, keep?: number): Promise<ControlAnswer> {
    const store = this.#store(kind);
    const removed = await store.retire(name, keep);
    return { kind, name, live: (await store.head(name))?.current ?? null, removed };
  }

  #store(kind: string): SnapshotStore {
    const known = this.#stores.get(kind);
    if (known !== undefined) return known;
    const made = new SnapshotStore({ ...this.#options, kind });
    // Kinds that only a caller's mistake names are not kept.
    if (this.#stores.size < controlLimits.kindsMax) this.#stores.set(kind, made);
    return made;
  }

  async #resolve(store: SnapshotStore, name: string, text: string): Promise<string> {
    const found = (await store.versions(name)).map(({ version }) => version).filter((version) => version.startsWith(text));
    if (found.length === 1 && text !== "") return found[0]!;
    if (found.includes(text)) return text;
    if (found.length === 0)
      throw new MillraceError("not-found", `${store.kind}/${name} has no version ${JSON.stringify(text.slice(0, 40))}`, { todo: "list the versions" });
    throw new MillraceError("invalid", `${found.length} versions of ${store.kind}/${name} begin with ${JSON.stringify(text)}`, {
      todo: "give more of its name",
    });
  }

  async #overview(kind: string, name: string): Promise<SnapshotOverview> {
    const store = this.#store(kind);
    try {
      const [head, versions, followers] = [await store.head(name), await store.versions(name), await store.followers(name)];
      return {
        kind,
        name,
        live: head?.current ?? null,
        liveSinceMs: head?.current === undefined ? null : head.liveAtMs,
        servable: head === undefined ? [] : servable(head),
        versions: versions.map(overviewOf),
        followers,
      };
    } catch (thrown) {
      return { kind, name, live: null, liveSinceMs: null, servable: [], versions: [], followers: [], fault: toMillraceError(thrown).message };
    }
  }
}

function answerOf(head: Head): ControlAnswer {
  return { kind: head.kind, name: head.name, live: head.current ?? null };
}

function overviewOf({ version, state, manifest, fault, reasons, usedBy }: VersionInfo): VersionOverview {
  const rows = manifest?.statistics["rows"] ?? (manifest?.files.some((file) => file.rows !== undefined) === true ? rowsOf(manifest.files) : undefined);
  return {
    version,
    state,
    begunAtMs: versionTimeMs(version),
    usedBy,
    ...(manifest === undefined
      ? {}
      : { publishedAtMs: manifest.createdAtMs, files: manifest.files.length, bytes: bytesOf(manifest.files), statistics: manifest.statistics }),
    ...(rows === undefined ? {} : { rows }),
    ...(reasons === undefined ? {} : { reasons }),
    ...(fault === undefined ? {} : { fault }),
  };
}

function rowsOf(files: readonly { readonly rows?: number }[]): number {
  return files.reduce((sum, file) => sum + (file.rows ?? 0), 0);
}

const megabytes = (bytes: number): string => (bytes < 1e6 ? `${bytes} B` : `${(bytes / 1e6).toFixed(1)} MB`);

/** What `millrace snapshots list` prints of one snapshot: a line of its own, one a version, one a follower. */
export function overviewLines(overview: SnapshotOverview): string[] {
  const lines = [`${overview.kind}/${overview.name}: ${overview.fault ?? (overview.live === null ? "nothing is live" : `live ${overview.live}`)}`];
  for (const { version, state, rows, bytes, usedBy, reasons, fault } of overview.versions) {
    const facts = [
      ...(rows === undefined ? [] : [`${rows} rows`]),
      ...(bytes === undefined ? [] : [megabytes(bytes)]),
      ...(usedBy.length === 0 ? [] : [`loaded by ${usedBy.join(", ")}`]),
      ...(reasons ?? []),
      ...(fault === undefined ? [] : [fault]),
    ];
    lines.push(`  ${version}  ${state.padEnd(8)}  ${facts.join("; ")}`.trimEnd());
  }
  for (const { node, serving, loading, refused } of overview.followers) {
    const part =
      loading === undefined || loading.bytesAll === 0 ? "" : ` ${Math.floor((100 * loading.bytesDone) / loading.bytesAll)} % of ${megabytes(loading.bytesAll)}`;
    const facts = [
      `serves ${serving ?? "nothing"}`,
      ...(loading === undefined ? [] : [`${loading.stage} ${loading.version}${part}`]),
      ...refused.map(({ version, reason }) => `refused ${version}: ${reason}`),
    ];
    lines.push(`  ${node}: ${facts.join("; ")}`);
  }
  return lines;
}
