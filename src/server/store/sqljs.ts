import { closeSync, openSync } from 'node:fs'
import initSqlJs, { type Database as SqlFile, type Statement } from 'sql.js'
import type { Value } from './database.ts'
import { hostCalls } from './hostfs.ts'

/** Names of the imports of sql.js 1.16.0, which its build minifies, by Emscripten's names. */
const importNames: Readonly<Record<string, string>> = {
  i: '__syscall_chmod',
  D: '__syscall_faccessat',
  j: '__syscall_fchmod',
  h: '__syscall_fchown32',
  b: '__syscall_fcntl64',
  g: '__syscall_fstat64',
  J: '__syscall_ftruncate64',
  M: '__syscall_lstat64',
  C: '__syscall_mkdirat',
  L: '__syscall_newfstatat',
  x: '__syscall_openat',
  s: '__syscall_readlinkat',
  r: '__syscall_rmdir',
  N: '__syscall_stat64',
  o: '__syscall_unlinkat',
  n: '__syscall_utimensat',
  y: '_mmap_js',
  e: 'fd_close',
  m: 'fd_fdstat_get',
  t: 'fd_read',
  E: 'fd_seek',
  K: 'fd_sync',
  q: 'fd_write',
}

type Imports = Record<string, Record<string, (...args: number[]) => number>>
type EmscriptenModule = {
  _sqlite3_open: (path: number, result: number) => number
  _sqlite3_prepare_v2: (file: number, text: number, length: number, result: number, rest: number) => number
  _sqlite3_bind_text: (
    statement: number,
    place: number,
    text: number,
    length: number,
    destructor: number,
  ) => number
  _sqlite3_bind_int: (statement: number, place: number, value: number) => number
  _sqlite3_bind_double: (statement: number, place: number, value: number) => number
  _sqlite3_bind_blob: (
    statement: number,
    place: number,
    bytes: number,
    length: number,
    destructor: number,
  ) => number
  _sqlite3_column_text: (statement: number, column: number) => number
  _sqlite3_column_bytes: (statement: number, column: number) => number
  stringToNewUTF8: (text: string) => number
  _malloc: (size: number) => number
  _free: (pointer: number) => void
}

/**
 * Prepares a statement. `bind` gives it values, which last until it is reset; `bytes` copies the first value of the row it
 * is at, as UTF-8: a long text that only goes elsewhere need not become one of ours.
 */
export type Prepare = (text: string) => {
  statement: Statement
  bind: (values: readonly Value[]) => void
  bytes: () => Uint8Array
}
/** An open file, and a way to give statements their values that takes a third of the time of sql.js's own. */
export type OpenFile = { file: SqlFile; prepare: Prepare }

/**
 * Opens a database file with unmodified sql.js, page by page (see hostfs.ts).
 * @param path absolute path of the database
 * @param sqlite see compiled.ts
 * @throws Error where the file cannot be opened
 */
export async function openSqlFile(path: string, sqlite: WebAssembly.Module): Promise<OpenFile> {
  closeSync(openSync(path, 'a', 0o600)) // SQLite would call every trouble with the path "out of memory"
  const { SQL, module, bytes, prepared } = await (loading ??= load(path, sqlite))
  const file = new SQL.Database([]) // [] makes the scratch file that close() removes; what is opened is `path`
  const bind = binder(module, bytes)
  return {
    file,
    prepare(text) {
      const statement = file.prepare(text)
      const pointer = prepared()
      const first = (): Uint8Array => {
        const at = module._sqlite3_column_text(pointer, 0) // before its length is asked for, as it may be converted
        return bytes().slice(at, at + module._sqlite3_column_bytes(pointer, 0))
      }
      return { statement, bind: (values) => bind(statement, pointer, values), bytes: first }
    },
  }
}

type Loaded = {
  SQL: Awaited<ReturnType<typeof initSqlJs>>
  module: EmscriptenModule
  bytes: () => Uint8Array
  /** Where the statement is that was prepared last. */
  prepared: () => number
}
/** There is one sql.js in a thread, which was told once which file to open. */
let loading: Promise<Loaded> | undefined

