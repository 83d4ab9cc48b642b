import { createHash, createPrivateKey, createPublicKey, randomBytes, sign, verify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import * as v from 'valibot'
import { Complaint } from './errors.ts'
import { checked } from './wire/schema.ts'

/** An Ed25519 key that signs links. */
export type SigningKey = {
  readonly privateKey: KeyObject
  /** 32 raw bytes */
  readonly publicKey: Uint8Array
  /** 64 hex digits, see `keyidOf` */
  readonly keyid: string
}

/** A file by its bare name, with hashes in lower-case hex. */
export type HashedFile = { readonly file: string; readonly sha256: string; readonly sha512: string }

const hex = (digits: number) => v.pipe(v.string(), v.regex(new RegExp(`^[0-9a-f]{${digits}}$`), 'is not hex'))
const Hashes = v.record(v.string(), v.pipe(v.string(), v.regex(/^[0-9a-f]{2,256}$/, 'is not hex')))
const Files = v.record(v.string(), Hashes)
const textOrCode = v.union([v.string(), v.pipe(v.number(), v.safeInteger())])

/** in-toto link metadata (github.com/in-toto/docs, "4.4 File formats: [name].[KEYID-PREFIX].link"). */
export const Link = v.strictObject({
  _type: v.literal('link'),
  name: v.string(),
  materials: Files,
  products: Files,
  environment: v.optional(v.nullable(v.record(v.string(), v.string())), null),
  byproducts: v.record(v.string(), textOrCode),
  command: v.array(v.string()),
})
export type Link = v.InferOutput<typeof Link>

/** The classic envelope: signatures beside what they sign. */
export const Envelope = v.strictObject({
  signatures: v.pipe(v.array(v.strictObject({ keyid: hex(64), sig: hex(128) })), v.maxLength(100)),
  signed: Link,
})
export type Envelope = v.InferOutput<typeof Envelope>

/** What a good rebuild claims: from this build input came this artifact, byte for byte. */
export function makeLink({ artifact, input }: { artifact: HashedFile; input: HashedFile }): Link {
  return {
    _type: 'link',
    name: `rebuild ${artifact.file}`,
    materials: { [input.file]: { sha256: input.sha256, sha512: input.sha512 } },
    products: { [artifact.file]: { sha256: artifact.sha256, sha512: artifact.sha512 } },
    environment: null,
    byproducts: {},
    command: [],
  }
}

/** An in-toto link with one signature. */
export function signLink(link: Link, key: SigningKey): Envelope {
  return { signatures: [signatureOf(link, key)], signed: link }
}

/** Adds our signature unless a true one is there; a false one under our keyid makes room for it. */
export function countersign(envelope: Envelope, key: SigningKey): Envelope {
  const { signed } = envelope
  const kept = envelope.signatures.filter(
    ({ keyid, sig }) => keyid !== key.keyid || isTrue(sig, signed, publicKeyObject(key.publicKey)),
  )
  const ours = kept.some(({ keyid }) => keyid === key.keyid) ? [] : [signatureOf(signed, key)]
  return { signatures: [...kept, ...ours], signed }
}

/** Whether the holder of this key signed the link. */
export function verifyEnvelope(envelope: Envelope, publicKey: Uint8Array): boolean {
  const bytes = bytesToSign(envelope.signed)
  const key = publicKeyObject(publicKey)
  return triedOf(envelope, keyidOf(publicKey)).some((sig) => verify(null, bytes, key, sig))
}

/** Most signatures by one name of a key that are tried: one is true, or somebody wants us to be busy. */
const mostTried = 8

function triedOf({ signatures }: Envelope, keyid: string): Buffer[] {
  const ours = signatures.filter((signature) => signature.keyid === keyid).slice(0, mostTried)
  return ours.map(({ sig }) => Buffer.from(sig, 'hex'))
}

/**
 * The same for many envelopes: reading a key takes longer than checking a signature, and signatures are checked in
 * threads of the runtime, so that other work goes on meanwhile.
 */
export function verifierOf(publicKey: Uint8Array): (envelope: Envelope) => Promise<boolean> {
  const keyid = keyidOf(publicKey)
  const key = publicKeyObject(publicKey)
  return async (envelope) => {
    const tried = triedOf(envelope, keyid)
    const bytes = tried.length === 0 ? null : bytesToSign(envelope.signed)
    for (const sig of tried) if (bytes !== null && (await verifyInThread(bytes, key, sig))) return true
    return false
  }
}

function verifyInThread(bytes: Uint8Array, key: KeyObject, sig: Uint8Array): Promise<boolean> {
  return new Promise((resolve, reject) => {
    verify(null, bytes, key, sig, (error, isSigned) => (error === null ? resolve(isSigned) : reject(error)))
  })
}

const largestEnvelope = 1024 * 1024

/**
 * Reads an envelope.
 * @throws Complaint where it is none: too large, not JSON, a member missing, unknown or of the wrong type
 */
export function parseEnvelope(bytes: Uint8Array): Envelope {
  if (bytes.length > largestEnvelope)
    throw new Complaint(`the attestation is larger than ${largestEnvelope} bytes`)
  let document: unknown
  try {
    document = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw new Complaint('the attestation is not JSON', { cause: error })
  }
  return checked(Envelope, document, 'the attestation')
}

/** JSON without blanks, as upstream stores it. */
export function serialiseEnvelope(envelope: Envelope): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(envelope))
}

