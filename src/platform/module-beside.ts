// The address of a module that is loaded by name, such as a worker's body: `.ts` in development, `.js` when built.

/** `name` relative to the importing module and without extension: `moduleBeside("./fold.worker", import.meta.url)`. */
export function moduleBeside(name: string, importer: string): URL {
  return new URL(name + importer.slice(importer.lastIndexOf(".")), importer);
}
