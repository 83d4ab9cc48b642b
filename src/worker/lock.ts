import { createServer } from 'node:net'
import { stat } from 'node:fs/promises'
import { Complaint } from '../errors.ts'
import { makeFolders } from '../folders.ts'

/**
 * Makes a folder ours alone while this process lives. The lock is an abstract unix socket (unix(7)) named after
 * the folder, so the kernel drops it with the process, whichever way that ends.
 * @throws Complaint where another process holds it
 */
export async function lockFolder(directory: string): Promise<AsyncDisposable & { directory: string }> {
  makeFolders(directory, 0o700)
  const { dev, ino } = await stat(directory)
  const server = createServer((socket) => socket.destroy())
  server.unref()
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(taken(directory, error)))
    server.listen(`\0rebuilderd-worker-${dev}-${ino}`, resolve)
  })
  return {
    directory,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  }
}

function taken(directory: string, cause: Error): Complaint {
  return new Complaint(`another worker already uses ${directory}`, {
    hint: 'give each worker a folder of its own: --data DIR or --name NAME',
    cause,
  })
}
