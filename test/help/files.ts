import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** An empty folder that is gone when the test is. */
export async function aFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-test-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

type Answer = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>

/** A server on a free port of the loopback device; gone when the test is. @returns its address without a slash */
export async function aServer(t: TestContext, answer: Answer): Promise<string> {
  const server = createServer((request, response) => {
    Promise.resolve(answer(request, response)).catch((error: unknown) => response.destroy(error as Error))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Serves these files by path, as a mirror does. */
export function files(content: Readonly<Record<string, string | Uint8Array>>): Answer {
  return (request, response) => {
    const found = content[new URL(request.url ?? '/', 'http://localhost').pathname]
    response.statusCode = found === undefined ? 404 : 200
    response.end(found)
  }
}

/** Puts a program of ours under that name before all others in PATH: the folder it lies in. */
export async function aStandIn(t: TestContext, name: string, script: string): Promise<string> {
  const [folder, { PATH = '' }] = [await aFolder(t), process.env]
  t.after(() => (process.env['PATH'] = PATH))
  await writeFile(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  process.env['PATH'] = `${folder}:${PATH}`
  return folder
}
