import { readFileSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import {
  getEnvironmentData,
  isMainThread,
  setEnvironmentData,
  Worker,
  type ResourceLimits,
  type Transferable,
} from 'node:worker_threads'
import { brotliDecompressSync } from 'node:zlib'
import { Complaint } from './errors.ts'

/** Put in by build.mjs: the bytes of every asset as base64 by name. In the source tree there is no such thing. */
declare const CARRIED_ASSETS: Readonly<Record<string, string>>

type Carried = Readonly<Record<string, string>>

/** Threads by name: the module each one runs, below src. */
export const threads = {
  database: 'server/thread.ts',
  hash: 'worker/hash-thread.ts',
  import: 'server/import-thread.ts',
  sync: 'cmd/sync-thread.ts',
} as const
type ThreadName = keyof typeof threads

/** Threads that use assets: each of them gets a copy of all. */
const users: ReadonlySet<ThreadName> = new Set(['database'])

/** Where assets lie in the source tree: a folder, and the names found in it that are assets. */
const folders = [
  {
    prefix: 'backends/',
    folder: new URL('./worker/backends/', import.meta.url),
    wanted: /^[\w-]+\.(sh|pl)$/,
  },
  { prefix: '', folder: new URL('./worker/', import.meta.url), wanted: /^log-rules\.toml$/ },
  { prefix: '', folder: new URL('./server/web/', import.meta.url), wanted: /^[\w-]+\.(css|svg|js|txt)$/ },
  {
    prefix: '',
    folder: new URL('../node_modules/sql.js/dist/', import.meta.url),
    wanted: /^sql-wasm\.wasm$/,
  },
] as const

/** How a thread of the one-file program finds what its main thread carries. */
const carriedKey = 'rebuilderd assets'

/**
 * The bytes of a file that belongs to the program: `sql-wasm.wasm`, `backends/debian.sh`, `style.css`.
 * Read from the source tree, or from inside the one-file program.
 * @throws Complaint where there is no such asset
 */
export function asset(name: string): Uint8Array {
  const inside = carried()
  if (inside === undefined) return readFileSync(sourceOf(name))
  const text = inside[name]
  if (text === undefined || !Object.hasOwn(inside, name)) throw unknownAsset(name)
  return Buffer.from(text, 'base64')
}

/** An asset as text (UTF-8). */
export function assetText(name: string): string {
  return new TextDecoder().decode(asset(name))
}

/** What `LICENSES.txt` has, made by build.mjs; undefined in the source tree, where each package has its own. */
export function licenceTexts(): string | undefined {
  const packed = carried()?.['LICENSES.txt.br']
  return packed === undefined ? undefined : brotliDecompressSync(Buffer.from(packed, 'base64')).toString()
}

/** Names of all assets, sorted. */
export function assetNames(): string[] {
  const inside = carried()
  const names = inside === undefined ? folders.flatMap(namesIn) : Object.keys(inside)
  return names.filter((name) => !name.endsWith('.br')).sort()
}

/**
 * Starts one of the program's threads (nodejs.org/api/worker_threads.html); the caller ends it.
 * @param workerData what the thread finds as `workerData`
 * @param moved what of it is handed over, not copied
 * @param resourceLimits memory that it may need
 */
export function startThread(
  name: ThreadName,
  workerData: unknown,
  moved: readonly Transferable[] = [],
  resourceLimits: ResourceLimits = {},
): Worker {
  const inside = carried()
  const options = { workerData, transferList: [...moved], resourceLimits }
  if (inside === undefined) return new Worker(new URL(threads[name], import.meta.url), options)
  if (users.has(name)) setEnvironmentData(carriedKey, inside)
  const script = brotliDecompressSync(asset(`threads/${name}.cjs.br`)).toString()
  return new Worker(script, { eval: true, name, ...options })
}

/** What the one-file program carries; undefined in the source tree. */
function carried(): Carried | undefined {
  if (typeof CARRIED_ASSETS === 'undefined') return undefined
  return isMainThread ? CARRIED_ASSETS : (getEnvironmentData(carriedKey) as Carried) // set by startThread
}

type Folder = (typeof folders)[number]

function sourceOf(name: string): string {
  for (const { prefix, folder, wanted } of folders) {
    const file = name.slice(prefix.length)
    if (name.startsWith(prefix) && wanted.test(file)) return fileURLToPath(new URL(file, folder))
  }
  throw unknownAsset(name)
}

function namesIn({ prefix, folder, wanted }: Folder): string[] {
  return readdirSync(folder)
    .filter((file) => wanted.test(file))
    .map((file) => prefix + file)
}

function unknownAsset(name: string): Complaint {
  return new Complaint(`the program carries no file ${name}`, { hint: 'this copy of rebuilderd is damaged' })
}
