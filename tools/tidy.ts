// The house rules as a program: floors, bans outside src/platform, erasable syntax, dead files, leftovers, links, dependencies. `npm test` runs it.
// Why: what a machine can judge, no reviewer should have to. It does not count lines: taste is for people.
// Output: one finding a line, `file:line: [rule] what, and what to do`; exit code 1 when there is one.
// What each rule says stands in tidy/house.ts (data), tidy/source-rules.ts and tidy/tree-rules.ts; tidy.test.ts has a canary for each.

import { join } from "node:path";
import { type House, house } from "./tidy/house.ts";
import { checkSource, type Source } from "./tidy/source-rules.ts";
import { checkTree } from "./tidy/tree-rules.ts";
import { type Finding, readTree, type Tree } from "./tidy/tree.ts";

/** All findings in a tree, sorted by file and line. `registry`: host of the package registry in use, which no file may name. */
export function tidy(tree: Tree, rules: House = house, registry?: string): Finding[] {
  const sources: Source[] = [];
  const findings: Finding[] = [];
  for (const path of tree.paths.filter((name) => /^(src|tools|bench|test|examples)\/.*\.ts$/.test(name))) {
    const checked = checkSource(path, tree.text(path) ?? "", rules);
    sources.push(checked.source);
    findings.push(...checked.findings);
  }
  findings.push(...checkTree(tree, sources, rules, registry));

  const needed = new Set<object>();
  const kept = findings.filter((finding) => {
    const exception = rules.exceptions.find(({ rule, file }) => rule === finding.rule && file === finding.file);
    if (exception !== undefined) needed.add(exception);
    return exception === undefined;
  });
  for (const exception of rules.exceptions) {
    if (!needed.has(exception))
      kept.push({ file: exception.file, line: 1, rule: "exception", message: `needs no exception from ${exception.rule} any more: remove it from the house` });
  }
  return kept.sort((a, b) => (a.file === b.file ? a.line - b.line : a.file < b.file ? -1 : 1));
}

if (import.meta.main) {
  const registry = process.env["npm_config_registry"];
  const tree = readTree(join(import.meta.dirname, ".."));
  const findings = tidy(tree, house, registry === undefined ? undefined : new URL(registry).host);
  for (const { file, line, rule, message } of findings) console.log(`${file}:${line}: [${rule}] ${message}`);
  console.log(`tidy: ${tree.paths.length} files, ${findings.length} findings`);
  process.exitCode = findings.length === 0 ? 0 : 1;
}
