import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { resolve, sep } from 'node:path'
import { pipeline } from 'node:stream/promises'

type FileServer = { address: string; close: () => Promise<void> }

/** Serves the files below a folder on a free loopback port, as a mirror does. */
export async function serveFolder(folder: string): Promise<FileServer> {
  const server = createServer((request, response) => {
    answer(folder, request, response).catch(() => response.destroy())
  })
  await new Promise<void>((ready, failed) => {
    server.once('error', failed)
    server.listen(0, '127.0.0.1', ready)
  })
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  return {
    address: `http://127.0.0.1:${port}`,
    close: () =>
      new Promise((closed) => {
        server.close(() => closed())
        server.closeAllConnections()
      }),
  }
}

async function answer(folder: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = pathBelow(folder, request.url ?? '/')
  const found = path === null ? null : await stat(path).catch(() => null)
  if (path === null || found === null || !found.isFile()) {
    response.writeHead(404).end()
    return
  }
  response.writeHead(200, { 'content-length': found.size, 'last-modified': found.mtime.toUTCString() })
  if (request.method === 'HEAD') response.end()
  else await pipeline(createReadStream(path), response)
}

function pathBelow(folder: string, url: string): string | null {
  let path: string
  try {
    path = decodeURIComponent(new URL(url, 'http://localhost').pathname)
  } catch {
    return null
  }
  const root = resolve(folder)
  const wanted = resolve(root, `.${path}`)
  return wanted.startsWith(root + sep) && !path.includes('\0') ? wanted : null
}
