// Items near a vector, from a vector collection whose elements are items (docs/vectors.md): by the user's own vector (an element of a collection of users, or what the learned model says of
// the user now), or by the item that the user touched last.
// A collection that is late, broken or not there costs the request nothing but its candidates: the step fails, the recall goes on without it, the answer says `degraded`.
// A user without a vector, or an item that is not in the collection, brings nothing and is no failure.
// Cost on the serving loop: a message there and back and a look-up of each candidate's id; the search is the vectors thread's. Waits at most `deadlineMs`, by user twice that: for the vector
// of the user, then for the search.

import { MillraceError } from "#base/errors";
import { source } from "#pipeline/index";
import type { SearchAnswer, SearchRequest, VectorService } from "#vectors/vector-service";
import type { CollectionRecall } from "../config.ts";
import type { SceneRequest, SceneStores } from "../scene.ts";

export const collectionRecallDefaults = { deadlineMs: 10 } as const;

export interface CollectionSourceParts {
  readonly vectors: Pick<VectorService, "search" | "get">;
  /** What the learned model says of the user of a request; undefined without a model. */
  readonly userVector: (req: SceneRequest) => Float32Array<ArrayBuffer> | undefined;
}

export function collectionSource(stores: SceneStores, { vectors, userVector }: CollectionSourceParts, recall: CollectionRecall) {
  const { name, collection, by, users = collection, filter, exact, deadlineMs = collectionRecallDefaults.deadlineMs } = recall;

  /** What to search by; undefined: nothing. */
  async function queryOf(req: SceneRequest): Promise<SearchRequest["queries"] | undefined> {
    if (by === "model") return userVector(req);
    if (by === "item") {
      const item = latestItem(stores, req.user);
      return item === undefined ? undefined : { element: stores.catalog.items.id(item) };
    }
    if (req.user < 0) return undefined;
    const found = await vectors.get(users, [stores.catalog.users.id(req.user)]);
    if (found === undefined) throw missing(users);
    return found.found[0] === 1 ? found.vectors.slice() : undefined;
  }

  async function search(req: SceneRequest, queries: SearchRequest["queries"], count: number, timeoutMs: number): Promise<SearchAnswer | undefined> {
    const version = req.versions?.[collection] ?? recall.version;
    try {
      const found = await vectors.search({
        collection,
        queries,
        count,
        timeoutMs,
        ...(version === undefined ? {} : { version }),
        ...(filter === undefined ? {} : { filter }),
        ...(exact === undefined ? {} : { exact }),
      });
      if (found === undefined) throw missing(collection);
      return found;
    } catch (thrown) {
      // The item is not in the collection; a version that is not there is told apart by its name.
      if (by === "item" && version === undefined && thrown instanceof MillraceError && thrown.code === "not-found" && thrown.what !== missing(collection).what)
        return undefined;
      throw thrown;
    }
  }

  return source<SceneRequest>()(name, {}, async (ctx, emit) => {
    const { req, limit } = ctx;
    const queries = await queryOf(req);
    if (queries === undefined) return;
    // One more than asked for, because the item itself is the first.
    const own = queries instanceof Float32Array ? undefined : queries.element;
    const found = await search(req, queries, limit + Number(own !== undefined), Math.max(1, Math.min(deadlineMs, ctx.remainingMs())));
    if (found === undefined) return;
    const { items } = stores.catalog;
    const handles: number[] = [];
    for (const element of found.elements) {
      const item = element === own ? undefined : items.find(element);
      if (item !== undefined && handles.length < limit) handles.push(item);
    }
    emit(handles.length).id.set(handles);
  });
}

function missing(collection: string): MillraceError {
  return new MillraceError("unavailable", `no vector collection ${collection}`, { todo: "make it, or take it out of the pipeline's collections" });
}

/** The item that the user touched last. */
function latestItem({ history }: SceneStores, user: number): number | undefined {
  const view = user < 0 ? undefined : history.of(user);
  if (view === undefined) return undefined;
  let latest = view.from;
  for (let at = view.from + 1; at < view.to; at++) if (view.times[at]! > view.times[latest]!) latest = at;
  return view.to > view.from ? view.items[latest] : undefined;
}
