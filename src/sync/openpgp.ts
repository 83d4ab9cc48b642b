import { readFile } from 'node:fs/promises'
import type * as openpgp from 'openpgp'
import { Complaint } from '../errors.ts'

type Key = openpgp.Key
type Checked = openpgp.VerifyMessageResult['signatures'][number]

/** What signatures prove: the text that was signed, the fingerprints of the keys that did, and when the last one was. */
export type Proven = { content: Uint8Array; signers: string[]; signedAt: Date }

/**
 * Keys of files as GnuPG exports them, armoured or not.
 * @throws Complaint where a file cannot be read or holds none
 */
export async function readKeyrings(files: readonly string[]): Promise<Key[]> {
  const { readKeys } = await import('openpgp')
  const keys: Key[] = []
  for (const file of files) {
    const bytes = await readFile(file).catch((error: unknown) => {
      throw new Complaint(`cannot read the keyring ${file}`, { cause: error, exitCode: 2 })
    })
    if (bytes.subarray(8, 12).toString('latin1') === 'KBXf') {
      throw new Complaint(`${file} is a GnuPG key box`, {
        hint: `gpg --no-default-keyring --keyring ${file} --export`,
      })
    }
    const isArmored = bytes.subarray(0, 64).includes('-----BEGIN PGP')
    const reading = isArmored
      ? readKeys({ armoredKeys: bytes.toString('latin1') })
      : readKeys({ binaryKeys: bytes })
    const found = await reading.catch((error: unknown) => {
      throw new Complaint(`${file} is no keyring`, { cause: error })
    })
    keys.push(...found)
  }
  return keys
}

/**
 * The text of a clearsigned message (rfc-editor.org/rfc/rfc9580 section 7), proven by at least one of the keys.
 * @throws Complaint that says of each signature why it proves nothing
 */
export async function verifyClearsigned(
  message: Uint8Array,
  keys: readonly Key[],
  now: Date,
): Promise<Proven> {
  const { verify } = await import('openpgp')
  const parsed = await parsedClearsigned(message)
  const result = await verify({ message: parsed, verificationKeys: [...keys], date: now })
  return { content: Buffer.from(result.data), ...(await goodSigners(result.signatures, keys, now)) }
}

/**
 * Proves `content` by a signature in a file of its own.
 * @throws Complaint that says of each signature why it proves nothing
 */
export async function verifyDetached(
  content: Uint8Array,
  signature: Uint8Array,
  keys: readonly Key[],
  now: Date,
): Promise<Proven> {
  const { createMessage, readSignature, verify } = await import('openpgp')
  const isArmored = Buffer.from(signature).subarray(0, 64).includes('-----BEGIN PGP')
  const reading = isArmored
    ? readSignature({ armoredSignature: Buffer.from(signature).toString('latin1') })
    : readSignature({ binarySignature: signature })
  const parsed = await reading.catch((error: unknown) => {
    throw new Complaint('the signature cannot be read', { cause: error })
  })
  const message = await createMessage({ binary: content })
  const result = await verify({
    message,
    signature: parsed,
    verificationKeys: [...keys],
    date: now,
    format: 'binary',
  })
  return { content, ...(await goodSigners(result.signatures, keys, now)) }
}

/** The text of a clearsigned message, taken on trust. */
export async function unprovenText(message: Uint8Array): Promise<Uint8Array> {
  return Buffer.from((await parsedClearsigned(message)).getText())
}

async function parsedClearsigned(message: Uint8Array): Promise<openpgp.CleartextMessage> {
  const { readCleartextMessage } = await import('openpgp')
  const cleartextMessage = Buffer.from(message).toString('utf8')
  return readCleartextMessage({ cleartextMessage }).catch((error: unknown) => {
    throw new Complaint('it is no clearsigned message', { cause: error })
  })
}

/** One good signature is enough: archives sign with their next key, too, before everybody has it. A false one never is. */
async function goodSigners(
  signatures: readonly Checked[],
  keys: readonly Key[],
  now: Date,
): Promise<Pick<Proven, 'signers' | 'signedAt'>> {
  const signers: string[] = []
  const moments: number[] = []
  const problems: string[] = []
  for (const signature of signatures) {
    const key = keys.find((candidate) => candidate.getKeys(signature.keyID).length > 0)
    const id = signature.keyID.toHex().toUpperCase()
    const problem = await problemWith(signature, key, now)
    if (problem === null && key !== undefined) {
      signers.push(key.getFingerprint())
      for (const { created } of (await signature.signature).packets) moments.push(created?.getTime() ?? 0)
    } else if (key === undefined) problems.push(`key ${id} is in none of the keyrings`)
    else problems.push(`key ${id} ${problem}`)
    if (problem === isFalse) throw new Complaint(`the signature of key ${id} ${isFalse}`)
  }
  if (signers.length > 0) return { signers, signedAt: new Date(Math.max(0, ...moments)) }
  throw new Complaint(
    problems.length === 0 ? 'it has no signature' : `no signature proves it: ${problems.join(', ')}`,
  )
}

const isFalse = 'does not fit the content: it was altered'

async function problemWith(signature: Checked, key: Key | undefined, now: Date): Promise<string | null> {
  const failure = await signature.verified.then(
    () => null,
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  )
  if (key === undefined) return 'is unknown'
  if (failure !== null && /digest did not match|verification failed/i.test(failure)) return isFalse
  return (
    (await problemWithKey(key, signature.keyID, now)) ??
    (failure === null ? null : `cannot be used (${failure})`)
  )
}

/** A good signature by a key that is no longer to be trusted proves nothing, as with gpgv. */
async function problemWithKey(key: Key, keyID: openpgp.KeyID, now: Date): Promise<string | null> {
  if (await key.isRevoked(undefined, undefined, now)) return 'was revoked'
  const parts = [key, ...key.getSubkeys(keyID)]
  for (const part of parts) {
    const end = await part.getExpirationTime()
    if (end instanceof Date && end <= now) return `expired on ${end.toISOString().slice(0, 10)}`
  }
  return key.getSigningKey(keyID, now).then(
    () => null,
    (error: unknown) => `may not sign (${error instanceof Error ? error.message : String(error)})`,
  )
}
