// A value that several parts of a page watch. Why no library: Preact's own state does the rest.

import { useEffect, useState } from "preact/hooks";

export interface Store<T> {
  get(): T;
  set(value: T): void;
  /** Called after each `set`; returns how to stop. */
  watch(listener: () => void): () => void;
}

export function store<T>(first: T): Store<T> {
  let value = first;
  const listeners = new Set<() => void>();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const listener of listeners) listener();
    },
    watch(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** The store's value; the component is drawn again when it changes. */
export function useStore<T>(from: Store<T>): T {
  const [value, setValue] = useState(from.get);
  useEffect(() => {
    const read = (): void => setValue(() => from.get());
    // It may have changed between drawing and watching.
    read();
    return from.watch(read);
  }, [from]);
  return value;
}