function signatureOf(link: Link, key: SigningKey): { keyid: string; sig: string } {
  return { keyid: key.keyid, sig: sign(null, bytesToSign(link), key.privateKey).toString('hex') }
}

function isTrue(sig: string, link: Link, publicKey: KeyObject): boolean {
  return verify(null, bytesToSign(link), publicKey, Buffer.from(sig, 'hex'))
}

/** in-toto signs canonical JSON in which every `\n` escape, and what looks like one, is a real line end. */
function bytesToSign(link: Link): Uint8Array {
  return new TextEncoder().encode(canonicalJson(link).replaceAll('\\n', '\n'))
}

/** Canonical JSON: no blanks, members ordered by the bytes of their names, integers only. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    let text = ''
    for (const name of Object.keys(value).sort(byBytes)) {
      const member = canonicalJson((value as Readonly<Record<string, unknown>>)[name]) // its own name
      text += `${text === '' ? '' : ','}${JSON.stringify(name)}:${member}`
    }
    return `{${text}}`
  }
  if (typeof value === 'number' && !Number.isSafeInteger(value))
    throw new Complaint(`${value} has no canonical form: only whole numbers do`)
  if (value === undefined) throw new Complaint('nothing has no canonical form')
  return JSON.stringify(value)
}

/** Order of names by their bytes in UTF-8: that of their characters, but for those that take two units here. */
function byBytes(a: string, b: string): number {
  if (beyond.test(a) || beyond.test(b)) return Buffer.compare(Buffer.from(a), Buffer.from(b))
  return a < b ? -1 : 1
}
const beyond = /[\ud800-\uffff]/

// --- keys

/** The name of a key in signatures: SHA-256 of its canonical description, in hex. */
export function keyidOf(publicKey: Uint8Array): string {
  const description = {
    keyid_hash_algorithms: ['sha256', 'sha512'],
    keytype: 'ed25519',
    keyval: { public: Buffer.from(publicKey).toString('hex') },
    scheme: 'ed25519',
  }
  return createHash('sha256').update(canonicalJson(description)).digest('hex')
}

/** A new Ed25519 key. */
export function generateSigningKey(): SigningKey {
  return keyOfSeed(randomBytes(32))
}

