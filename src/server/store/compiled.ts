import { createHash } from 'node:crypto'
import { asset } from '../../assets.ts'

/** The very module whose import names sqljs.ts knows; another version has other names. */
const wasmSha256 = '43bbcdd44287e5a2db3b6b5af34b1a3485a7a441285d247976c1ebe3c61f8dbf'

let compiled: WebAssembly.Module | undefined

/**
 * SQLite as machine code, for any thread of this process. It is made once: what V8 has found to be worth its best
 * compiler stays so for all databases that are opened later, too.
 * @throws Error where the program carries another sql.js than the one we know
 */
export function compiledSqlite(): WebAssembly.Module {
  return (compiled ??= compile(asset('sql-wasm.wasm')))
}

function compile(wasm: Uint8Array): WebAssembly.Module {
  if (createHash('sha256').update(wasm).digest('hex') !== wasmSha256)
    throw new Error('sql-wasm.wasm is not that of sql.js 1.16.0; refusing to write a database with it')
  return new WebAssembly.Module(new Uint8Array(wasm))
}
