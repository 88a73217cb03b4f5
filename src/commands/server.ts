// The commands on the server: INFO, CONFIG, COMMAND, SLOWLOG and what tools expect beside them. What other parts know (keys, memory, store) is handed in.
// CONFIG SET of a name that has no effect here is accepted, since tools set such names before they begin; a name that Redis does not know is refused.

import { globMatches, matchesAll } from "#base/glob";
import { keyArguments } from "#wire/access-rules";
import type { Access } from "#wire/access-users";
import { RespArgs } from "#wire/resp-arguments";
import type { CommandEntry } from "#wire/resp-command-table";
import type { Args, Call, CommandSpec, KeyAccess, Reply } from "#wire/resp-command";
import type { RespLimits, ServerFace } from "#wire/resp-session";
import { helpOf, redisVersion } from "./server-facts.ts";

export interface ServerParts {
  /** The authenticator, which is made of the table that these commands stand in. */
  access(): Access;
  /** Version of millrace. */
  readonly version: string;
  readonly processId: number;
  /** 40 hexadecimal digits, new with each start. */
  readonly runId: string;
  /** Further lines of INFO by section ("Memory", "Persistence", "Stats", "Keyspace", "CPU"...); they come behind or replace the server's own. */
  info(): Readonly<Record<string, Readonly<Record<string, string | number>>>>;
  /** Bytes that a key takes with its value, for MEMORY USAGE; undefined: no such key. */
  memoryUsage(key: Uint8Array): number | undefined;
  /** Milliseconds since 1970 up to which everything is durable, for LASTSAVE. */
  lastSaveMs(): number;
}

const int = "argument couldn't be parsed into an integer";
const enumFault = "argument(s) must be one of the following: ";

/** Names that tools read or set and that change nothing here, with the default of Redis 7.0. */
const inert: Readonly<Record<string, string>> = {
  save: "",
  appendonly: "no",
  appendfsync: "everysec",
  maxmemory: "0",
  "maxmemory-policy": "noeviction",
  "maxmemory-samples": "5",
  "hash-max-listpack-entries": "512",
  "hash-max-ziplist-entries": "512",
  "hash-max-listpack-value": "64",
  "hash-max-ziplist-value": "64",
  "list-max-listpack-size": "-2",
  "list-max-ziplist-size": "-2",
  "list-compress-depth": "0",
  "zset-max-listpack-entries": "128",
  "zset-max-ziplist-entries": "128",
  "zset-max-listpack-value": "64",
  "zset-max-ziplist-value": "64",
  "set-max-intset-entries": "512",
  "hll-sparse-max-bytes": "3000",
  "lazyfree-lazy-eviction": "no",
  "lazyfree-lazy-expire": "no",
  "lazyfree-lazy-server-del": "no",
  "lazyfree-lazy-user-del": "no",
  "lazyfree-lazy-user-flush": "no",
  "latency-monitor-threshold": "0",
  "latency-tracking": "yes",
  "notify-keyspace-events": "",
  "tcp-keepalive": "300",
  "acl-pubsub-default": "resetchannels",
  "acllog-max-len": "128",
  "active-expire-effort": "1",
  "close-on-replica-write": "yes",
  databases: "1",
  hz: "10",
  loglevel: "notice",
  "lfu-log-factor": "10",
  "lfu-decay-time": "1",
  "stop-writes-on-bgsave-error": "yes",
  "stream-node-max-bytes": "4096",
  "stream-node-max-entries": "100",
  "busy-reply-threshold": "5000",
  "lua-time-limit": "5000",
  activedefrag: "no",
  activerehashing: "yes",
  dir: "",
  dbfilename: "",
  "enable-debug-command": "no",
  "enable-module-command": "no",
  "enable-protected-configs": "no",
};
/** Among them those that only a start can set. */
const immutable = new Set(["databases", "dir", "dbfilename", "enable-debug-command", "enable-module-command", "enable-protected-configs", "bind", "port"]);
const yesNo = new Set(Object.entries(inert).flatMap(([name, value]) => (value === "yes" || (value === "no" && !immutable.has(name)) ? [name] : [])));

interface Parameter {
  get(server: ServerFace): string;
  /** What is wrong with the value, or `undefined` and it is set. Absent: only a start can set it. */
  set?(server: ServerFace, value: string): string | undefined;
}

