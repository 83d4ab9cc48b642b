/** Whose word counts, and for which file. */
import assert from 'node:assert/strict'
import { readdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import {
  countersign,
  generateSigningKey,
  makeLink,
  publicKeyToPem,
  serialiseEnvelope,
  signLink,
  type Link,
  type SigningKey,
} from '../../src/attestation.ts'
import { addPins, identitiesOf, readPins, voiceProblems } from '../../src/cmd/check/pins.ts'
import { aFolder, serveFolder } from '../help/archives.ts'
import { temporaryFolder } from '../help/server.ts'
import { runHere } from '../cmd/program.ts'
import { aDebian, aRebuilder, aWitness, bytesOf, hashesOf, runCheck, standingsOf } from './help.ts'

const one = { name: 'hello', version: '1.0-1', architecture: 'amd64', distro: 'debian' }

function aLink(given: Partial<Link> = {}): Link {
  const artifact = { file: 'hello_1.0-1_amd64.deb', ...hashesOf(bytesOf('hello')) }
  return {
    ...makeLink({ artifact, input: { file: 'hello.buildinfo', ...hashesOf('input') } }),
    ...given,
  }
}

/** A server that shows a key and has this link, signed by it. */
async function aSigner(t: TestContext, key: SigningKey, link = aLink()): Promise<string> {
  return aWitness(t, one, serialiseEnvelope(signLink(link, key)), publicKeyToPem(key.publicKey))
}

const [a, b, c] = [Buffer.from('a'), Buffer.from('b'), Buffer.from('c')]
for (const [what, keys, expected] of [
  ['keys of their own', [[a], [b], [c]], 3],
  ['one key at two addresses', [[a], [a], [b]], 2],
  ['one key among several', [[a, b], [c], [b]], 2],
  ['keys that a third one joins', [[a], [b], [a, b]], 1],
  ['no keys', [[], [], [a]], 2],
] as const) {
  test(`rebuilders with ${what} are ${expected} voices`, () => {
    const given = keys.map((some, i) => {
      const url = `https://place-${i}.example`
      return { url, given: url, keys: some, from: 'configured' as const }
    })

    assert.equal(new Set(identitiesOf(given)).size, expected)
  })
}

const vouched = 'configured'
for (const [what, given, expected] of [
  ['two paths of one host', [['https://a.example/1'], ['https://a.example/2']], 1],
  ['two ports of one host', [['https://a.example'], ['https://a.example:8443']], 1],
  ['two hosts of one domain', [['https://x.a.example'], ['https://y.a.example.']], 1],
  ['two paths of one address', [['https://192.0.2.1/1'], ['https://192.0.2.1/2']], 1],
  ['two domains', [['https://a.example'], ['https://b.example']], 2],
  ['two addresses', [['https://192.0.2.1'], ['https://192.0.3.1']], 2],
  ['two programs of this machine', [['http://127.0.0.1:1'], ['http://localhost:2']], 2],
  ['one program by two names', [['http://127.0.0.1:1/a'], ['http://localhost:1/b']], 1],
  [
    'one host, vouched for',
    [
      ['https://a.example/1', vouched],
      ['https://a.example/2', vouched],
    ],
    2,
  ],
  ['one host, one vouched for', [['https://a.example/1', vouched], ['https://a.example/2']], 1],
] as [string, (readonly [string, 'configured'?])[], number][]) {
  test(`two keys of ${what} are ${expected === 1 ? 'one voice' : 'two voices'}`, () => {
    const known = given.map(([url, from = 'first met' as const], i) => ({
      url,
      given: url,
      keys: [[a, b][i] ?? c],
      from,
    }))

    assert.equal(new Set(identitiesOf(known)).size, expected)
    const told = voiceProblems(known, 2).join('\n')
    assert.equal(/count as one rebuilder: they are at one site/.test(told), expected === 1)
    assert.equal(/there are only 1/.test(told), expected === 1)
    assert.equal(
      /nobody has vouched/.test(told),
      known.some(({ from }) => from === 'first met'),
    )
    assert.deepEqual(voiceProblems(known, 1), [])
  })
}

test('servers of one entry, one for each architecture, are one voice that needs no word', () => {
  const urls = ['https://amd64.example', 'https://all.example']
  const given = 'https://{architecture}.example'
  const known = urls.map((url, i) => ({ url, given, keys: [[a, b][i] ?? c], from: 'kept' as const }))

  assert.equal(new Set(identitiesOf(known)).size, 1)
  assert.doesNotMatch(voiceProblems(known, 2).join('\n'), /count as one/)
})

test('a rebuilder that has two keys is one voice, wherever its attestations are shown', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'], { 'etc/own.conf': '' })
  const [first, second] = [generateSigningKey(), generateSigningKey()]
  const envelope = serialiseEnvelope(countersign(signLink(aLink(), first), second))
  const urls = [
    await aWitness(t, one, envelope, publicKeyToPem(first.publicKey)),
    await aWitness(t, one, envelope, publicKeyToPem(second.publicKey)),
  ]
  const hex = [first, second].map(({ publicKey }) => `"${Buffer.from(publicKey).toString('hex')}"`).join(', ')
  const config = await aDebian(t, [], {
    'own.conf': `[[rebuilder]]\nurl = "${urls[0]}"\npublic_key = [${hex}]\n[[rebuilder]]\nurl = "${urls[1]}"\n`,
  })

  const args = ['--root', root, '--threshold', '2', '-c', `${config}/own.conf`]
  const { document } = await runCheck(home, args)

  assert.deepEqual([standingsOf(document), document.packages[0]?.verified_by], [{ hello: 'partly' }, 1])
})

