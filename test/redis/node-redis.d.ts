// node-redis as the tests use it, versions 4, 5 and 6 alike. Why not the packages' own types: their commands by module and protocol take the compiler minutes and gigabytes.

interface NodeRedisTransaction {
  set(key: string, value: string): NodeRedisTransaction;
  get(key: string): NodeRedisTransaction;
  exec(): Promise<unknown[]>;
}

interface NodeRedis {
  connect(): Promise<unknown>;
  quit(): Promise<unknown>;
  destroy(): void;
  on(event: "error", run: (error: Error) => void): unknown;
  flushAll(): Promise<unknown>;
  set(key: string, value: string, options?: { EX?: number; NX?: boolean }): Promise<unknown>;
  get(key: string): Promise<unknown>;
  incrBy(key: string, by: number): Promise<unknown>;
  incrByFloat(key: string, by: number): Promise<unknown>;
  hSet(key: string, fields: Record<string, string>): Promise<unknown>;
  hGet(key: string, field: string): Promise<unknown>;
  hGetAll(key: string): Promise<Record<string, unknown>>;
  hmGet(key: string, fields: string[]): Promise<unknown>;
  mGet(keys: string[]): Promise<unknown>;
  multi(): NodeRedisTransaction;
  keys(pattern: string): Promise<unknown[]>;
  exists(keys: string[]): Promise<unknown>;
  type(key: string): Promise<unknown>;
  sendCommand(args: string[]): Promise<unknown>;
}

interface NodeRedisOptions {
  url: string;
  username?: string;
  password?: string;
  name?: string;
  socket?: { reconnectStrategy?: false };
}

declare module "redis" {
  export function createClient(options: NodeRedisOptions): NodeRedis;
}

declare module "redis4" {
  export function createClient(options: NodeRedisOptions): NodeRedis;
}

declare module "redis5" {
  export function createClient(options: NodeRedisOptions): NodeRedis;
}
