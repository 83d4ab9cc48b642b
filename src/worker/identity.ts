import { randomUUID } from 'node:crypto'
import { chmod, link, open, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { generateSigningKey, signingKeyFromDer, signingKeyToDer, type SigningKey } from '../attestation.ts'
import { during } from '../errors.ts'
import { makeFolders } from '../folders.ts'

/** Who this worker is: its key signs attestations, and its public key is its name towards the server. */
export type Identity = {
  readonly key: SigningKey
  /** What the X-Worker-Key header carries: the public key in base64. */
  readonly workerKey: string
}

export const keyFile = 'rebuilder.v2.key'

/**
 * The key of the worker that lives in this folder; made at the first start, in the form upstream's worker reads.
 * @throws Complaint where the file is no key: it is never replaced
 */
export async function openIdentity(directory: string): Promise<Identity> {
  makeFolders(directory, 0o700)
  const path = join(directory, keyFile)
  const key = await during(`reading the worker's key ${path}`, async () => {
    const stored = (await readKey(path)) ?? (await makeKey(path))
    return signingKeyFromDer(stored)
  })
  return { key, workerKey: Buffer.from(key.publicKey).toString('base64') }
}

async function readKey(path: string): Promise<Uint8Array | null> {
  try {
    const bytes = await readFile(path)
    await chmod(path, 0o600) // upstream leaves it readable for the group
    return bytes
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
}

/** Whole or not at all, and where two workers start in one folder, the same key for both. */
async function makeKey(path: string): Promise<Uint8Array> {
  const temporary = `${path}.${randomUUID()}`
  try {
    const file = await open(temporary, 'wx', 0o600)
    await file.writeFile(signingKeyToDer(generateSigningKey()))
    await file.sync()
    await file.close()
    await link(temporary, path).catch((error: unknown) => {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
    })
  } finally {
    await rm(temporary, { force: true })
  }
  return readFile(path)
}
