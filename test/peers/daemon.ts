/** Upstream's daemon, started as its own unit would: on a free port, in a folder of its own. */
import type { ChildProcess } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { aLastingPort } from '../help/ports.ts'
import { until } from '../help/until.ts'
import { started, type Peers } from './root.ts'

export type Daemon = {
  /** With http:// in front. */
  address: string
  /** The administrators' secret is in there. */
  cookieFile: string
  child: ChildProcess
  /** What it wrote so far. */
  printed: () => string
  stop: () => Promise<void>
}

type DaemonOptions = {
  /** Its configuration, its cookie and, in `their-daemon`, its database are kept here. */
  folder: string
  env: Record<string, string>
  signupSecret: string
}

/**
 * Starts it and waits until it answers.
 * @throws Error with what it printed where it ends before, or never does
 */
export async function startDaemon(
  command: Peers['command'],
  { folder, env, signupSecret }: DaemonOptions,
): Promise<Daemon> {
  const host = `127.0.0.1:${await aLastingPort()}`
  const config = join(folder, 'rebuilderd.conf')
  const cookieFile = join(folder, 'their-cookie')
  const home = join(folder, 'their-daemon')
  await mkdir(home)
  await writeFile(config, `[http]\nbind_addr = "${host}"\n[worker]\nsignup_secret = "${signupSecret}"\n`)
  const [file, args] = command('rebuilderd', ['-c', config])
  const { child, printed, stop } = started(file, args, home, { ...env, REBUILDERD_COOKIE_PATH: cookieFile })
  const address = `http://${host}`
  const isUp = (): Promise<boolean> =>
    fetch(`${address}/api/v1/dashboard`).then(
      (reply) => reply.ok,
      () => false,
    )
  try {
    await until(async () => child.exitCode !== null || (await isUp()), "that upstream's daemon answers")
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`)
  } catch (error) {
    await stop()
    throw new Error(`upstream's daemon did not answer: ${printed()}`, { cause: error })
  }
  return { address, cookieFile, child, printed, stop }
}