test('whoever shows the key of a worker for its own, with the rebuilds of that worker, is no second voice', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const [worker, server, apart] = [generateSigningKey(), generateSigningKey(), generateSigningKey()]
  const envelope = countersign(signLink(aLink(), worker), server)
  const onlyWorkers = signLink(aLink(), worker)
  const honest = await aWitness(t, one, serialiseEnvelope(envelope), publicKeyToPem(server.publicKey))
  const copying = await aWitness(t, one, serialiseEnvelope(onlyWorkers), publicKeyToPem(worker.publicKey))
  const another = await aSigner(t, apart)
  const verifiedBy = async (...urls: string[]): Promise<number | undefined> => {
    const { document } = await runCheck(home, [
      '--root',
      root,
      ...urls.flatMap((url) => ['--rebuilder', url]),
    ])
    return document.packages[0]?.verified_by
  }

  assert.equal(await verifiedBy(honest, copying), 1)
  assert.equal(await verifiedBy(honest, copying), 1) // from the cache
  assert.equal(await verifiedBy(honest, another), 2)
  assert.equal(await verifiedBy(copying, another, honest), 2)
})

test('names of keys that somebody puts into an attestation take no voice from others', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const [first, second, third] = [generateSigningKey(), generateSigningKey(), generateSigningKey()]
  const { signed, signatures } = signLink(aLink(), third)
  const borrowed = [first, second].map(({ keyid }) => ({ keyid, sig: '00'.repeat(64) }))
  const greedy = serialiseEnvelope({ signed, signatures: [...borrowed, ...signatures] })
  const urls = [
    await aWitness(t, one, greedy, publicKeyToPem(third.publicKey)),
    await aSigner(t, first),
    await aSigner(t, second),
  ]

  const { document } = await runCheck(home, ['--root', root, ...urls.flatMap((url) => ['--rebuilder', url])])

  assert.equal(document.packages[0]?.verified_by, 2)
})

test('checks that meet rebuilders at the same time keep the keys of all', async (t) => {
  const folder = await temporaryFolder(t)
  const file = join(folder, 'rebuilders.keys')
  const urls = Array.from({ length: 20 }, (_, i) => `https://rebuilder-${i}.example`)
  await writeFile(`${file}.lock`, '') // of one that was killed
  await utimes(`${file}.lock`, 1, 1)

  await Promise.all(
    urls.map((url) => addPins(file, new Map([[url, generateSigningKey().publicKey]]), new Date())),
  )

  assert.deepEqual([...(await readPins(file)).keys()].toSorted(), urls.toSorted())
  assert.deepEqual(await readdir(folder), ['rebuilders.keys'])
})

test('a rebuilder that is met for the first time is told', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const url = await aSigner(t, generateSigningKey())
  const args = ['ctl', 'check', '--root', root, '--rebuilder', url]

  const first = await runHere(args, { home })
  const second = await runHere(args, { home })

  assert.match(first.stdout, /key [0-9a-f]{16}, first met/)
  assert.doesNotMatch(second.stdout, /first met/)
})

test('rebuilders without keys are one voice together: nobody can tell them apart', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const urls = await Promise.all([1, 2].map(() => aWitness(t, one, Buffer.from('none'), 'no key')))

  const args = urls.flatMap((url) => ['--rebuilder', url])
  const { document } = await runCheck(home, ['--root', root, '--threshold', '2', ...args])

  assert.deepEqual(standingsOf(document), { hello: 'partly' })
  assert.equal(document.packages[0]?.good_by, 1)
})

