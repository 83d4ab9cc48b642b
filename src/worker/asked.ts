import { randomUUID } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * The name under which work is asked for, kept on disk: a worker that is killed between the server's answer and its
 * own note of the job asks again under the same name, and gets the same job.
 */
export type Asked = {
  /** The same until it was answered with a job. */
  name: () => Promise<string>
  /** The job is written down: the next question needs another name. */
  answered: () => void
}

const file = 'asked'
const form = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/**
 * @param directory the worker's state folder
 * @param leases names of jobs that a worker before us is known to have held
 */
export async function openAsked(directory: string, leases: readonly string[]): Promise<Asked> {
  const path = join(directory, file)
  const kept = (await readFile(path, 'utf8').catch(() => '')).trim()
  let pending = Promise.resolve(form.test(kept) && !leases.includes(kept) ? kept : null)
  return {
    async name() {
      const name = (await pending) ?? (await written(path))
      pending = Promise.resolve(name)
      return name
    },
    answered() {
      pending = written(path).catch(() => null) // while the job is worked on; whoever asks next tries again
    },
  }
}

/** Whole or not at all. */
async function written(path: string): Promise<string> {
  const name = randomUUID()
  await writeFile(`${path}.part`, name, { mode: 0o600 })
  await rename(`${path}.part`, path)
  return name
}