// PKCS#8 (RFC 5958) around a 32 byte seed: version 1 as Node writes it, version 2 with the public key behind it.
const version1 = Buffer.from('302e020100300506032b657004220420', 'hex')
const version2 = Buffer.from('3051020101300506032b657004220420', 'hex')
const publicPart = Buffer.from('812100', 'hex')
// SubjectPublicKeyInfo: as RFC 8410 wants it, and with the NULL parameter that in-toto clients insist on.
const plainInfo = Buffer.from('302a300506032b6570032100', 'hex')
const nullInfo = Buffer.from('302c300706032b65700500032100', 'hex')

function keyOfSeed(seed: Uint8Array): SigningKey {
  const privateKey = createPrivateKey({ key: Buffer.concat([version1, seed]), format: 'der', type: 'pkcs8' })
  const info = createPublicKey(privateKey).export({ format: 'der', type: 'spki' })
  const publicKey = new Uint8Array(info.subarray(-32))
  return { privateKey, publicKey, keyid: keyidOf(publicKey) }
}

function publicKeyObject(publicKey: Uint8Array): KeyObject {
  if (publicKey.length !== 32) throw new Complaint('an Ed25519 public key has 32 bytes')
  return createPublicKey({ key: Buffer.concat([plainInfo, publicKey]), format: 'der', type: 'spki' })
}

/**
 * Reads a private key in PKCS#8 DER, version 1 (48 bytes) or 2 (83 bytes, as `rebuilder.v2.key`).
 * @throws Complaint where it is none, or where the public key in it belongs to another one
 */
export function signingKeyFromDer(der: Uint8Array): SigningKey {
  const bytes = Buffer.from(der)
  const starts = (prefix: Buffer): boolean => bytes.subarray(0, prefix.length).equals(prefix)
  if (bytes.length === 48 && starts(version1)) return keyOfSeed(bytes.subarray(16))
  const isVersion2 = bytes.length === 83 && starts(version2) && bytes.subarray(48, 51).equals(publicPart)
  if (!isVersion2) throw new Complaint('this is not an Ed25519 private key in PKCS#8')
  const key = keyOfSeed(bytes.subarray(16, 48))
  if (!bytes.subarray(51).equals(key.publicKey))
    throw new Complaint('the public key in this file is not that of its private key')
  return key
}

/** PKCS#8 version 2, the 83 bytes upstream's worker reads. */
export function signingKeyToDer(key: SigningKey): Uint8Array {
  const seed = key.privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-32)
  return new Uint8Array(Buffer.concat([version2, seed, publicPart, key.publicKey]))
}

/** The first private key of a PEM file, in either version. */
export function signingKeyFromPem(pem: string): SigningKey {
  return signingKeyFromDer(pemContent(pem, 'PRIVATE KEY'))
}

/** PKCS#8 version 2 with CRLF, as upstream's server reads and writes it. */
export function signingKeyToPem(key: SigningKey): string {
  return pemOf(signingKeyToDer(key), 'PRIVATE KEY')
}

/** A public key as in-toto clients read it: with a NULL parameter and CRLF. */
export function publicKeyToPem(publicKey: Uint8Array): string {
  return pemOf(Buffer.concat([nullInfo, publicKey]), 'PUBLIC KEY')
}

/**
 * The 32 bytes of a public key, in the standard's form or that of in-toto clients.
 * @throws Complaint where it is none
 */
export function publicKeyFromPem(pem: string): Uint8Array {
  const der = pemContent(pem, 'PUBLIC KEY')
  for (const info of [nullInfo, plainInfo]) {
    const fits = der.length === info.length + 32 && der.subarray(0, info.length).equals(info)
    if (fits) return new Uint8Array(der.subarray(info.length))
  }
  throw new Complaint('this is not an Ed25519 public key')
}

function pemOf(der: Uint8Array, label: string): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\r\n')
}

/** The bytes of the first block with this label (RFC 7468). */
function pemContent(pem: string, label: string): Buffer {
  const block = new RegExp(`-----BEGIN ${label}-----([A-Za-z0-9+/=\\s]*)-----END ${label}-----`).exec(pem)
  if (block?.[1] === undefined) throw new Complaint(`there is no ${label} block in this PEM file`)
  return Buffer.from(block[1], 'base64')
}
