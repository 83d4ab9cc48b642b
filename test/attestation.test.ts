import { test } from 'node:test'
import assert from 'node:assert/strict'
import { createHash, createPrivateKey, createPublicKey, verify } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import {
  canonicalJson,
  countersign,
  generateSigningKey,
  keyidOf,
  makeLink,
  parseEnvelope,
  publicKeyFromPem,
  publicKeyToPem,
  serialiseEnvelope,
  signLink,
  signingKeyFromDer,
  signingKeyFromPem,
  signingKeyToDer,
  signingKeyToPem,
  verifyEnvelope,
  type Envelope,
} from '../src/attestation.ts'

const fixtures = fileURLToPath(new URL('../../shared/fixtures/attest/', import.meta.url))
const withFixtures = {
  skip: existsSync(fixtures) ? false : 'the fixtures folder shared/fixtures/attest is not here',
}

const aFile = (file: string) => ({
  file,
  sha256: createHash('sha256').update(file).digest('hex'),
  sha512: createHash('sha512').update(file).digest('hex'),
})
const aLink = () =>
  makeLink({ artifact: aFile('hello_1.0-1_amd64.deb'), input: aFile('hello_1.0-1_amd64.buildinfo') })

test('a public attestation of reproducible.archlinux.org verifies with its key', withFixtures, () => {
  const publicKey = publicKeyFromPem(readFileSync(`${fixtures}reproducible-archlinux.pub`, 'utf8'))
  const link = readFileSync(`${fixtures}filesystem-2025.10.12-1-any.in-toto.link`)
  const artifact = readFileSync(`${fixtures}filesystem-2025.10.12-1-any.pkg.tar.zst`)

  const envelope = parseEnvelope(link)

  assert.equal(keyidOf(publicKey), '1ae6d32cb5bb8a98312106de28e50af7e09a9b294d51df459537908ac1288b8f')
  assert.equal(verifyEnvelope(envelope, publicKey), true)
  assert.equal(
    envelope.signed.products['filesystem-2025.10.12-1-any.pkg.tar.zst']?.['sha256'],
    createHash('sha256').update(artifact).digest('hex'),
  )
  assert.deepEqual(Buffer.from(serialiseEnvelope(envelope)), link)
})

test('a public attestation with forged signatures does not verify', withFixtures, () => {
  const publicKey = publicKeyFromPem(readFileSync(`${fixtures}reproducible-archlinux.pub`, 'utf8'))
  const envelope = parseEnvelope(readFileSync(`${fixtures}filesystem-2025.10.12-1-any.INVALID.in-toto.link`))

  assert.equal(verifyEnvelope(envelope, publicKey), false)
})

test('a signed link verifies with the key that signed it and with no other', () => {
  const key = generateSigningKey()

  const envelope = parseEnvelope(serialiseEnvelope(signLink(aLink(), key)))

  assert.equal(verifyEnvelope(envelope, key.publicKey), true)
  assert.equal(verifyEnvelope(envelope, generateSigningKey().publicKey), false)
})

test('a link names the artifact, and carries both hashes of artifact and input', () => {
  const link = aLink()

  assert.equal(link.name, 'rebuild hello_1.0-1_amd64.deb')
  assert.deepEqual(Object.keys(link.materials), ['hello_1.0-1_amd64.buildinfo'])
  assert.deepEqual(Object.keys(link.products), ['hello_1.0-1_amd64.deb'])
})

test('changing any part of a signed link breaks its signature', () => {
  const key = generateSigningKey()
  const { signatures, signed } = signLink(aLink(), key)

  for (const changed of [
    { ...signed, name: 'rebuild other.deb' },
    { ...signed, materials: {} },
    { ...signed, products: { 'hello_1.0-1_amd64.deb': { sha256: '00', sha512: '00' } } },
    { ...signed, command: ['true'] },
  ]) {
    assert.equal(verifyEnvelope({ signatures, signed: changed }, key.publicKey), false)
  }
})

test('a countersignature stands beside the first signature', () => {
  const worker = generateSigningKey()
  const server = generateSigningKey()

  const envelope = countersign(signLink(aLink(), worker), server)

  assert.deepEqual(
    envelope.signatures.map(({ keyid }) => keyid),
    [worker.keyid, server.keyid],
  )
  assert.equal(verifyEnvelope(envelope, worker.publicKey), true)
  assert.equal(verifyEnvelope(envelope, server.publicKey), true)
})

test('countersigning again changes nothing', () => {
  const server = generateSigningKey()
  const once = countersign(signLink(aLink(), generateSigningKey()), server)

  assert.deepEqual(countersign(once, server), once)
})