const other = hashesOf('other bytes')
for (const [what, link] of [
  ['another file of the same name', { products: { 'hello_1.0-1_amd64.deb': other } }],
  ['another step than a rebuild', { name: 'download hello_1.0-1_amd64.deb' }],
  ['the rebuild of another file', { name: 'rebuild other_1.0-1_amd64.deb' }],
  ['a file that only went in', { materials: aLink().products, products: { 'x.deb': other } }],
] as const) {
  test(`what the known key signed for ${what} proves nothing`, async (t) => {
    const home = await temporaryFolder(t)
    const root = await aDebian(t, ['hello'])
    const url = await aSigner(t, generateSigningKey(), aLink(link))

    const { document, code } = await runCheck(home, ['--root', root, '--rebuilder', url])

    assert.deepEqual([standingsOf(document), code], [{ hello: 'claimed' }, 0])
    assert.equal(document.packages[0]?.reason, 'the attestation is about another file than the published one')
  })
}

test('false signatures beside a true one change nothing, and endless ones are not all tried', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const key = generateSigningKey()
  const { signed, signatures } = signLink(aLink(), key)
  const wrong = { keyid: key.keyid, sig: '00'.repeat(64) }
  const stranger = signLink(aLink(), generateSigningKey()).signatures
  const envelopeWith = (count: number): Uint8Array =>
    serialiseEnvelope({
      signed,
      signatures: [...stranger, ...Array.from({ length: count }, () => wrong), ...signatures],
    })
  const pem = publicKeyToPem(key.publicKey)
  const few = await aWitness(t, one, envelopeWith(3), pem)
  const many = await aWitness(t, one, envelopeWith(90), pem)

  const some = await runCheck(home, ['--root', root, '--fresh', '--rebuilder', few])
  const endless = await runCheck(home, ['--root', root, '--fresh', '--rebuilder', many])

  assert.deepEqual([standingsOf(some.document), some.code], [{ hello: 'verified' }, 0])
  assert.deepEqual([standingsOf(endless.document), endless.code], [{ hello: 'claimed' }, 4])
})

test('a signature in a second form, with a number of the group added, is none', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const key = generateSigningKey()
  const { signed, signatures } = signLink(aLink(), key)
  const order = 2n ** 252n + 27742317777372353535851937790883648493n
  const raw = Buffer.from(signatures[0]?.sig ?? '', 'hex')
  const number = BigInt(`0x${Buffer.from(raw.subarray(32)).reverse().toString('hex')}`) + order
  const second = Buffer.from(number.toString(16).padStart(64, '0'), 'hex').reverse()
  const sig = Buffer.concat([raw.subarray(0, 32), second]).toString('hex')
  const envelope = serialiseEnvelope({ signed, signatures: [{ keyid: key.keyid, sig }] })
  const url = await aWitness(t, one, envelope, publicKeyToPem(key.publicKey))

  const { document, code } = await runCheck(home, ['--root', root, '--rebuilder', url])

  assert.deepEqual([standingsOf(document), code], [{ hello: 'claimed' }, 4])
})

test('a forged attestation that comes with a look-up is an alarm, also where no hash is known', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'], {
    'var/lib/apt/lists/mirror.example_debian_dists_sid_main_binary-amd64_Packages': '',
  })
  const { address } = await aRebuilder(t, { hello: 'GOOD' })
  const key = Buffer.from(generateSigningKey().publicKey).toString('hex')
  const config = await aDebian(t, [], {
    'own.conf': `[[rebuilder]]\nurl = "${address}"\npublic_key = "${key}"\n`,
  })

  const { document, code } = await runCheck(home, ['--root', root, '-c', `${config}/own.conf`])

  assert.equal(code, 4)
  assert.match(document.alarms.join('\n'), /has 1 attestation that its known key did not sign/)
})

test('rebuilders are asked through the proxy of the environment', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const proxy = await serveFolder(t, await aFolder(t))
  const asked: (string | undefined)[] = []
  proxy.intercept = (request, response) => {
    asked.push(request.url)
    request.resume()
    response.setHeader('content-type', 'application/json').end('{"records":[null]}')
    return true
  }
  const environment = { HTTP_PROXY: proxy.url, NO_PROXY: '' }

  const args = ['--root', root, '--rebuilder', 'http://far.example/amd64']
  const { document } = await runCheck(home, args, { environment })

  assert.equal(document.rebuilders[0]?.has_answered, true)
  assert.equal(asked[0], 'http://far.example/amd64/api/v1/packages/lookup')
})