function limit(name: keyof RespLimits, least: number): Parameter {
  return {
    get: ({ limits }) => String(limits[name]),
    set({ limits }, value) {
      const bytes = memoryOf(value);
      if (bytes === undefined) return int;
      if (bytes < least) return `argument must be between ${least} and 9223372036854775807 inclusive`;
      limits[name] = bytes;
      return undefined;
    },
  };
}

/** "100", "64mb", "1g" as Redis reads sizes. */
function memoryOf(text: string): number | undefined {
  const found = /^(\d{1,15})(b|k|kb|m|mb|g|gb)?$/i.exec(text);
  if (found === null) return undefined;
  const factor: Record<string, number> = { b: 1, k: 1e3, kb: 1024, m: 1e6, mb: 1024 ** 2, g: 1e9, gb: 1024 ** 3 };
  const value = Number(found[1]) * (factor[found[2]?.toLowerCase() ?? "b"] ?? 1);
  return Number.isSafeInteger(value) ? value : undefined;
}

function human(bytes: number): string {
  for (const [unit, size] of [
    ["G", 2 ** 30],
    ["M", 2 ** 20],
    ["K", 2 ** 10],
  ] as const) {
    if (bytes >= size) return `${(bytes / size).toFixed(2)}${unit}`;
  }
  return `${bytes}B`;
}

/** Glob that ignores case, over text. */
function matches(pattern: string, text: string): boolean {
  const bytes = new TextEncoder().encode(pattern.toLowerCase());
  return matchesAll(bytes) || globMatches(bytes, new TextEncoder().encode(text.toLowerCase()));
}