test('a forged signature under our keyid is replaced by a true one', () => {
  const server = generateSigningKey()
  const { signatures, signed } = signLink(aLink(), generateSigningKey())
  const forged: Envelope = {
    signatures: [{ keyid: server.keyid, sig: 'ab'.repeat(64) }, ...signatures],
    signed,
  }

  const envelope = countersign(forged, server)

  assert.equal(envelope.signatures.length, 2)
  assert.equal(verifyEnvelope(envelope, server.publicKey), true)
})

test('canonical JSON has no blanks, sorts members by bytes and keeps text raw', () => {
  const canonical = canonicalJson({ ﬀ: 1, '😀': 2, b: [true, null, 'ü/"\\\u0007'], a: {} })

  assert.equal(canonical, '{"a":{},"b":[true,null,"ü/\\"\\\\\\u0007"],"ﬀ":1,"😀":2}')
})

test('canonical JSON refuses fractions', () => {
  assert.throws(() => canonicalJson({ a: 1.5 }), /whole numbers/)
})

test('a line end in a link is signed as a real line end, as in-toto does', () => {
  const key = signingKeyFromDer(Buffer.from(`302e020100300506032b657004220420${'11'.repeat(32)}`, 'hex'))
  const link = { ...aLink(), command: ['a\nb'] }
  const signed = canonicalJson(link).replace('["a\\nb"]', '["a\nb"]')

  const envelope = signLink(link, key)

  const sig = Buffer.from(envelope.signatures[0]?.sig ?? '', 'hex')
  assert.ok(verify(null, Buffer.from(signed), createPublicKey(key.privateKey), sig))
  assert.equal(verifyEnvelope(envelope, key.publicKey), true)
})

for (const [what, text] of [
  ['no JSON', '{'],
  ['invalid UTF-8', '\xff'],
  ['a layout', '{"signatures":[],"signed":{"_type":"layout"}}'],
  ['a member too many', JSON.stringify({ signatures: [], signed: { ...aLink(), extra: 1 } })],
  ['a member missing', JSON.stringify({ signatures: [], signed: { ...aLink(), products: undefined } })],
  ['a short keyid', JSON.stringify({ signatures: [{ keyid: 'ab', sig: 'ab' }], signed: aLink() })],
  ['too many bytes', ' '.repeat(1024 * 1024 + 1)],
] as const) {
  test(`${what} is not an attestation`, () => {
    assert.throws(() => parseEnvelope(Buffer.from(text, 'latin1')), { name: 'Complaint' })
  })
}

test('keys survive PEM and DER of version 2, with CRLF', () => {
  const key = generateSigningKey()

  const der = signingKeyToDer(key)
  const pem = signingKeyToPem(key)

  assert.equal(der.length, 83)
  assert.equal(signingKeyFromDer(der).keyid, key.keyid)
  assert.equal(signingKeyFromPem(pem).keyid, key.keyid)
  assert.equal(signingKeyFromPem(pem.replaceAll('\r', '')).keyid, key.keyid)
  assert.match(pem, /^-----BEGIN PRIVATE KEY-----\r\n/)
  assert.match(pem, /-----END PRIVATE KEY-----\r\n$/)
})

test('a key that Node exported is read, and ours by Node', () => {
  const key = generateSigningKey()

  const pem = key.privateKey.export({ format: 'pem', type: 'pkcs8' })

  assert.equal(signingKeyFromPem(pem).keyid, key.keyid)
  assert.ok(createPrivateKey(signingKeyToPem(key)).equals(key.privateKey))
})

test('a key file whose two halves do not belong together is refused', () => {
  const der = signingKeyToDer(generateSigningKey())
  der[82] = (der[82] ?? 0) ^ 1

  assert.throws(() => signingKeyFromDer(der), /not that of its private key/)
})

test('public keys are written with a NULL parameter and read in both forms', () => {
  const { publicKey } = generateSigningKey()

  const pem = publicKeyToPem(publicKey)
  const standard = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), publicKey]).toString(
    'base64',
  )

  assert.match(pem, /\r\nMCwwBwYDK2VwBQADIQ/)
  assert.deepEqual(publicKeyFromPem(pem), publicKey)
  assert.deepEqual(
    publicKeyFromPem(`-----BEGIN PUBLIC KEY-----\n${standard}\n-----END PUBLIC KEY-----\n`),
    publicKey,
  )
  assert.throws(() => publicKeyFromPem(signingKeyToPem(generateSigningKey())), { name: 'Complaint' })
})
