// Rules that look at one TypeScript file: what it imports, which globals it uses, whether its syntax can be erased, how it begins.
// Why the compiler's parser: a pattern over text cannot tell a call from a word in a comment.
// Cost: parsing all files takes about as long as reading them a few times over (well under a second for 30,000 lines).

import { builtinModules } from "node:module";
import { posix } from "node:path";
import ts from "typescript";
import type { House } from "./house.ts";
import type { Finding } from "./tree.ts";

/** A parsed file, as far as other rules need it. */
export interface Source {
  readonly path: string;
  /** Files it imports, as paths in the tree (not checked to be there). */
  readonly imports: readonly string[];
  /** Every package it imports. */
  readonly packages: readonly string[];
  /** Every piece of string and template text. */
  readonly strings: readonly string[];
}

const builtins = new Set(builtinModules);

/** `src/ROOM/...` -> ROOM. */
export function roomOf(path: string): string | undefined {
  return /^src\/([^/]+)\//.exec(path)?.[1];
}

/** Tests and what only they import may use the machine directly. */
export function isTestCode(path: string): boolean {
  return !path.startsWith("src/") || /\.(test|contract|fuzz|bench)\.ts$/.test(path);
}

function packageOf(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

export function checkSource(path: string, text: string, house: House): { source: Source; findings: Finding[] } {
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.ESNext, true, ts.ScriptKind.TS);
  const findings: Finding[] = [];
  const imports: string[] = [];
  const packages: string[] = [];
  const strings: string[] = [];
  const modules: string[] = [];
  const room = roomOf(path);
  const floorOf = (name: string): number => house.floors.findIndex((rooms) => rooms.includes(name));

  const find = (node: ts.Node, rule: string, message: string): void => {
    findings.push({ file: path, line: file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1, rule, message });
  };

  function checkRoomImport(node: ts.Node, target: string): void {
    if (room === undefined || target === room) return;
    const own = floorOf(room);
    const other = floorOf(target);
    if (other < 0) find(node, "floor", `there is no room ${target}: rooms stand in tools/tidy/house.ts`);
    else if (own >= 0 && other >= own) {
      const where = other === own ? "stands on the same floor" : `stands on floor ${other + 1}, above floor ${own + 1}`;
      find(node, "floor", `${room} imports ${target}, which ${where}: hand it in from roles, or move what both need to a lower room`);
    }
  }

  function checkImport(node: ts.Node, specifier: string): void {
    if (specifier.startsWith("#")) {
      const [target = "", ...rest] = specifier.slice(1).split("/");
      if (/\.[jt]s$/.test(specifier)) find(node, "import-form", `${specifier}: between rooms without extension, the import map adds it`);
      imports.push(`src/${target}/${rest.join("/")}.ts`);
      if (target === room) find(node, "import-form", `${specifier}: inside a room import "./...ts"`);
      checkRoomImport(node, target);
      return;
    }
    if (specifier.startsWith(".")) {
      const target = posix.normalize(posix.join(posix.dirname(path), specifier));
      imports.push(target);
      if (room === undefined) return;
      const other = roomOf(target);
      if (other === undefined) find(node, "floor", `${specifier}: src imports nothing from outside src`);
      else if (other !== room) {
        find(node, "import-form", `${specifier}: between rooms import "#${other}/..."`);
        checkRoomImport(node, other);
      }
      return;
    }
    const name = packageOf(specifier);
    if (specifier.startsWith("node:") || builtins.has(name)) {
      modules.push(specifier);
      if (!specifier.startsWith("node:")) find(node, "import-form", `${specifier}: write node:${specifier}`);
      const only = house.builtins[specifier];
      if (room !== undefined && room !== "platform" && !isTestCode(path) && only !== path) {
        find(
          node,
          "node-import",
          `${specifier} is for src/platform${only === undefined ? "" : ` and ${only}`}: have it handed in through an interface of src/platform`,
        );
      }
      return;
    }
    packages.push(name);
    if (room === undefined || isTestCode(path)) return;
    const rooms = house.libraries[name];
    if (rooms === undefined)
      find(node, "library", `${name} is no runtime library of src: add it to house.libraries with its rooms, and to docs/dependencies.md`);
    else if (!rooms.includes(room)) find(node, "library", `${name} may be imported by ${rooms.join(", ")} only`);
  }

  const declared = new Set<string>();
  const collectDeclared = (node: ts.Node): void => {
    const names =
      ts.isVariableDeclaration(node) ||
      ts.isParameter(node) ||
      ts.isBindingElement(node) ||
      ts.isFunctionDeclaration(node) ||
      ts.isClassDeclaration(node) ||
      ts.isImportSpecifier(node);
    if (names && node.name !== undefined && ts.isIdentifier(node.name)) declared.add(node.name.text);
    ts.forEachChild(node, collectDeclared);
  };
  collectDeclared(file);

  const bans = new Map(house.bans.map((ban) => [ban.name, ban]));
  const banned = (node: ts.Node, name: string): void => {
    const ban = bans.get(name);
    if (ban === undefined || room === undefined || room === "platform" || isTestCode(path) || ban.rooms?.includes(room) === true) return;
    const also = ban.rooms === undefined ? "" : `, ${ban.rooms.join(", ")}`;
    find(node, "ban", `${name} is for src/platform${also}: use ${ban.instead}`);
  };

  /** A global by its bare name: not a member, not a key, not a type, not something this file declares. */
  function isGlobalUse(node: ts.Identifier): boolean {
    const parent = node.parent;
    if (declared.has(node.text)) return false;
    if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
    if (ts.isQualifiedName(parent) || ts.isTypeReferenceNode(parent) || ts.isTypeQueryNode(parent) || ts.isMethodSignature(parent)) return false;
    if (ts.isPropertyAssignment(parent) || ts.isBindingElement(parent)) return "initializer" in parent && parent.initializer === node;
    if (ts.isPropertyDeclaration(parent) || ts.isPropertySignature(parent) || ts.isMethodDeclaration(parent) || ts.isAccessor(parent))
      return parent.name !== node;
    return !ts.isLiteralTypeNode(parent) && !ts.isLabeledStatement(parent) && !ts.isNamedTupleMember(parent);
  }

  function visit(node: ts.Node): void {
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier !== undefined && ts.isStringLiteral(node.moduleSpecifier)) {
      checkImport(node, node.moduleSpecifier.text);
    } else if (
      ts.isCallExpression(node) &&
      node.expression.kind === ts.SyntaxKind.ImportKeyword &&
      node.arguments[0] !== undefined &&
      ts.isStringLiteral(node.arguments[0])
    ) {
      checkImport(node, node.arguments[0].text);
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument) && ts.isStringLiteral(node.argument.literal)) {
      checkImport(node, node.argument.literal.text);
    } else if (ts.isNewExpression(node) && ts.isIdentifier(node.expression) && node.expression.text === "URL" && node.arguments?.[0] !== undefined) {
      const target = node.arguments[0];
      if (ts.isStringLiteral(target) && /^\.\.?\/.*\.ts$/.test(target.text)) imports.push(posix.normalize(posix.join(posix.dirname(path), target.text)));
    }
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node)) strings.push(node.text);

    if (ts.isPropertyAccessExpression(node) && ts.isIdentifier(node.expression)) {
      const object = node.expression.text;
      if (object === "globalThis") banned(node, node.name.text);
      else if (!declared.has(object)) banned(node, `${object}.${node.name.text}`);
    }
    const isDate = (ts.isNewExpression(node) || ts.isCallExpression(node)) && ts.isIdentifier(node.expression) && node.expression.text === "Date";
    if (isDate && (ts.isCallExpression(node) || (node.arguments?.length ?? 0) === 0)) banned(node, "new Date()");
    if (ts.isIdentifier(node) && bans.has(node.text) && isGlobalUse(node)) banned(node, node.text);

    const unerasable = unerasableSyntax(node);
    if (unerasable !== undefined) find(node, "erasable", `${unerasable}: Node runs types by erasing them`);
    ts.forEachChild(node, visit);
  }
  visit(file);

  // A test says its promise where it begins, or after its imports.
  const firstCode = path.endsWith(".test.ts") ? file.statements.find((statement) => !ts.isImportDeclaration(statement)) : file.statements[0];
  const beforeCode = text.slice(0, firstCode?.getStart(file) ?? text.length);
  if (!/^(#!.*\n)?\s*\/[/*]/.test(beforeCode) && !(path.endsWith(".test.ts") && /^\s*\/[/*]/m.test(beforeCode))) {
    const wanted = path.endsWith(".test.ts") ? "which promise it guards" : "purpose, why, invariants, cost, concurrency, limits, as far as they apply";
    findings.push({ file: path, line: 1, rule: "head", message: `begins without a head comment: ${wanted}` });
  }
  const runsTests = imports.some((target) => /\.contract\.ts$/.test(target)) || modules.includes("node:test");
  if (path.endsWith(".test.ts") && !runsTests) {
    findings.push({ file: path, line: 1, rule: "test-import", message: "a test file that imports neither node:test nor a contract suite tests nothing" });
  }
  return { source: { path, imports, packages, strings }, findings };
}

function unerasableSyntax(node: ts.Node): string | undefined {
  const isAmbient = (declaration: ts.HasModifiers): boolean => declaration.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.DeclareKeyword) === true;
  if (ts.isEnumDeclaration(node) && !isAmbient(node)) return "enum, write an `as const` object and a union";
  if (ts.isModuleDeclaration(node) && !isAmbient(node)) return "namespace, write a module";
  if (ts.isImportEqualsDeclaration(node)) return "import =, write an import";
  if (ts.isExportAssignment(node) && node.isExportEquals === true) return "export =, write an export";
  if (ts.isTypeAssertionExpression(node)) return "<T>value, write value as T";
  if (ts.isDecorator(node)) return "decorator, call a function";
  if (ts.isParameter(node) && ts.isConstructorDeclaration(node.parent) && (node.modifiers?.length ?? 0) > 0) return "parameter property, declare the field";
  return undefined;
}
