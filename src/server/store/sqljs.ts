import { createHash } from 'node:crypto'
import { closeSync, openSync } from 'node:fs'
import initSqlJs, { type Database as SqlFile } from 'sql.js'
import { hostCalls } from './hostfs.ts'

/** The very module whose import names stand below; another version has other names. */
const wasmSha256 = '43bbcdd44287e5a2db3b6b5af34b1a3485a7a441285d247976c1ebe3c61f8dbf'

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
  stringToNewUTF8: (text: string) => number
  _free: (pointer: number) => void
}

/**
 * Opens a database file with unmodified sql.js, page by page (see hostfs.ts).
 * @param path absolute path of the database
 * @param wasm the bytes of sql.js's sql-wasm.wasm
 * @throws Error where the file cannot be opened, or the module is not the one we know
 */
export async function openSqlFile(path: string, wasm: Uint8Array): Promise<SqlFile> {
  if (createHash('sha256').update(wasm).digest('hex') !== wasmSha256) {
    throw new Error('sql-wasm.wasm is not that of sql.js 1.16.0; refusing to write a database with it')
  }
  closeSync(openSync(path, 'a', 0o600)) // SQLite would call every trouble with the path "out of memory"
  let memory: WebAssembly.Memory | undefined
  const module: Partial<EmscriptenModule> & Record<string, unknown> = {
    useOldExtensionFunctions: false,
    instantiateWasm(
      imports: Imports,
      done: (instance: WebAssembly.Instance, module: WebAssembly.Module) => void,
    ) {
      replaceCalls(imports, () => memory ?? new WebAssembly.Memory({ initial: 0 }))
      const compiled = new WebAssembly.Module(new Uint8Array(wasm))
      const instance = new WebAssembly.Instance(compiled, imports)
      memory = Object.values(instance.exports).find((item) => item instanceof WebAssembly.Memory)
      done(instance, compiled)
      return {}
    },
    preRun: [() => openAt(module as EmscriptenModule, path)], // Emscripten has filled it in by then
  }
  const SQL = await initSqlJs(module)
  return new SQL.Database([]) // [] makes the scratch file that close() removes; what is opened is `path`
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
