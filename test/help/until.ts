import assert from 'node:assert/strict'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Milliseconds that only what hangs takes, however much else a machine does: they end a wait, and measure nothing. */
export const patienceMilliseconds = 5 * 60_000
/** The same for limits in seconds, such as that of a build which is meant to end. */
export const patienceSeconds = 4 * (patienceMilliseconds / 1000)

/**
 * Asks until it is so, or until there is something.
 * @returns the first answer that is neither false nor null nor undefined
 */
export async function until<T>(
  ask: () => T | Promise<T>,
  what: string | (() => string) = 'it',
): Promise<Exclude<T, false | null | undefined>> {
  const end = performance.now() + patienceMilliseconds
  for (;;) {
    const answer = await ask()
    if (answer !== false && answer !== null && answer !== undefined)
      return answer as Exclude<T, false | null | undefined> // as was just seen
    if (performance.now() > end)
      assert.fail(`${typeof what === 'string' ? what : what()} did not happen within minutes`)
    await sleep(10)
  }
}

/**
 * Waits until a file of so many bytes or more lies in the folder: what was sent has been taken and kept.
 * @param named what its name holds, where others lie there
 */
export async function untilKept(folder: string, bytes: number, named = ''): Promise<void> {
  await until(async () => {
    const all = await readdir(folder, { recursive: true })
    const files = all.filter((name) => name.includes(named))
    const sizes = await Promise.all(files.map((name) => stat(join(folder, name)).catch(() => null)))
    return sizes.some((file) => file !== null && file.isFile() && file.size >= bytes)
  }, `that ${bytes} bytes are kept`)
}

/** Shell line that waits until there is such a file: how a test lets a build go on. */
export const untilThere = (path: string): string => `while [ ! -e '${path}' ]; do sleep 0.05; done`

/**
 * Tries what has to happen before a limit in seconds that always runs out, with larger limits until it does.
 * @returns the first outcome with which that is so, or the last one
 */
export async function withinLimit<T>(
  attempt: (seconds: number) => Promise<T>,
  isSo: (outcome: T) => boolean,
): Promise<T> {
  for (let seconds = 1; ; seconds *= 3) {
    const outcome = await attempt(seconds)
    if (isSo(outcome) || seconds > 100) return outcome
  }
}
