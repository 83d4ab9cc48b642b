import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

/** The program as it is shipped, made for this run: it starts in a third of the time that the source tree takes. */
export async function withScript<T>(work: (script: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-script-'))
  try {
    const build = fileURLToPath(new URL('../../build.mjs', import.meta.url))
    await promisify(execFile)(process.execPath, [build, '--script', '--out', folder])
    return await work(join(folder, 'rebuilderd.mjs'))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