async function load(path: string, sqlite: WebAssembly.Module): Promise<Loaded> {
  let memory: WebAssembly.Memory | undefined
  let prepared = 0
  const module: Partial<EmscriptenModule> & Record<string, unknown> = {
    useOldExtensionFunctions: false,
    instantiateWasm(
      imports: Imports,
      done: (instance: WebAssembly.Instance, module: WebAssembly.Module) => void,
    ) {
      replaceCalls(imports, () => memory ?? new WebAssembly.Memory({ initial: 0 }))
      const instance = new WebAssembly.Instance(sqlite, imports)
      memory = Object.values(instance.exports).find((item) => item instanceof WebAssembly.Memory)
      done(instance, sqlite)
      return {}
    },
    preRun: [
      () => {
        openAt(module as EmscriptenModule, path) // Emscripten has filled it in by then
        tellPrepared(module as EmscriptenModule, (at) => (prepared = viewOf(memory).getInt32(at, true)))
      },
    ],
  }
  const SQL = await initSqlJs(module)
  return {
    SQL,
    module: module as EmscriptenModule,
    bytes: () => new Uint8Array(viewOf(memory).buffer),
    prepared: () => prepared,
  }
}

function viewOf(memory: WebAssembly.Memory | undefined): DataView {
  return new DataView(memory?.buffer ?? new ArrayBuffer(0))
}

function replaceCalls(imports: Imports, memory: () => WebAssembly.Memory): void {
  const calls = hostCalls(memory)
  const missing = new Set(Object.keys(calls))
  for (const group of Object.values(imports)) {
    for (const [short, original] of Object.entries(group)) {
      const name = importNames[short] ?? ''
      const wrap = calls[name]
      if (wrap === undefined) continue
      group[short] = wrap(original)
      missing.delete(name)
    }
  }
  if (missing.size > 0) throw new Error(`sql.js does not import ${[...missing].join(', ')}`)
}

/** Tells where SQLite writes the address of each statement that it prepares: sql.js keeps it to itself. */
function tellPrepared(module: EmscriptenModule, tell: (result: number) => void): void {
  const prepare = module._sqlite3_prepare_v2
  module._sqlite3_prepare_v2 = (file, text, length, result, rest) => {
    const code = prepare(file, text, length, result, rest)
    tell(result)
    return code
  }
}

/** Bytes of values that are written at once; longer ones are left to sql.js. */
const roomForValues = 1024 * 1024

/**
 * Writes all texts of a statement into SQLite's memory in one go, and tells it where each is. sql.js goes through every
 * text three times, letter by letter.
 */
function binder(module: EmscriptenModule, bytes: () => Uint8Array) {
  const encoder = new TextEncoder()
  const room = module._malloc(roomForValues)
  const encoded = (text: string, at: number): number =>
    encoder.encodeInto(text, bytes().subarray(at, room + roomForValues)).written

  return (statement: Statement, pointer: number, values: readonly Value[]): void => {
    const texts = values.filter((value) => typeof value === 'string').join('')
    if (3 * texts.length > roomForValues) return void statement.bind(values as Value[])
    const isPlain = encoded(texts, room) === texts.length
    let at = room
    const place = (value: Value, index: number): number => {
      if (value === null) return module._sqlite3_bind_blob(pointer, index, 0, 0, 0) // no bytes at all are NULL
      if (typeof value === 'number')
        return value === (value | 0)
          ? module._sqlite3_bind_int(pointer, index, value)
          : module._sqlite3_bind_double(pointer, index, value)
      const length = isPlain ? value.length : encoded(value, at)
      at += length
      return module._sqlite3_bind_text(pointer, index, at - length, length, 0) // 0: it stays where it is
    }
    for (const [index, value] of values.entries()) {
      const code = place(value, index + 1)
      if (code !== 0) throw new Error(`SQLite does not take value ${index + 1} of a statement (${code})`)
    }
  }
}

/** sql.js opens a scratch file of its own name; ours is put in its place. */
function openAt(module: EmscriptenModule, path: string): void {
  const open = module._sqlite3_open
  module._sqlite3_open = (_path, result) => {
    const ours = module.stringToNewUTF8(path)
    try {
      return open(ours, result)
    } finally {
      module._free(ours)
    }
  }
}
