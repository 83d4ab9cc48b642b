import { randomBytes } from 'node:crypto'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { generateSigningKey, signingKeyFromPem, signingKeyToPem, type SigningKey } from '../attestation.ts'
import { Complaint, during } from '../errors.ts'
import { makeFolders } from '../folders.ts'

/**
 * The administrators' secret: what the configuration says, else what the file holds, else a random one. The file
 * is made to hold it, so that ctl on this machine finds it.
 * @param configured `auth.cookie` of the configuration, or null
 * @param file where the cookie is kept
 */
export async function openCookie(configured: string | null, file: string): Promise<string> {
  const kept = await contentOf(file)
  const cookie = configured ?? (kept === null || kept === '' ? randomCookie() : kept)
  if (cookie !== kept) await during(`writing the cookie to ${file}`, () => writeSecret(file, `${cookie}\n`))
  return cookie
}

/**
 * The key that countersigns attestations; made at the first start.
 * @throws Complaint where the file holds something else
 */
export async function openSigningKey(file: string): Promise<SigningKey> {
  const pem = await contentOf(file)
  if (pem !== null) return during(`reading the signing key ${file}`, () => signingKeyFromPem(pem))
  const key = generateSigningKey()
  await during(`writing the signing key ${file}`, () => writeSecret(file, signingKeyToPem(key)))
  return key
}

async function contentOf(file: string): Promise<string | null> {
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw new Complaint(`cannot read ${file}`, { cause: error })
  }
}

/** 32 letters and digits, each equally likely. */
function randomCookie(): string {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'
  const usable = [...randomBytes(256)].filter((byte) => byte < 4 * letters.length)
  return usable
    .slice(0, 32)
    .map((byte) => letters[byte % letters.length])
    .join('')
}

async function writeSecret(file: string, content: string): Promise<void> {
  makeFolders(dirname(file), 0o700)
  await writeFile(file, content, { mode: 0o600, flush: true })
  await chmod(file, 0o600) // an older file may be open to others
}
