/** Upstream's daemon, started as its own unit would: on a free port, in a folder of its own. */
import type { ChildProcess } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
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
 * @throws Error with what it printed where it does not within 20 seconds
 */
export async function startDaemon(
  command: Peers['command'],
  { folder, env, signupSecret }: DaemonOptions,
): Promise<Daemon> {
  const host = `127.0.0.1:${await freePort()}`
  const config = join(folder, 'rebuilderd.conf')
  const cookieFile = join(folder, 'their-cookie')
  const home = join(folder, 'their-daemon')
  await mkdir(home)
  await writeFile(config, `[http]\nbind_addr = "${host}"\n[worker]\nsignup_secret = "${signupSecret}"\n`)
  const [file, args] = command('rebuilderd', ['-c', config])
  const { child, printed, stop } = started(file, args, home, { ...env, REBUILDERD_COOKIE_PATH: cookieFile })
  const address = `http://${host}`
  for (let tries = 0; tries < 400; tries++) {
    const isUp = await fetch(`${address}/api/v1/dashboard`).then(
      (reply) => reply.ok,
      () => false,
    )
    if (isUp) return { address, cookieFile, child, printed, stop }
    await sleep(250)
  }
  await stop()
  throw new Error(`upstream's daemon did not answer: ${printed()}`)
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address !== null ? address.port : 0
}