export function serverCommands(parts: ServerParts): CommandSpec[] {
  const settings = new Map<string, string>(Object.entries(inert));
  const parameters = new Map<string, Parameter>([
    ["maxclients", limit("connectionsMax", 1)],
    ["timeout", limit("idleSecondsMax", 0)],
    ["proto-max-bulk-len", limit("bulkBytesMax", 1_048_576)],
    ["client-query-buffer-limit", limit("inputBytesMax", 1_048_576)],
    ["port", { get: (server) => String(server.port) }],
    ["bind", { get: (server) => server.host }],
    [
      "slowlog-log-slower-than",
      {
        get: ({ slowLog }) => String(slowLog.thresholdUs),
        set({ slowLog }, value) {
          if (!/^-?\d{1,15}$/.test(value)) return int;
          if (Number(value) < -1) return "argument must be between -1 and 9223372036854775807 inclusive";
          slowLog.thresholdUs = Number(value);
          return undefined;
        },
      },
    ],
    [
      "slowlog-max-len",
      {
        get: ({ slowLog }) => String(slowLog.entriesMax),
        set({ slowLog }, value) {
          if (!/^\d{1,9}$/.test(value)) return int;
          slowLog.entriesMax = Math.min(Number(value), 100_000);
          return undefined;
        },
      },
    ],
    [
      "client-output-buffer-limit",
      {
        get: ({ limits }) => `normal ${limits.outputBytesMax} 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`,
        set({ limits }, value) {
          const found = /(?:^|\s)normal\s+(\S+)\s+\S+\s+\S+/i.exec(value);
          const hard = found === null ? limits.outputBytesMax : memoryOf(found[1]!);
          if (hard === undefined) return "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
          // Redis' 0 means without limit; here there is always one.
          if (hard > 0) limits.outputBytesMax = hard;
          return undefined;
        },
      },
    ],
    [
      "requirepass",
      {
        get: () => (parts.access().required ? "(set)" : ""),
        set(_, value) {
          const fault = parts.access().setUser("default", value === "" ? ["nopass"] : ["on", "resetpass", `>${value}`]);
          return fault?.[1];
        },
      },
    ],
  ]);
  const names = [...new Set([...settings.keys(), ...parameters.keys()])].sort();

  const configGet = ({ args, session, reply }: Call): void => {
    const found = new Map<string, string>();
    for (let i = 2; i < args.count; i++) {
      const pattern = args.text(i);
      if (!/[*?[]/.test(pattern)) {
        // A plain name is answered as it was written.
        const name = pattern.toLowerCase();
        const value = parameters.get(name)?.get(session.server) ?? settings.get(name);
        if (value !== undefined) found.set(pattern, value);
        continue;
      }
      for (const name of names) {
        if (matches(pattern, name)) found.set(name, parameters.get(name)?.get(session.server) ?? settings.get(name)!);
      }
    }
    reply.map(found.size);
    for (const [name, value] of found) {
      reply.bulk(name);
      reply.bulk(value);
    }
  };

  const configSet = ({ args, session, reply }: Call): void => {
    const fail = (name: string, why: string): void => reply.error(`ERR CONFIG SET failed (possibly related to argument '${name}') - ${why}`);
    if (args.count % 2 !== 0) {
      reply.error("ERR syntax error");
      return;
    }
    const wanted: [name: string, value: string][] = [];
    for (let i = 2; i < args.count; i += 2) {
      const name = args.text(i).toLowerCase();
      if (!settings.has(name) && !parameters.has(name)) {
        reply.error(`ERR Unknown option or number of arguments for CONFIG SET - '${args.text(i)}'`);
        return;
      }
      if (immutable.has(name)) {
        fail(args.text(i), "can't set immutable config");
        return;
      }
      if (wanted.some(([other]) => other === name)) {
        fail(args.text(i), "duplicate parameter");
        return;
      }
      wanted.push([name, args.text(i + 1)]);
    }
    // All or none: what was set before a fault is put back.
    const { server } = session;
    const undo: (() => void)[] = [];
    for (const [name, value] of wanted) {
      const parameter = parameters.get(name);
      const before = parameter?.get(server) ?? settings.get(name)!;
      const fault = parameter !== undefined ? parameter.set!(server, value) : faultOf(name, value);
      if (fault !== undefined) {
        for (const back of undo) back();
        fail(name, fault);
        return;
      }
      if (parameter === undefined) {
        settings.set(name, value);
        undo.push(() => settings.set(name, before));
      } else if (name !== "requirepass") undo.push(() => parameter.set!(server, before));
    }
    reply.ok();
  };

  const info = ({ args, session, reply }: Call): void => {
    const wanted = new Set<string>();
    for (let i = 1; i < args.count; i++) wanted.add(args.text(i).toLowerCase());
    const all = wanted.has("all") || wanted.has("everything");
    const standard = wanted.size === 0 || wanted.has("default");
    const own = ownInfo(session.server, parts);
    const added = parts.info();
    let text = "";
    for (const name of sectionNames) {
      const extra = name === "Commandstats" || name === "Latencystats";
      if (!(all || (standard && !extra) || wanted.has(name.toLowerCase()))) continue;
      const lines: Record<string, string | number> = { ...own[name], ...added[name] };
      // What was added may have replaced the figure that the text was made of.
      for (const key of ["used_memory", "maxmemory"]) if (typeof lines[key] === "number") lines[`${key}_human`] = human(lines[key]);
      if (text !== "") text += "\r\n";
      text += `# ${name}\r\n`;
      for (const [key, value] of Object.entries(lines)) text += `${key}:${value}\r\n`;
    }
    reply.verbatim("txt", text);
  };

  const slowGet = ({ args, session, reply }: Call): void => {
    let count = 10;
    if (args.count === 3) {
      const given = args.integer(2);
      if (given === undefined || given < -1) {
        reply.error("ERR count should be greater than or equal to -1");
        return;
      }
      count = Number(given);
    }
    const calls = session.server.slowLog.newest(count);
    reply.array(calls.length);
    for (const call of calls) {
      reply.array(6);
      reply.integer(call.id);
      reply.integer(call.atSeconds);
      reply.integer(call.microseconds);
      reply.array(call.args.length);
      for (const arg of call.args) reply.bulk(arg);
      reply.bulk(call.client);
      reply.bulk(call.clientName);
    }
  };

  const wait = ({ args, reply }: Call): void => {
    const timeout = args.integer(2);
    if (args.integer(1) === undefined) reply.error("ERR value is not an integer or out of range");
    else if (timeout === undefined) reply.error("ERR timeout is not an integer or out of range");
    else if (timeout < 0) reply.error("ERR timeout is negative");
    // There are no replicas to wait for.
    else reply.integer(0);
  };

  const usage = ({ args, reply }: Call): void => {
    if (args.count > 3) {
      const samples = args.count === 5 && args.is(3, "SAMPLES") ? args.integer(4) : undefined;
      if (samples === undefined || samples < 0) {
        reply.error("ERR syntax error");
        return;
      }
    }
    const bytes = parts.memoryUsage(args.bytes(2));
    if (bytes === undefined) reply.nil();
    else reply.integer(bytes);
  };

  const base = { keys: undefined, group: "server" };
  const admin = { ...base, flags: ["admin", "noscript", "loading", "stale"] as const, categories: [] };
  const slowlog = { ...base, flags: ["admin", "loading", "stale"] as const, categories: [] };
  const open = { ...base, flags: ["loading", "stale"] as const, categories: [] };
  const container = (name: string, since: string, categories: readonly string[] = []): CommandSpec => ({
    ...open,
    categories,
    name: `${name}|help`,
    arity: 2,
    since,
    summary: "Lists the subcommands",
    run: (call) => helpOf(call, name),
  });
  return [
    ...commandCommands(),
    { ...admin, name: "config|get", arity: -3, since: "2.0.0", summary: "Settings by patterns", run: configGet },
    { ...admin, name: "config|set", arity: -4, since: "2.0.0", summary: "Changes settings until the server ends", run: configSet },
    {
      ...admin,
      name: "config|resetstat",
      arity: 2,
      since: "2.0.0",
      summary: "Sets the counters to zero",
      run: ({ session, reply }) => (session.server.resetStatistics(), reply.ok()),
    },
    {
      ...admin,
      name: "config|rewrite",
      arity: 2,
      since: "2.8.0",
      summary: "There is no file to rewrite",
      run: ({ reply }) => reply.error("ERR The server is running without a config file"),
    },
    container("config", "5.0.0"),
    { ...open, categories: ["dangerous"], name: "info", arity: -1, since: "1.0.0", summary: "Figures of the server", run: info },
    {
      ...open,
      flags: ["loading", "stale", "fast"],
      name: "time",
      arity: 1,
      since: "2.6.0",
      summary: "The server's time, seconds and microseconds",
      run({ session, reply }) {
        const nowMs = session.server.clock.nowMs();
        reply.array(2);
        reply.bulk(String(Math.floor(nowMs / 1000)));
        reply.bulk(String(Math.floor(nowMs % 1000) * 1000));
      },
    },
    {
      ...base,
      flags: ["noscript", "loading", "stale", "fast"],
      categories: ["admin", "dangerous"],
      name: "role",
      arity: 1,
      since: "2.8.12",
      summary: "The role in replication",
      run({ reply }) {
        reply.array(3);
        reply.bulk("master");
        reply.integer(0);
        reply.array(0);
      },
    },
    {
      ...base,
      flags: ["loading", "stale", "fast"],
      categories: ["admin", "dangerous"],
      name: "lastsave",
      arity: 1,
      since: "1.0.0",
      summary: "Up to when everything is durable",
      run: ({ reply }) => reply.integer(Math.floor(parts.lastSaveMs() / 1000)),
    },
    { ...base, flags: ["noscript"], categories: ["connection"], name: "wait", arity: 3, since: "3.0.0", summary: "Replicas that have all: none", run: wait },
    {
      ...base,
      flags: ["readonly"],
      categories: [],
      keys: { first: 2, last: 2, step: 1 },
      keyAccess: "",
      name: "memory|usage",
      arity: -3,
      since: "4.0.0",
      summary: "Bytes of a key",
      run: usage,
    },
    container("memory", "4.0.0"),
    { ...slowlog, name: "slowlog|get", arity: -2, since: "2.2.12", summary: "The slowest calls lately", run: slowGet },
    {
      ...slowlog,
      name: "slowlog|len",
      arity: 2,
      since: "2.2.12",
      summary: "How many there are",
      run: ({ session, reply }) => reply.integer(session.server.slowLog.length),
    },
    {
      ...slowlog,
      name: "slowlog|reset",
      arity: 2,
      since: "2.2.12",
      summary: "Forgets them",
      run: ({ session, reply }) => (session.server.slowLog.clear(), reply.ok()),
    },
    container("slowlog", "6.2.0"),
    { ...admin, name: "latency|latest", arity: 2, since: "2.8.13", summary: "Latency spikes: none are kept", run: ({ reply }) => reply.array(0) },
    { ...admin, name: "latency|history", arity: 3, since: "2.8.13", summary: "Latency spikes: none are kept", run: ({ reply }) => reply.array(0) },
    { ...admin, name: "latency|reset", arity: -2, since: "2.8.13", summary: "Latency spikes: none are kept", run: ({ reply }) => reply.integer(0) },
    container("latency", "2.8.13"),
    { ...admin, flags: ["admin", "noscript"], name: "module|list", arity: 2, since: "4.0.0", summary: "Modules: none", run: ({ reply }) => reply.array(0) },
    container("module", "5.0.0"),
    container("object", "6.2.0", ["keyspace"]),
  ];
}

function faultOf(name: string, value: string): string | undefined {
  if (yesNo.has(name)) return /^(?:yes|no)$/i.test(value) ? undefined : "argument must be 'yes' or 'no'";
  if (name === "appendfsync") return /^(?:always|everysec|no)$/i.test(value) ? undefined : `${enumFault}everysec, always, no`;
  if (name === "maxmemory") return memoryOf(value) === undefined ? "argument must be a memory value" : undefined;
  if (/^-?\d+$/.test(inert[name]!)) return /^-?\d{1,15}$/.test(value) ? undefined : int;
  return undefined;
}

const sectionNames = [
  "Server",
  "Clients",
  "Memory",
  "Persistence",
  "Stats",
  "Replication",
  "CPU",
  "Modules",
  "Commandstats",
  "Errorstats",
  "Latencystats",
  "Cluster",
  "Keyspace",
] as const;

/** What the server itself knows for INFO. */
function ownInfo(server: ServerFace, parts: ServerParts): Readonly<Record<string, Record<string, string | number>>> {
  const { metrics, limits, clock } = server;
  const nowMs = clock.nowMs();
  const uptime = Math.max(0, Math.floor((nowMs - server.startedMs) / 1000));
  let waitingBytes = 0;
  for (const session of server.sessions.values()) waitingBytes += session.outputBytes + session.inputRoom;
  const commandStats: Record<string, string> = {};
  for (const { spec, calls, microseconds, rejected, failed } of server.commands.entries) {
    if (calls + rejected === 0) continue;
    const us = Math.round(microseconds);
    commandStats[`cmdstat_${spec.name}`] =
      `calls=${calls},usec=${us},usec_per_call=${(calls === 0 ? 0 : us / calls).toFixed(2)},rejected_calls=${rejected},failed_calls=${failed}`;
  }
  const errorStats: Record<string, string> = {};
  for (const [word, count] of metrics.errorsByCode) errorStats[`errorstat_${word}`] = `count=${count}`;
  return {
    Server: {
      redis_version: redisVersion,
      redis_mode: "standalone",
      millrace_version: parts.version,
      arch_bits: 64,
      process_id: parts.processId,
      run_id: parts.runId,
      tcp_port: server.port,
      server_time_usec: nowMs * 1000,
      uptime_in_seconds: uptime,
      uptime_in_days: Math.floor(uptime / 86_400),
      config_file: "",
    },
    Clients: {
      connected_clients: server.sessions.size,
      cluster_connections: 0,
      maxclients: limits.connectionsMax,
      blocked_clients: 0,
      tracking_clients: 0,
    },
    Memory: {
      used_memory: waitingBytes,
      used_memory_human: human(waitingBytes),
      mem_clients_normal: waitingBytes,
      maxmemory: 0,
      maxmemory_human: "0B",
      maxmemory_policy: "noeviction",
    },
    Persistence: { loading: 0, async_loading: 0, rdb_bgsave_in_progress: 0, aof_enabled: 0 },
    Stats: {
      total_connections_received: metrics.connections,
      total_commands_processed: metrics.commands,
      instantaneous_ops_per_sec: metrics.commandsPerSecond,
      total_net_input_bytes: metrics.bytesIn,
      total_net_output_bytes: metrics.bytesOut,
      rejected_connections: metrics.connectionsRefused,
      expired_keys: 0,
      evicted_keys: 0,
      keyspace_hits: 0,
      keyspace_misses: 0,
      pubsub_channels: 0,
      pubsub_patterns: 0,
      total_error_replies: metrics.errorReplies,
      acl_access_denied_auth: metrics.authFailures,
      acl_access_denied_cmd: metrics.rightsFailures,
      client_output_buffer_limit_disconnections: metrics.closedForOutput,
      client_query_buffer_limit_disconnections: metrics.closedForInput,
      protocol_errors: metrics.protocolErrors,
    },
    Replication: { role: "master", connected_slaves: 0, master_repl_offset: 0 },
    CPU: {},
    Modules: {},
    Commandstats: commandStats,
    Errorstats: errorStats,
    Latencystats: {},
    Cluster: { cluster_enabled: 0 },
    Keyspace: {},
  };
}

// --- COMMAND

/** COMMAND and its subcommands: what the command table says of itself. */
function commandCommands(): CommandSpec[] {
  const base = { flags: ["loading", "stale"] as const, categories: ["connection"], keys: undefined, group: "server" };
  const all = ({ session, reply }: Call): void => {
    const { top } = session.server.commands;
    reply.array(top.length);
    for (const entry of top) writeInfo(reply, entry, session.server);
  };
  const info = (call: Call): void => {
    const { args, session, reply } = call;
    if (args.count === 2) {
      all(call);
      return;
    }
    reply.array(args.count - 2);
    for (let i = 2; i < args.count; i++) {
      const entry = session.server.commands.byName.get(args.text(i).toLowerCase());
      if (entry === undefined) reply.nil();
      else writeInfo(reply, entry, session.server);
    }
  };
  const docs = ({ args, session, reply }: Call): void => {
    const { top, byName } = session.server.commands;
    const wanted: CommandEntry[] = [];
    if (args.count === 2) wanted.push(...top);
    for (let i = 2; i < args.count; i++) {
      const entry = byName.get(args.text(i).toLowerCase());
      if (entry !== undefined && !wanted.includes(entry)) wanted.push(entry);
    }
    reply.map(wanted.length);
    for (const entry of wanted) writeDocs(reply, entry, session.server);
  };
  const list = ({ args, session, reply }: Call): void => {
    let test = (entry: CommandEntry): boolean => entry.container === undefined;
    if (args.count > 2) {
      if (args.count !== 5 || !args.is(2, "FILTERBY")) {
        reply.error("ERR syntax error");
        return;
      }
      const value = args.text(4);
      if (args.is(3, "MODULE")) test = () => false;
      else if (args.is(3, "ACLCAT")) test = ({ categories, subcommands }) => subcommands === undefined && categories.has(value.toLowerCase());
      else if (args.is(3, "PATTERN")) test = ({ spec }) => matches(value, spec.name);
      else {
        reply.error("ERR syntax error");
        return;
      }
    }
    const found = session.server.commands.entries.filter(test);
    reply.array(found.length);
    for (const { spec } of found) reply.bulk(spec.name);
  };
  const keysOf = (call: Call, withFlags: boolean): void => {
    const { args, session, reply } = call;
    const words: Uint8Array[] = [];
    for (let i = 2; i < args.count; i++) words.push(args.bytes(i));
    const given = RespArgs.of(words);
    let entry = session.server.commands.find(given.buffer, given.start(0), given.end(0));
    if (entry?.subcommands !== undefined && given.count > 1) entry = entry.subcommands.find(given.buffer, given.start(1), given.end(1));
    if (entry === undefined) {
      reply.error("ERR Invalid command specified");
      return;
    }
    const { spec } = entry;
    if (spec.keys === undefined) reply.error("ERR The command has no key arguments");
    else if (spec.arity < 0 ? given.count < -spec.arity : given.count !== spec.arity) {
      reply.error("ERR Invalid number of arguments specified for command");
    } else {
      const keys = keyArguments(spec, given);
      if (keys.length === 0) {
        reply.error("ERR Invalid arguments specified for command");
        return;
      }
      reply.array(keys.length);
      for (const i of keys) {
        if (!withFlags) {
          reply.bulk(given.bytes(i));
          continue;
        }
        reply.array(2);
        reply.bulk(given.bytes(i));
        writeWords(reply, accessWords(spec, given, i));
      }
    }
  };
  return [
    { ...base, name: "command", arity: -1, since: "2.8.13", summary: "All commands, as Redis describes them", run: all },
    {
      ...base,
      name: "command|count",
      arity: 2,
      since: "2.8.13",
      summary: "How many there are",
      run: ({ session, reply }) => reply.integer(session.server.commands.top.length),
    },
    { ...base, name: "command|info", arity: -2, since: "2.8.13", summary: "Some commands, as Redis describes them", run: info },
    { ...base, name: "command|docs", arity: -2, since: "7.0.0", summary: "Documentation of commands", run: docs },
    { ...base, name: "command|list", arity: -2, since: "7.0.0", summary: "Names of commands", run: list },
    { ...base, name: "command|getkeys", arity: -4, since: "2.8.13", summary: "The keys of a call", run: (call) => keysOf(call, false) },
    {
      ...base,
      name: "command|getkeysandflags",
      arity: -4,
      since: "7.0.0",
      summary: "The keys of a call and what it does with them",
      run: (call) => keysOf(call, true),
    },
    { ...base, name: "command|help", arity: 2, since: "5.0.0", summary: "Lists the subcommands", run: (call) => helpOf(call, "command") },
  ];
}

function writeWords(reply: Reply, words: readonly string[]): void {
  reply.set(words.length);
  for (const word of words) reply.simple(word);
}

const wordsOfAccess: Readonly<Record<KeyAccess, readonly string[]>> = {
  R: ["RO", "access"],
  W: ["OW", "update"],
  RW: ["RW", "access", "update"],
  "": ["RO"],
};

function accessWords(spec: CommandSpec, args: Args | undefined, i: number): readonly string[] {
  const { keyAccess } = spec;
  const usual = spec.flags.includes("write") ? "RW" : "R";
  if (typeof keyAccess === "function") return wordsOfAccess[args === undefined ? usual : keyAccess(args, i)];
  return wordsOfAccess[keyAccess ?? usual];
}

function writeInfo(reply: Reply, entry: CommandEntry, server: ServerFace): void {
  const { spec } = entry;
  const { keys } = spec;
  const range = typeof keys === "object" ? keys : undefined;
  reply.array(10);
  reply.bulk(spec.name);
  reply.integer(spec.arity);
  writeWords(reply, [...spec.flags, ...(typeof keys === "function" ? ["movablekeys"] : [])]);
  reply.integer(range?.first ?? 0);
  reply.integer(range?.last ?? 0);
  reply.integer(range?.step ?? 0);
  writeWords(
    reply,
    [...entry.categories].map((name) => `@${name}`),
  );
  reply.array(0);
  if (range === undefined) reply.array(0);
  else {
    reply.array(1);
    reply.map(3);
    reply.bulk("flags");
    writeWords(reply, accessWords(spec, undefined, range.first));
    reply.bulk("begin_search");
    reply.map(2);
    reply.bulk("type");
    reply.bulk("index");
    reply.bulk("spec");
    reply.map(1);
    reply.bulk("index");
    reply.integer(range.first);
    reply.bulk("find_keys");
    reply.map(2);
    reply.bulk("type");
    reply.bulk("range");
    reply.bulk("spec");
    reply.map(3);
    reply.bulk("lastkey");
    reply.integer(range.last < 0 ? range.last : range.last - range.first);
    reply.bulk("keystep");
    reply.integer(range.step);
    reply.bulk("limit");
    reply.integer(0);
  }
  const subs = entry.subcommands === undefined ? [] : server.commands.entries.filter((one) => one.container === spec.name);
  reply.array(subs.length);
  for (const sub of subs) writeInfo(reply, sub, server);
}

function writeDocs(reply: Reply, entry: CommandEntry, server: ServerFace): void {
  const { spec } = entry;
  const subs = entry.subcommands === undefined ? [] : server.commands.entries.filter((one) => one.container === spec.name);
  reply.bulk(spec.name);
  reply.map(subs.length > 0 ? 4 : 3);
  for (const [name, value] of [
    ["summary", spec.summary ?? ""],
    ["since", spec.since ?? "1.0.0"],
    ["group", spec.group ?? "generic"],
  ] as const) {
    reply.bulk(name);
    reply.bulk(value);
  }
  if (subs.length > 0) {
    reply.bulk("subcommands");
    reply.map(subs.length);
    for (const sub of subs) writeDocs(reply, sub, server);
  }
}
