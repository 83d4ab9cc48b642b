import assert from 'node:assert/strict'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Waits until it is so: as long as a loaded machine may need, and no longer. */
async function until(isSo: () => boolean | Promise<boolean>, what = 'it'): Promise<void> {
  const end = performance.now() + 60_000
  while (!(await isSo())) {
    assert.ok(performance.now() < end, `${what} did not happen within a minute`)
    await sleep(10)
  }
}

/** Waits until a file of so many bytes or more lies in the folder: what was sent has been taken and kept. */
export async function untilKept(folder: string, bytes: number): Promise<void> {
  await until(async () => {
    const files = await readdir(folder, { recursive: true })
    const sizes = await Promise.all(files.map((name) => stat(join(folder, name)).catch(() => null)))
    return sizes.some((file) => file !== null && file.isFile() && file.size >= bytes)
  }, `that ${bytes} bytes are kept`)
}
